//! How API keys are kept, and what `extauth keys` is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::resources;

/// How API keys are kept.
#[derive(Args, Clone, Debug)]
pub struct Keys {
    /// File with the secret of keyed hashes, 16 bytes at least.
    #[arg(long, env = "EXTAUTH_KEY_PEPPER_FILE")]
    pub key_pepper_file: Option<PathBuf>,
    /// Seconds that a replica that cannot reach Redis goes on with the keys it knows.
    #[arg(long, env = "EXTAUTH_KEYS_MAX_STALE_SECONDS", default_value_t = 60)]
    pub keys_max_stale_seconds: u64,
}

impl Keys {
    /// What the settings say.
    pub fn options(&self) -> resources::Keys {
        let max_stale = Duration::from_secs(self.keys_max_stale_seconds);
        resources::Keys { pepper: self.key_pepper_file.clone(), max_stale }
    }
}

/// What is done with the keys in the store.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// Make a key and print it, once: only its hash is kept.
    Add {
        /// Who gets it.
        #[arg(long)]
        client: String,
        /// Whom the client belongs to.
        #[arg(long)]
        tenant: Option<String>,
        /// Class of service.
        #[arg(long)]
        tier: Option<String>,
        /// What it is good for; may stand several times.
        #[arg(long = "scope")]
        scopes: Vec<String>,
        /// NAME=VALUE; may stand several times.
        #[arg(long = "label", value_parser = label)]
        labels: Vec<(String, String)>,
        /// When it stops being good, such as `2027-01-31T00:00:00Z`.
        #[arg(long)]
        expires: Option<String>,
        /// What the key begins with.
        #[arg(long, default_value = "tg")]
        prefix: String,
    },
    /// Print all keys without what is secret.
    List {
        /// For people or for programs.
        #[arg(long, value_enum, default_value = "text")]
        output: Output,
    },
    /// Take a key away; all replicas refuse it within two seconds.
    Revoke {
        /// The key's id, such as `tg_ab12cd34ef56`.
        id: String,
    },
}

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A line for each.
    Text,
    /// One array.
    Json,
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("say NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

//! Settings of the `extauth` program: arguments, or environment variables with the prefix `EXTAUTH_`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;
use proto::serve::Address;
use proto::telemetry::Format;

use crate::explain::Question;
use crate::method::kubernetes;
use crate::resources::Options;
use crate::session;

mod connections;
mod decisions;
mod http_service;
mod keys;
mod source;
mod store;
mod tls;
mod tokens;

pub use self::connections::Connections;
pub use self::decisions::Decisions;
pub use self::http_service::HttpService;
pub use self::keys::{Action, Keys, Output};
pub use self::source::{ConfigType, Source, Xds};
pub use self::store::Store;
pub use self::tls::Tls;
pub use self::tokens::{Revoke, Tokens};

/// External authorization for Envoy: API keys, JWT and OIDC logins over `ext_authz` v3 (gRPC).
#[derive(Clone, Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Settings {
    /// Something else to do than to serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Where Envoy asks: `HOST:PORT` or `unix:PATH`.
    #[arg(long, env = "EXTAUTH_GRPC_ADDR", default_value = "0.0.0.0:10003")]
    pub grpc_addr: Address,
    /// Where `/healthcheck` and `/metrics` are.
    #[arg(long, env = "EXTAUTH_HTTP_ADDR", default_value = "0.0.0.0:10004")]
    pub http_addr: Address,
    /// Where `POST /explain` says why a request would pass or not; nowhere by default, as it tells about the policies.
    #[arg(long, env = "EXTAUTH_DEBUG_ADDR")]
    pub debug_addr: Option<Address>,
    /// Cores to serve on, each with a thread of its own; all by default.
    #[arg(long, env = "EXTAUTH_CORES")]
    pub cores: Option<NonZeroUsize>,
    /// Bytes for tokens that were verified before.
    #[arg(long, env = "EXTAUTH_TOKEN_CACHE_BYTES", default_value_t = 64 << 20)]
    pub token_cache_bytes: u64,
    /// PEM file with certificate authorities of issuers, besides those of the system.
    #[arg(long, env = "EXTAUTH_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// Address of the Kubernetes API server; by default that of the cluster in which this process runs.
    #[arg(long, env = "EXTAUTH_KUBERNETES_API")]
    pub kubernetes_api: Option<String>,
    /// File with our own token for the Kubernetes API server; by default where the kubelet mounts it.
    #[arg(long, env = "EXTAUTH_KUBERNETES_TOKEN_FILE")]
    pub kubernetes_token_file: Option<PathBuf>,
    /// PEM file with the authority of the API server's certificate; by default where the kubelet mounts it.
    #[arg(long, env = "EXTAUTH_KUBERNETES_CA_FILE")]
    pub kubernetes_ca_file: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Source of the policies")]
    #[expect(missing_docs, reason = "a comment would become a text of --help")]
    pub source: Source,
    #[command(flatten, next_help_heading = "Store")]
    #[expect(missing_docs, reason = "a comment would become a text of --help")]
    pub store: Store,
    #[command(flatten, next_help_heading = "HTTP service")]
    #[expect(missing_docs, reason = "a comment would become a text of --help")]
    pub http_service: HttpService,
    #[command(flatten, next_help_heading = "API keys")]
    #[expect(missing_docs, reason = "a comment would become a text of --help")]
    pub keys: Keys,
    #[command(flatten, next_help_heading = "TLS")]
    #[expect(missing_docs, reason = "a comment would become a text of --help")]
    pub tls: Tls,
    #[command(flatten, next_help_heading = "Connections")]
    #[expect(missing_docs, reason = "a comment would become a text of --help")]
    pub connections: Connections,
    #[command(flatten, next_help_heading = "Decisions")]
    #[expect(missing_docs, reason = "a comment would become a text of --help")]
    pub decisions: Decisions,
    /// trace, debug, info, warn or error; decisions are `info`.
    #[arg(long, env = "EXTAUTH_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// `text` or `json`.
    #[arg(long, env = "EXTAUTH_LOG_FORMAT", default_value = "text")]
    pub log_format: Format,
}

impl Settings {
    fn kubernetes(&self) -> kubernetes::Options {
        let mounted = kubernetes::Options::default();
        kubernetes::Options {
            api: self.kubernetes_api.clone(),
            token_file: self.kubernetes_token_file.clone().unwrap_or(mounted.token_file),
            ca_file: self.kubernetes_ca_file.clone().unwrap_or(mounted.ca_file),
        }
    }

    /// What methods share.
    pub fn resources(&self) -> Options {
        Options {
            token_cache_bytes: self.token_cache_bytes,
            authorities: self.ca_file.clone(),
            store: self.store.storage(),
            decisions: self.decisions.options(),
            keys: self.keys.options(),
            kubernetes: self.kubernetes(),
        }
    }
}

/// Something else to do than to serve.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Read an API key from standard input and print its hash as policies hold it.
    HashKey {
        /// File with the secret of keyed hashes.
        #[arg(long, env = "EXTAUTH_KEY_PEPPER_FILE")]
        key_pepper_file: Option<PathBuf>,
    },
    /// Add, list and revoke API keys in the store, for all replicas.
    Keys {
        #[command(flatten)]
        #[expect(missing_docs, reason = "a comment would become a text of --help")]
        store: Box<Store>,
        /// File with the secret of keyed hashes.
        #[arg(long, env = "EXTAUTH_KEY_PEPPER_FILE")]
        key_pepper_file: Option<PathBuf>,
        /// Name of the set of keys, as policies call it (`keySet`).
        #[arg(long, default_value = "default")]
        set: String,
        /// What to do.
        #[command(subcommand)]
        action: Action,
    },
    /// Revoke tokens on all replicas.
    Tokens {
        #[command(flatten)]
        #[expect(missing_docs, reason = "a comment would become a text of --help")]
        store: Box<Store>,
        /// What to do.
        #[command(subcommand)]
        action: Tokens,
    },
    /// Read the policies, say what is wrong with them, and end.
    Validate,
    /// Say what would become of a request under the policies of the directory, and why.
    Explain {
        /// Directory with the policies' YAML files.
        #[arg(long, env = "EXTAUTH_CONFIG_DIR", default_value = "/etc/extauth")]
        config_dir: PathBuf,
        #[command(flatten)]
        #[expect(missing_docs, reason = "a comment would become a text of --help")]
        question: Question,
    },
    /// See or end the sessions of a user.
    #[command(subcommand)]
    Sessions(session::command::Command),
}

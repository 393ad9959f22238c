//! Where hits are counted.

use std::{fs, time::Duration};

use clap::{ArgAction, Args};
use secrecy::{ExposeSecret, SecretString};

use super::{Error, go};
use crate::{
    key,
    store::{OnStoreLoss, stack},
};

/// Where hits are counted.
#[derive(Args, Clone, Debug)]
pub struct Store {
    /// Where hits are counted: memory of this process, or redis for all replicas [default: redis if REDIS_URL, REDIS_SOCKET_TYPE or REDIS_PERSECOND_URL is given, else memory]
    #[arg(long, env, value_parser = backend_type)]
    pub backend_type: Option<BackendType>,
    /// Counters that memory holds at most, about 80 bytes each
    #[arg(long, env, default_value = "1000000", value_parser = go::count)]
    pub memory_max_counters: usize,
    /// Who decides about rules without on_store_loss while Redis does not answer: error, share, lease_only, allow or deny
    #[arg(long, env, default_value = "share", value_parser = on_store_loss)]
    pub on_store_loss: OnStoreLoss,
    /// How long a request waits for Redis before on_store_loss decides
    #[arg(long, env, default_value = "10ms", value_parser = go::duration)]
    pub store_deadline: Duration,
    /// How many replicas share the limits while Redis is away [default: as many as Redis has heard of lately, 1 if that is not known]
    #[arg(long, env, value_parser = replicas)]
    pub replicas: Option<usize>,
    /// Decide fixed windows with hits that were debited in Redis before; not in a cluster
    #[arg(long, env, default_value = "false", value_parser = go::boolean, action = ArgAction::Set)]
    pub leases: bool,
    /// Counters that LEASES remembers at most, about 200 bytes each; what it does not remember may be admitted again after Redis has lost it
    #[arg(long, env, default_value = "100000", value_parser = go::count)]
    pub lease_max_counters: usize,
    /// What this replica is called in explanations of leases [default: HOSTNAME, else a random number]
    #[arg(long, env)]
    pub replica_name: Option<String>,
    /// Stands before every key in Redis
    #[arg(long, env, default_value = "")]
    pub cache_key_prefix: String,
    /// Makes the names of counters in Redis unknown to clients, who then cannot aim at one node of a cluster; the same for all replicas, and a new one begins all counters anew
    #[arg(long, env, default_value = "", hide_env_values = true, value_parser = secret)]
    pub cache_key_secret: SecretString,
    /// File with it, instead of CACHE_KEY_SECRET; read at the start
    #[arg(long, env, default_value = "")]
    pub cache_key_secret_file: String,
    /// Bytes of memory for counters that are known to be over their limit, which then need no Redis; 0 for none, and not used with LEASES
    #[arg(long, env, default_value = "0", value_parser = go::count)]
    pub local_cache_size_in_bytes: usize,
}

impl Store {
    /// What stands before Redis.
    pub(crate) fn stack(&self) -> stack::Options {
        stack::Options {
            deadline: self.store_deadline,
            max_counters: self.memory_max_counters,
            replicas: self.replicas.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
            near_bytes: self.local_cache_size_in_bytes,
            leases: self.leases.then_some(self.lease_max_counters),
            replica_name: self.replica_name.clone().or_else(|| std::env::var("HOSTNAME").ok()),
        }
    }

    /// Takes the secret from its file, if there is one.
    pub(super) fn read_secret(&mut self) -> Result<(), Error> {
        const FILE: &str = "CACHE_KEY_SECRET_FILE";
        if self.cache_key_secret_file.is_empty() {
            return Ok(());
        }
        if !self.cache_key_secret.expose_secret().is_empty() {
            return Err(Error::refused(FILE, "CACHE_KEY_SECRET is given, too; unset one of them"));
        }
        let path = &self.cache_key_secret_file;
        let text = fs::read_to_string(path)
            .map(SecretString::from)
            .map_err(|error| Error::refused(FILE, format!("{path} cannot be read: {error}")))?;
        let secret = text.expose_secret().trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(Error::refused(FILE, format!("{path} is empty")));
        }
        self.cache_key_secret = secret.into();
        Ok(())
    }

    /// What keys of counters are made with.
    pub(super) fn secret(&self) -> key::Secret {
        key::Secret::new(self.cache_key_secret.expose_secret().as_bytes())
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what clap wants of a parser")]
fn secret(text: &str) -> Result<SecretString, String> {
    Ok(text.into())
}

/// The kinds of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendType {
    /// In this process; every replica counts for itself.
    Memory,
    /// In one Redis for all replicas.
    Redis,
}

fn backend_type(text: &str) -> Result<BackendType, String> {
    match text.to_ascii_lowercase().as_str() {
        "memory" => Ok(BackendType::Memory),
        "redis" => Ok(BackendType::Redis),
        "memcache" => Err("counters in memcached can exceed their limits; say redis and set REDIS_URL".into()),
        _ => Err("say redis or memory".into()),
    }
}

fn on_store_loss(text: &str) -> Result<OnStoreLoss, String> {
    text.parse().map_err(|_| "say error, share, lease_only, allow or deny".into())
}

fn replicas(text: &str) -> Result<usize, String> {
    let replicas = go::count(text)?;
    if replicas == 0 { Err("say at least 1, for this one".into()) } else { Ok(replicas) }
}

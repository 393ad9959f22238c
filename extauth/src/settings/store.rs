//! Where sessions and keys are kept.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use secrecy::SecretString;

use crate::resources::Storage;
use crate::store::Bounds;
use crate::store::redis::{Access, Kind, Options, Secret, Tls, Url};

/// Redis when it is said where it is, else this process' memory.
#[derive(Args, Clone, Debug)]
pub struct Store {
    /// `redis://`, `rediss://` or `unix://` URL or HOST:PORT; for Sentinel NAME,HOST:PORT,…; for a cluster HOST:PORT,….
    #[arg(long, env = "EXTAUTH_REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<SecretString>,
    /// How Redis is laid out.
    #[arg(long, env = "EXTAUTH_REDIS_TYPE", value_enum, default_value = "single", ignore_case = true)]
    pub redis_type: Kind,
    /// PASSWORD or USER:PASSWORD.
    #[arg(long, env = "EXTAUTH_REDIS_AUTH", hide_env_values = true)]
    pub redis_auth: Option<SecretString>,
    /// File with PASSWORD or USER:PASSWORD; read again when a connection could not be made.
    #[arg(long, env = "EXTAUTH_REDIS_AUTH_FILE", conflicts_with = "redis_auth")]
    pub redis_auth_file: Option<PathBuf>,
    /// File with PASSWORD or USER:PASSWORD of the Sentinels.
    #[arg(long, env = "EXTAUTH_REDIS_SENTINEL_AUTH_FILE")]
    pub redis_sentinel_auth_file: Option<PathBuf>,
    /// Speak TLS to Redis; a `rediss://` URL says so, too.
    #[arg(long, env = "EXTAUTH_REDIS_TLS", action = ArgAction::Set, num_args = 0..=1, default_value_t = false, default_missing_value = "true")]
    pub redis_tls: bool,
    /// PEM file with the certificate authorities of Redis; those of the system by default.
    #[arg(long, env = "EXTAUTH_REDIS_TLS_CA_FILE")]
    pub redis_tls_ca_file: Option<PathBuf>,
    /// PEM file with this client's certificate.
    #[arg(long, env = "EXTAUTH_REDIS_TLS_CERT_FILE", requires = "redis_tls_key_file")]
    pub redis_tls_cert_file: Option<PathBuf>,
    /// PEM file with its private key.
    #[arg(long, env = "EXTAUTH_REDIS_TLS_KEY_FILE", requires = "redis_tls_cert_file")]
    pub redis_tls_key_file: Option<PathBuf>,
    /// Milliseconds that a call may take, with connecting; then it is an error.
    #[arg(long, env = "EXTAUTH_REDIS_TIMEOUT_MS", default_value_t = 500)]
    pub redis_timeout_ms: u64,
    /// Connections at most.
    #[arg(long, env = "EXTAUTH_REDIS_POOL_SIZE", default_value_t = 16)]
    pub redis_pool_size: usize,
    /// Stands before every key in Redis.
    #[arg(long, env = "EXTAUTH_REDIS_PREFIX", default_value = "extauth:")]
    pub redis_prefix: String,
    /// Without Redis: bytes of memory for what would be there.
    #[arg(long, env = "EXTAUTH_STORE_BYTES", default_value_t = Bounds::default().bytes)]
    pub store_bytes: usize,
    /// Without Redis: entries at most.
    #[arg(long, env = "EXTAUTH_STORE_ENTRIES", default_value_t = Bounds::default().entries)]
    pub store_entries: usize,
}

impl Store {
    /// What the settings say.
    pub fn storage(&self) -> Storage {
        let Some(url) = &self.redis_url else {
            return Storage::Memory(Bounds { bytes: self.store_bytes, entries: self.store_entries });
        };
        let tls = Tls {
            ca: self.redis_tls_ca_file.clone(),
            client: self.redis_tls_cert_file.clone().zip(self.redis_tls_key_file.clone()),
        };
        let auth_file = self.redis_auth_file.clone().map(Secret::File);
        Storage::Redis(Options {
            url: Url::new(url.clone()),
            kind: self.redis_type,
            access: Access {
                auth: auth_file.or_else(|| self.redis_auth.clone().map(Secret::Text)),
                sentinel_auth: self.redis_sentinel_auth_file.clone().map(Secret::File),
                tls: (self.redis_tls || tls != Tls::default()).then_some(tls),
            },
            prefix: self.redis_prefix.clone(),
            timeout: Duration::from_millis(self.redis_timeout_ms),
            connections: self.redis_pool_size,
        })
    }
}

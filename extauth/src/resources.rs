//! What methods share beyond their configuration: caches that outlive a change of it, and ways to the outside.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::attempts::Attempts;
use crate::authority::Authorities;
use crate::background::Background;
use crate::decision;
use crate::fetch::{self, Fetch};
use crate::jwks::Remotes;
use crate::method::{api_key, basic, jwt, kubernetes, oidc};
use crate::revocation::Revocations;
use crate::session::Sessions;
use crate::store::{self, Memory, Redis, Store};

/// How much is shared, and with whom.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Bytes for tokens that were verified before; none are remembered by default.
    pub token_cache_bytes: u64,
    /// PEM file with further certificate authorities of issuers.
    pub authorities: Option<PathBuf>,
    /// Where sessions and keys are; in memory by default.
    pub store: Storage,
    /// Which decisions are logged.
    pub decisions: decision::Options,
    /// How API keys are kept.
    pub keys: Keys,
    /// The cluster whose service accounts policies may name.
    pub kubernetes: kubernetes::Options,
}

/// How API keys are kept.
#[derive(Clone, Debug)]
pub struct Keys {
    /// File with the secrets of keyed hashes, which is followed while it changes.
    pub pepper: Option<PathBuf>,
    /// How long a replica that cannot reach the store goes on with the keys it knows.
    pub max_stale: Duration,
}

impl Default for Keys {
    fn default() -> Self {
        Self { pepper: None, max_stale: Duration::from_mins(1) }
    }
}

/// Which store there is.
#[derive(Clone, Debug)]
pub enum Storage {
    /// In this process, of this size.
    Memory(store::Bounds),
    /// In Redis.
    Redis(store::redis::Options),
}

impl Default for Storage {
    fn default() -> Self {
        Self::Memory(store::Bounds::default())
    }
}

/// Shared by all policies of a process; clones share it too.
#[derive(Clone, Debug)]
pub struct Resources {
    /// Tokens that were verified before.
    pub tokens: jwt::Cache,
    /// Where tasks run that belong to no question.
    pub background: Background,
    /// Requests to issuers.
    pub fetch: Fetch,
    /// What replicas share.
    pub store: Store,
    /// Key sets that issuers publish.
    pub key_sets: Remotes,
    /// Which decisions are logged.
    pub decisions: decision::Options,
    /// API keys in the store.
    pub rings: api_key::Rings,
    /// Attempts with wrong credentials.
    pub attempts: Attempts,
    /// Providers that browsers log in at.
    pub issuers: oidc::Issuers,
    /// Sessions of browsers.
    pub sessions: Sessions,
    /// What is known about sessions that browsers keep themselves.
    pub sealed_sessions: oidc::Shared,
    /// Logins that were started lately.
    pub started_logins: oidc::Started,
    /// Tokens that were revoked.
    pub revocations: Revocations,
    /// What others said of tokens.
    pub authorities: Authorities,
    /// Where the API server of the cluster is.
    pub kubernetes: kubernetes::Options,
    /// Passwords that were right before, and the threads to check others on.
    pub passwords: basic::Passwords,
}

/// Why the resources are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No thread for the background.
    #[error("starting the background thread")]
    Background(#[from] io::Error),
    /// See [`fetch::SetupError`].
    #[error(transparent)]
    Fetch(#[from] fetch::SetupError),
    /// The settings of the store cannot be used.
    #[error("setting up the store: {0}")]
    Store(#[from] store::Error),
    /// See [`api_key::PepperError`].
    #[error(transparent)]
    Pepper(#[from] api_key::PepperError),
    /// See [`basic::NoRandom`].
    #[error(transparent)]
    Random(#[from] basic::NoRandom),
}

impl Resources {
    /// Sets up everything; nothing is fetched yet.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let background = Background::start()?;
        let fetch = Fetch::new(background.clone(), options.authorities.as_deref())?;
        let store = match &options.store {
            Storage::Memory(bounds) => Store::Memory(Memory::new(*bounds)),
            Storage::Redis(options) => Store::Redis(Redis::new(options.clone(), background.clone())?),
        };
        let pepper = options.keys.pepper.as_deref().map(api_key::Pepper::read).transpose()?;
        if let Some((pepper, path)) = pepper.clone().zip(options.keys.pepper.clone()) {
            background.spawn(pepper.follow(path));
        }
        let revocations = Revocations::follow(&store, &background);
        Ok(Self {
            rings: api_key::Rings::new(store.clone(), background.clone(), pepper, options.keys.max_stale),
            attempts: Attempts::default(),
            passwords: basic::Passwords::new(background.clone())?,
            tokens: jwt::Cache::new(options.token_cache_bytes),
            issuers: oidc::Issuers::default(),
            sessions: Sessions::new(store.clone(), background.clone()),
            started_logins: oidc::Started::default(),
            sealed_sessions: oidc::Shared::new(background.clone()),
            store,
            key_sets: Remotes::new(fetch.clone(), background.clone()),
            authorities: Authorities::new(background.clone(), revocations.clone()),
            revocations,
            kubernetes: options.kubernetes.clone(),
            fetch,
            decisions: options.decisions.clone(),
            background,
        })
    }
}

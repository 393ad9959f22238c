//! `ratelimit` and `extauth` inside this process, told by the translation instead of by files.

use std::{path::Path, sync::Arc, time::Duration};

use controller_core::Translation;
use extauth::{
    resources::{self, Options, Resources},
    service::Authorizer,
};
use proto::{
    drain::Signal,
    serve::{self, Grpc, Listener},
};
use ratelimit::{
    config::{Config, Domains},
    limiter,
    overrides::{self, Overlay},
    service::{CurrentConfig, Service},
    store::{self, Memory, Redis, Stack, StoreError, redis, stack},
};
use tonic::service::Routes;

/// Most counters in memory.
const MAX_COUNTERS: usize = 1_000_000;
/// Deadline of Redis for one request. Envoy waits longer, see [`RPC_TIMEOUT`].
const REDIS_TIMEOUT: Duration = Duration::from_millis(500);
/// As the program `ratelimit` has it by default, but for the deadline.
const STACK: stack::Options = stack::Options {
    deadline: REDIS_TIMEOUT,
    max_counters: MAX_COUNTERS,
    replicas: None,
    near_bytes: 0,
    leases: None,
    replica_name: None,
};
/// How long Envoy waits for `ratelimit`: generous, since one machine does everything.
pub(super) const RPC_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes for tokens that `extauth` verified before.
const TOKEN_CACHE: u64 = 16 << 20;

/// Why a service could not start or go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The URL of Redis is none.
    #[error("connecting the counters to Redis")]
    Store(#[from] StoreError),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] serve::Error),
}

/// What both services are told to do.
#[derive(Clone, Debug)]
pub(super) struct Services {
    limits: CurrentConfig,
    overlay: Overlay,
    authorizer: Authorizer,
}

impl Services {
    /// Without any limit or policy.
    pub(super) fn new() -> Result<Self, resources::Error> {
        let limits = CurrentConfig::default();
        let authorizer =
            Authorizer::new(Resources::new(&Options { token_cache_bytes: TOKEN_CACHE, ..Options::default() })?);
        Ok(Self { overlay: Overlay::from(Arc::clone(&limits)), limits, authorizer })
    }

    /// Puts the translation's limits and policies in force. Limits that make no sense leave those before.
    pub(super) fn apply(&self, translation: &Translation) {
        match Config::from_xds(translation.rate_limits.iter(), Domains::Distinct) {
            Ok(config) => self.overlay.publish(config),
            Err(error) => tracing::error!("the rate limits stay as they were: {error}"),
        }
        for error in self.authorizer.replace_each(&translation.auth_policies) {
            tracing::error!("requests are denied: {error}");
        }
    }

    /// The overrides of rate limits in a folder, to be followed.
    pub(super) fn overrides(&self, dir: &Path) -> overrides::Dir {
        let mut dir = overrides::Dir::new(dir, self.overlay.clone());
        dir.load();
        dir
    }

    /// Serves rate limits on `socket`, counted in memory or in Redis, until `signal`.
    pub(super) async fn rate_limit(
        self,
        socket: Listener,
        redis: Option<redis::Url>,
        signal: Signal,
    ) -> Result<(), Error> {
        let store = match redis {
            None => store::Any::Memory(Arc::new(Memory::new(MAX_COUNTERS))),
            Some(url) => {
                let access = redis::Access::default();
                let options =
                    redis::Options { url, timeout: REDIS_TIMEOUT, key_prefix: String::new(), access, per_second: None };
                let redis = Redis::connect(options.clone())?;
                let stack = Stack::new(options, &STACK);
                tokio::spawn(stack.member(redis).keep());
                stack.open()?
            }
        };
        let service = Service::new(self.limits, store, limiter::Options::default());
        Ok(Grpc::new(socket).serve(Routes::new(service.into_server()), signal).await?)
    }

    /// Serves authorization on `socket` until `signal`.
    pub(super) async fn extauth(self, socket: Listener, signal: Signal) -> Result<(), Error> {
        Ok(Grpc::new(socket).serve(Routes::new(self.authorizer.service()), signal).await?)
    }
}

//! `envoy.service.ratelimit.v3.RateLimitService`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwapOption;
use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitRequest, RateLimitResponse,
    rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
};
use proto::serve::Peer;
use tonic::{Request, Response, Status};

use crate::{
    clients::Clients,
    config::Config,
    explain::{Counters, Explanation},
    limiter::{self, Options, RequestError},
    metrics,
    shadow::Trial,
    store::{CounterStore, StoreError},
    talkers::Sketch,
    trace::Tracer,
};

/// Larger requests, in bytes, are refused unread.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// The configuration in force, swapped as a whole; empty until the first one is there.
pub type CurrentConfig = Arc<ArcSwapOption<Config>>;

/// Answers rate limit requests from a configuration and a store.
#[derive(Clone, Debug)]
pub struct Service<S> {
    config: CurrentConfig,
    store: S,
    options: Arc<Options>,
    clients: Arc<Clients>,
    metrics: metrics::Service,
    /// The last charge failed; so that an outage is one line in the log and not one for each request.
    store_fails: Arc<AtomicBool>,
    tracer: Option<Tracer>,
    talkers: Option<Sketch>,
    trial: Option<Trial>,
}

/// Why a request was not decided. Envoy then does what its `failure_mode_deny` says.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No configuration was there yet.
    #[error("no rate limit configuration loaded")]
    NoConfig,
    /// The request itself is wrong.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The hits could not be counted.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Upstream answers every error with UNKNOWN, and so do we.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::unknown(error.to_string())
    }
}

impl<S: CounterStore> Service<S> {
    /// Reads `config` anew for every request, so storing another one in it takes effect at once.
    pub fn new(config: CurrentConfig, store: S, options: Options) -> Self {
        let metrics = metrics::Service::new();
        Self {
            config,
            store,
            options: Arc::new(options),
            clients: Arc::default(),
            metrics,
            store_fails: Arc::default(),
            tracer: None,
            talkers: None,
            trial: None,
        }
    }

    /// Lets clients ask for their domains only; all may ask for all unless told otherwise.
    #[must_use]
    pub fn clients(mut self, clients: Arc<Clients>) -> Self {
        self.clients = clients;
        self
    }

    /// Whether who cannot show a certificate may ask.
    pub(crate) fn is_open(&self) -> bool {
        self.clients.is_open()
    }

    /// Makes a span of each gRPC request.
    #[must_use]
    pub fn traced(self, tracer: Option<Tracer>) -> Self {
        Self { tracer, ..self }
    }

    /// Counts who uses each rule most.
    #[must_use]
    pub fn watching(self, talkers: Option<Sketch>) -> Self {
        Self { talkers, ..self }
    }

    /// Hands decided requests over to be tried on another configuration.
    #[must_use]
    pub fn tried(self, trial: Option<Trial>) -> Self {
        Self { trial, ..self }
    }

    /// The gRPC service to mount.
    pub fn into_server(self) -> RateLimitServiceServer<Self> {
        RateLimitServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES)
    }

    /// Decides one request and counts it.
    pub async fn decide(&self, request: &RateLimitRequest) -> Result<RateLimitResponse, Error> {
        let begin = Instant::now();
        self.metrics.total_requests.increment(1);
        let answer = self.answer(request, begin).await;
        match &answer {
            Ok(_) => {}
            Err(Error::Store(_)) => self.metrics.redis_error.increment(1),
            Err(Error::NoConfig | Error::Request(_)) => self.metrics.request_error.increment(1),
        }
        self.metrics.response_time.record(begin.elapsed());
        if let (Some(trial), Ok(response)) = (&self.trial, &answer) {
            trial.take(request, response);
        }
        answer
    }

    /// Explains what a request would be answered now. Charges nothing, and leaves the metrics alone.
    pub async fn explain(&self, request: &RateLimitRequest) -> Result<Explanation, Error> {
        let config = self.config.load_full().ok_or(Error::NoConfig)?;
        let plan = limiter::plan(&config, request, &self.options)?;
        let counters = match plan.charges() {
            [] => Counters::Known(vec![]),
            charges => match self.store.peek(charges).await {
                Ok(standings) => Counters::Known(standings),
                Err(error) => Counters::Silent(error.to_string()),
            },
        };
        Ok(Explanation::new(&config, &plan, &self.options, &counters))
    }

    /// All rules in force as text; empty while there is no configuration.
    pub fn dump(&self) -> String {
        self.config.load().as_ref().map(|config| config.dump()).unwrap_or_default()
    }

    async fn answer(&self, request: &RateLimitRequest, begin: Instant) -> Result<RateLimitResponse, Error> {
        let config = self.config.load();
        let plan = limiter::plan(config.as_deref().ok_or(Error::NoConfig)?, request, &self.options)?;
        let outcomes = match plan.charges() {
            [] => vec![],
            charges => self.watched(self.store.charge(charges).await)?,
        };
        if !plan.knows_domain() {
            self.metrics.domain_not_found.increment(1);
        }
        plan.count(&outcomes, &self.options);
        if let Some(talkers) = &self.talkers {
            talkers.count(&plan, &outcomes, begin);
        }
        let decision = plan.decide(&outcomes, &self.options);
        if decision.shadowed {
            self.metrics.global_shadow_mode.increment(1);
        }
        Ok(decision.response)
    }

    /// Logs the first failure of the store and the first success after it. A store that is lost, or that learns, is logged where
    /// that is known.
    fn watched<T>(&self, charged: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(charged, Err(StoreError::Lost | StoreError::Learning)) {
            return charged;
        }
        if charged.is_err() != self.store_fails.load(Ordering::Relaxed) {
            self.store_fails.store(charged.is_err(), Ordering::Relaxed);
            match &charged {
                Ok(_) => tracing::info!("the counter store answers again"),
                Err(error) => tracing::error!(%error, "the counter store fails; requests get errors until it answers"),
            }
        }
        charged
    }
}

#[tonic::async_trait]
impl<S: CounterStore> RateLimitService for Service<S> {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let names = request.extensions().get::<Peer>().map(Peer::names).unwrap_or_default();
        if !self.clients.may_ask(names, &request.get_ref().domain) {
            return Err(Status::permission_denied("this client may not ask for this domain"));
        }
        let span = self.tracer.as_ref().map(|tracer| tracer.request(request.metadata()));
        let request = request.into_inner();
        let answer = self.decide(&request).await;
        if let Some(span) = span {
            span.end(&request, &answer);
        }
        Ok(Response::new(answer?))
    }
}

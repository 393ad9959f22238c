//! What is served where.

use axum::Router;
use envoy_types::pb::envoy::service::{
    rate_limit_quota::v3::rate_limit_quota_service_server as quota,
    ratelimit::v3::rate_limit_service_server::SERVICE_NAME,
};
use proto::{
    drain::Signal,
    health,
    readiness::Readiness,
    reflection,
    serve::{self, Address, Listener},
};
use tokio::{runtime::Runtime, task::JoinHandle};
use tonic::service::{Routes, RoutesBuilder};

use super::Error;
use crate::{
    rlqs,
    service::Service,
    settings::{Grpc, Settings},
    store,
};

/// Name of the service in `grpc.health.v1.Health`.
const HEALTH_NAME: &str = "ratelimit";

/// The HTTP listeners.
pub(super) struct Http {
    public: Listener,
    debug: Listener,
    prometheus: Option<Listener>,
}

/// What they answer.
pub(super) struct Routers {
    pub(super) public: Router,
    pub(super) debug: Router,
    pub(super) prometheus: Option<Router>,
}

/// The HTTP servers, while they run.
pub(super) struct Running(Vec<JoinHandle<Result<(), serve::Error>>>);

impl Http {
    pub(super) fn bind(settings: &Settings) -> Result<Self, Error> {
        Ok(Self {
            public: Listener::bind(&Address::Tcp(settings.http.address()))?,
            debug: Listener::bind(&Address::Tcp(settings.http.debug_address()))?,
            prometheus: settings
                .stats
                .prometheus()
                .map(|address| Listener::bind(&Address::Tcp(address)))
                .transpose()?,
        })
    }

    /// Each port has the gRPC port's caps on connections for itself, so that one that is flooded fills no other.
    pub(super) fn serve(self, routers: Routers, settings: &Grpc, draining: &Signal, background: &Runtime) -> Running {
        let endpoints = [(self.public, routers.public), (self.debug, routers.debug)];
        let endpoints = endpoints.into_iter().chain(self.prometheus.zip(routers.prometheus));
        let serve = |(listener, router)| {
            background.spawn(serve::http_within(settings.admission(), listener, router, draining.clone()))
        };
        Running(endpoints.map(serve).collect())
    }
}

impl Running {
    /// Waits until all of them have ended.
    pub(super) fn join(self, background: &Runtime) {
        for endpoint in self.0 {
            if let Ok(Err(error)) = background.block_on(endpoint) {
                tracing::error!(%error, "an HTTP endpoint ended");
            }
        }
    }
}

/// The services of the gRPC port.
pub(super) async fn grpc(
    service: Service<store::Any>,
    quotas: Option<rlqs::Service>,
    readiness: &Readiness,
    leaving: &Signal,
) -> Result<Routes, Error> {
    let mut routes = RoutesBuilder::default();
    routes.add_service(service.into_server());
    routes.add_service(health::service(&[HEALTH_NAME], readiness, leaving).await);
    let mut names = vec![SERVICE_NAME];
    if let Some(quotas) = quotas {
        routes.add_service(quotas.into_server());
        names.push(quota::SERVICE_NAME);
    }
    reflection::add(&mut routes, &names)?;
    Ok(routes.routes())
}

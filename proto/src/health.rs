//! `grpc.health.v1.Health`: serving while ready, not serving before that and from the first moment of the drain.

use futures::stream::{self, BoxStream, StreamExt};
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_check_response::ServingStatus as Wire;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};

use crate::drain::Signal;
use crate::readiness::Readiness;
use crate::serve::Peer;

/// The health service for the server as a whole (the empty name) and for each of `names`, such as `ratelimit`.
///
/// Spawns a task on the current runtime that follows `readiness` and `signal`. Watches end when their connection is to close.
pub async fn service(names: &[&str], readiness: &Readiness, signal: &Signal) -> HealthServer<impl Health + use<>> {
    let reporter = HealthReporter::new();
    let names: Vec<String> = std::iter::once("").chain(names.iter().copied()).map(str::to_owned).collect();
    let mut changes = readiness.subscribe();
    report(&reporter, &names, changes.borrow_and_update().is_empty() && !signal.is_draining()).await;
    let server = Watchable { statuses: HealthService::from_health_reporter(reporter.clone()), signal: signal.clone() };
    let signal = signal.clone();
    tokio::spawn(async move {
        let mut draining = std::pin::pin!(signal.wait());
        loop {
            tokio::select! {
                () = &mut draining => break,
                outcome = changes.changed() => if outcome.is_err() { break },
            }
            let ready = changes.borrow_and_update().is_empty();
            report(&reporter, &names, ready).await;
        }
        report(&reporter, &names, false).await;
    });
    HealthServer::new(server)
}

async fn report(reporter: &HealthReporter, names: &[String], serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in names {
        reporter.set_service_status(name, status).await;
    }
}

/// Statuses whose watches do not hold up a connection that is to close.
#[derive(Debug)]
struct Watchable {
    statuses: HealthService,
    signal: Signal,
}

#[tonic::async_trait]
impl Health for Watchable {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        self.statuses.check(request).await
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let statuses = self.statuses.watch(request).await?.into_inner();
        let Some(peer) = peer else { return Ok(Response::new(statuses.boxed())) };
        let signal = self.signal.clone();
        // What the drain makes of the status may come after the end, so that it is said here; never the same twice.
        let last =
            stream::once(async move { signal.is_draining().then(|| Ok(not_serving())) }).filter_map(std::future::ready);
        let mut before = None;
        let distinct = statuses.take_until(peer.leaving().clone().wait()).chain(last).filter(move |status| {
            let status = status.as_ref().ok().map(|status: &HealthCheckResponse| status.status);
            std::future::ready(std::mem::replace(&mut before, status) != status)
        });
        let end = stream::once(std::future::ready(Err(Status::unavailable("the connection is closing; watch again"))));
        Ok(Response::new(distinct.chain(end).boxed()))
    }
}

fn not_serving() -> HealthCheckResponse {
    HealthCheckResponse { status: Wire::NotServing.into() }
}

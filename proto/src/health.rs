//! `grpc.health.v1.Health`: serving while ready, not serving before that and from the first moment of the drain.

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::{HealthReporter, health_reporter};

use crate::drain::Signal;
use crate::readiness::Readiness;

/// The health service for the server as a whole (the empty name) and for each of `names`, such as `ratelimit`.
///
/// Spawns a task on the current runtime that follows `readiness` and `signal`.
pub async fn service(names: &[&str], readiness: &Readiness, signal: &Signal) -> HealthServer<impl Health + use<>> {
    let (reporter, server) = health_reporter();
    let names: Vec<String> = std::iter::once("").chain(names.iter().copied()).map(str::to_owned).collect();
    let mut changes = readiness.subscribe();
    report(&reporter, &names, changes.borrow_and_update().is_empty() && !signal.is_draining()).await;
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
    server
}

async fn report(reporter: &HealthReporter, names: &[String], serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in names {
        reporter.set_service_status(name, status).await;
    }
}

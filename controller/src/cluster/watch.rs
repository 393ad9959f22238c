//! Lists and watches the objects of one kind.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use controller_core::infra;
use futures::StreamExt;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt,
        utils::{Backoff, ResetTimerBackoff},
        watcher::{self, Event, watcher},
    },
};
use rand::Rng;
use tokio::sync::mpsc;

use super::{
    object::Object,
    part::Part,
    reason::{Failure, reason},
};

/// What is new about one part of what is followed.
#[derive(Debug)]
pub(super) enum Change {
    /// These are all of them, after the first look or when the thread was lost.
    Listed(Part, Vec<Object>),
    /// There is a new one, or a new version of one.
    Applied(Object),
    /// Somebody has deleted it.
    Deleted(Object),
    /// The API server does not serve the kind any more.
    Unserved(Part),
}

/// The first pause after a failure.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// So long without a failure makes the next pause a short one again.
const CALM: Duration = Duration::from_secs(20);

/// Sends every change until the kind is not served any more or nobody listens. `newest` is the highest version of any object.
pub(super) async fn follow(
    client: Client,
    part: Part,
    resource: ApiResource,
    changes: mpsc::Sender<Change>,
    newest: Arc<AtomicU64>,
) {
    let kind = part.kind;
    let api: Api<DynamicObject> = match &part.namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let backoff = ResetTimerBackoff::new(Pauses::default(), CALM);
    let mut events = pin!(watcher(api, config(kind.name)).backoff(backoff));
    let mut listed = Vec::new();
    let mut failure = Failure::default();
    while let Some(event) = events.next().await {
        let object = |object| {
            let object = Object::new(kind, &resource, object)?;
            newest.fetch_max(object.version.parse().unwrap_or_default(), Ordering::Relaxed);
            Some(object)
        };
        let change = match event {
            Ok(Event::Init) => {
                listed = Vec::new();
                None
            }
            Ok(Event::InitApply(item)) => {
                listed.extend(object(item));
                None
            }
            Ok(Event::InitDone) => Some(Change::Listed(part.clone(), std::mem::take(&mut listed))),
            Ok(Event::Apply(item)) => object(item).map(Change::Applied),
            Ok(Event::Delete(item)) => object(item).map(Change::Deleted),
            Err(error) if is_unserved(&error) => {
                let _ = changes.send(Change::Unserved(part)).await;
                return;
            }
            Err(error) => {
                let reason = reason(&error);
                if failure.is_new(&reason) {
                    tracing::warn!(%part, "the watch has failed and starts again: {reason}");
                }
                metrics::counter!("controller_watch_failures_total", "kind" => kind.name).increment(1);
                None
            }
        };
        if let Some(change) = change {
            if failure.is_over() {
                tracing::info!(%part, "the watch works again");
            }
            if changes.send(change).await.is_err() {
                return;
            }
        }
    }
}

/// Leaves out what is large and never looked at: charts' releases, a copy of the cluster's certificate in each namespace, and
/// everybody else's workloads.
fn config(kind: &str) -> watcher::Config {
    let config = watcher::Config::default();
    match kind {
        "Secret" => config.fields("type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token"),
        "ConfigMap" => config.fields("metadata.name!=kube-root-ca.crt"),
        "Deployment" | "DaemonSet" => config.labels(&infra::selector()),
        _ => config,
    }
}

fn is_unserved(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Pauses that double, each a bit shorter by chance, so that the kinds do not return in step.
#[derive(Debug, Default)]
struct Pauses(u32);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = MIN_PAUSE.saturating_mul(1 << self.0.min(16)).min(MAX_PAUSE);
        self.0 = self.0.saturating_add(1);
        Some(pause.mul_f64(rand::rng().random_range(0.5..1.0)))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0 = 0;
    }
}

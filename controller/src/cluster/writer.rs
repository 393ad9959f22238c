//! Writes statuses: only what differs, one after another, never over a version that it has not seen. What has become bad or good
//! with a write is told as an event, too.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use controller_core::ir::ObjectRef;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    board::{Board, Task},
    events::{self, Events},
    pace::Pace,
    reason::reason,
};

/// Longest time that one write may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before a write that failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// Who wrote, as the API server keeps it.
const MANAGER: &str = "envoy-gateway";

/// The one who writes, while it is the leader.
#[expect(missing_debug_implementations, reason = "a client has none")]
pub struct Writer {
    client: Client,
    board: Arc<Board>,
    pace: Pace,
    events: Events,
}

impl Writer {
    /// Writes what `board` wants, at most `rate` objects a second, as the replica `identity`. Needs a runtime.
    pub fn new(client: Client, board: Arc<Board>, rate: u32, identity: &str) -> Self {
        let events = Events::new(client.clone(), board.controller(), identity);
        Self { client, board, pace: Pace::per_second(rate, Instant::now()), events }
    }

    /// Writes while it is the leader, which `leads` tells, until nobody tells it any more.
    pub async fn run(mut self, mut leads: watch::Receiver<Option<Instant>>) {
        let told = leads.clone();
        loop {
            if leads.wait_for(is_valid).await.is_err() {
                return;
            }
            self.board.review();
            tokio::select! {
                changed = leads.wait_for(Option::is_none) => if changed.is_err() { return },
                () = self.write(&told) => {}
            }
        }
    }

    async fn write(&mut self, leads: &watch::Receiver<Option<Instant>>) {
        loop {
            let task = self.board.task().await;
            tokio::time::sleep(self.pace.book(Instant::now())).await;
            // A process that was stopped for a while finds out here.
            if !is_valid(&leads.borrow()) {
                return;
            }
            self.perform(&task).await;
        }
    }

    async fn perform(&self, task: &Task) {
        let Task { object, resource, version, status, .. } = task;
        let api: Api<DynamicObject> = match object.namespace.as_str() {
            "" => Api::all_with(self.client.clone(), resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, resource),
        };
        // With the version, the API server refuses to write over what somebody else has written meanwhile.
        let patch = json!({"metadata": {"resourceVersion": version}, "status": status});
        let patch = Patch::Merge(&patch);
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let written = tokio::time::timeout(TIMEOUT, api.patch_status(&object.name, &params, &patch)).await;
        let outcome = match written {
            Ok(Ok(written)) => {
                let uid = written.metadata.uid.clone();
                let Standing { version, generation, status } = standing(written);
                let after = status.as_ref().unwrap_or(&Value::Null);
                let changes = events::changes(&task.standing, after, self.board.controller());
                self.events.tell(object, &resource.api_version, uid, changes);
                self.board.wrote(task, version, generation, status.as_ref());
                "written"
            }
            Ok(Err(kube::Error::Api(error))) if error.code == 409 => {
                self.look_again(object, &api).await;
                "conflict"
            }
            Ok(Err(kube::Error::Api(error))) if error.code == 404 => "gone",
            Ok(Err(error)) => {
                tracing::warn!("writing the status of {object}: {}", reason(&error));
                self.board.retry(object, PAUSE);
                "failed"
            }
            Err(_) => {
                tracing::warn!("writing the status of {object}: no answer within {TIMEOUT:?}");
                self.board.retry(object, PAUSE);
                "failed"
            }
        };
        metrics::counter!("controller_status_writes_total", "kind" => object.kind, "outcome" => outcome).increment(1);
    }

    /// Somebody else was faster. The watch may tell late what they wrote.
    async fn look_again(&self, object: &ObjectRef, api: &Api<DynamicObject>) {
        match tokio::time::timeout(TIMEOUT, api.get_status(&object.name)).await {
            Ok(Ok(latest)) => {
                let Standing { version, generation, status } = standing(latest);
                self.board.stands(object, version, generation, status);
                self.board.retry(object, Duration::ZERO);
            }
            _ => self.board.retry(object, PAUSE),
        }
    }
}

/// What the API server says of an object now.
struct Standing {
    version: String,
    generation: Option<i64>,
    status: Option<Value>,
}

fn standing(mut object: DynamicObject) -> Standing {
    let status = object.data.get_mut("status").map(Value::take);
    let (version, generation) = (object.metadata.resource_version.unwrap_or_default(), object.metadata.generation);
    Standing { version, generation, status }
}

/// Whether this replica leads now, when it does so `until` then.
#[expect(clippy::ref_option, reason = "what `watch::Receiver::wait_for` wants")]
pub(crate) fn is_valid(until: &Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() < until)
}

//! The statuses that stand and those that should, and which objects are to be looked at again.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use controller_core::{
    ir::ObjectRef,
    translate::{Json, ObjectStatus},
};
use kube::api::ApiResource;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use super::{merge, object::REPORTED, queue::Queue, resources::Resources};

/// The first pause when somebody else takes back what we wrote; it doubles each time.
const MIN_DISPUTE: Duration = Duration::from_secs(1);
const MAX_DISPUTE: Duration = Duration::from_mins(1);

/// Where the watches, the translation and the writer of statuses meet.
#[derive(Debug)]
pub struct Board {
    controller: String,
    state: Mutex<State>,
    due: Notify,
}

#[derive(Debug, Default)]
struct State {
    resources: Resources,
    standing: HashMap<ObjectRef, Standing>,
    desired: HashMap<ObjectRef, Arc<ObjectStatus>>,
    written: HashMap<ObjectRef, Written>,
    due: Queue,
}

/// What the API server has.
#[derive(Debug)]
struct Standing {
    version: String,
    generation: Option<i64>,
    /// As text, which takes a fraction of the memory.
    status: String,
}

/// Our last write of an object.
#[derive(Debug)]
struct Written {
    desired: Json,
    /// What the API server made of it.
    status: String,
    at: Instant,
    /// How often somebody else has changed it since without a reason.
    disputes: u32,
}

/// A write that is needed.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) object: ObjectRef,
    pub(super) resource: ApiResource,
    /// The version that the write replaces.
    pub(super) version: String,
    /// The fields of `status` that change; null for those that go.
    pub(super) status: Value,
    /// The whole status that we want, null for none. By the time the write is done, we may want another.
    desired: Json,
    /// The whole status that the write changes.
    pub(super) standing: Value,
}

impl Board {
    /// Empty, for the controller of this name.
    pub fn new(controller: impl Into<String>) -> Self {
        Self { controller: controller.into(), state: Mutex::default(), due: Notify::new() }
    }

    /// The controller's name.
    pub(super) fn controller(&self) -> &str {
        &self.controller
    }

    /// The latest translation wants these statuses, and no others of ours.
    pub fn want(&self, statuses: Vec<Arc<ObjectStatus>>) {
        let mut state = self.state.lock();
        let mut desired = HashMap::with_capacity(statuses.len());
        for status in statuses {
            let ObjectStatus { kind, namespace, name, .. } = &*status;
            let object = ObjectRef { kind, namespace: namespace.clone(), name: name.clone() };
            let (object, before) =
                state.desired.remove_entry(&object).map_or((object, None), |(object, before)| (object, Some(before)));
            if before.is_none_or(|before| !Arc::ptr_eq(&before, &status) && before.status != status.status) {
                state.due.push(object.clone());
            }
            desired.insert(object, status);
        }
        let before = std::mem::replace(&mut state.desired, desired);
        for object in before.into_keys() {
            state.due.push(object);
        }
        drop(state);
        self.due.notify_one();
    }

    /// Everything is to be looked at: whoever wrote before us may have left something undone.
    pub(super) fn review(&self) {
        let mut state = self.state.lock();
        let State { standing, due, .. } = &mut *state;
        for object in standing.keys() {
            due.push(object.clone());
        }
        drop(state);
        self.due.notify_one();
    }

    /// The API server serves these resources.
    pub(super) fn serve(&self, resources: &Resources) {
        self.state.lock().resources.clone_from(resources);
    }

    /// An object has this status.
    pub(super) fn stands(&self, object: &ObjectRef, version: String, generation: Option<i64>, status: Option<Value>) {
        let mut state = self.state.lock();
        let is_ours =
            state.resources.get(object.kind).is_some_and(|resource| REPORTED.contains(&resource.group.as_str()));
        if !is_ours {
            return;
        }
        let status = status.map(|status| status.to_string()).unwrap_or_default();
        let before = state.standing.get(object);
        // The answer to a write is often here before the watch tells the version that it replaced.
        if before.is_some_and(|before| is_older(&version, &before.version)) {
            return;
        }
        if before.is_none_or(|before| before.status != status) {
            match state.dispute(object, &status) {
                None => state.due.push(object.clone()),
                Some(pause) => state.due.push_later(object.clone(), Instant::now() + pause),
            }
        }
        state.standing.insert(object.clone(), Standing { version, generation, status });
        drop(state);
        self.due.notify_one();
    }

    /// An object is gone.
    pub(super) fn gone(&self, object: &ObjectRef) {
        let mut state = self.state.lock();
        state.standing.remove(object);
        state.written.remove(object);
    }

    /// The next write, when there is one.
    pub(super) async fn task(&self) -> Task {
        loop {
            let notified = self.due.notified();
            let next = {
                let mut state = self.state.lock();
                loop {
                    match state.due.pop(Instant::now()) {
                        Ok(object) => {
                            if let Some(task) = state.task(object, &self.controller) {
                                return task;
                            }
                        }
                        Err(next) => break next,
                    }
                }
            };
            match next {
                Some(at) => tokio::select! {
                    () = notified => {}
                    () = tokio::time::sleep_until(at.into()) => {}
                },
                None => notified.await,
            }
        }
    }

    /// A write has succeeded, with this outcome.
    pub(super) fn wrote(&self, task: &Task, version: String, generation: Option<i64>, status: Option<&Value>) {
        let mut state = self.state.lock();
        let status = status.map(Value::to_string).unwrap_or_default();
        let (object, desired) = (&task.object, task.desired.clone());
        let disputes = match state.written.get(object) {
            Some(written) if written.desired == desired && written.at.elapsed() < MAX_DISPUTE * 2 => written.disputes,
            _ => 0,
        };
        let written = Written { desired, status: status.clone(), at: Instant::now(), disputes };
        state.written.insert(object.clone(), written);
        let before = state.standing.get(object);
        if !before.is_some_and(|before| is_older(&version, &before.version)) {
            state.standing.insert(object.clone(), Standing { version, generation, status });
        }
    }

    /// A write has failed and is to be tried again.
    pub(super) fn retry(&self, object: &ObjectRef, after: Duration) {
        self.state.lock().due.push_later(object.clone(), Instant::now() + after);
        self.due.notify_one();
    }
}

impl State {
    /// How long to leave an object alone that somebody has given a new status: not at all the first time, and then the longer
    /// the more often it was one that we had written and still want.
    fn dispute(&mut self, object: &ObjectRef, status: &str) -> Option<Duration> {
        let desired = self.desired.get(object).map(|desired| &desired.status);
        let written = self.written.get_mut(object)?;
        if written.status == status || desired != Some(&written.desired) {
            return None;
        }
        written.disputes = written.disputes.saturating_add(1);
        let doublings = written.disputes.checked_sub(2)?.min(16);
        Some(MIN_DISPUTE.saturating_mul(1 << doublings).min(MAX_DISPUTE))
    }

    fn task(&self, object: ObjectRef, controller: &str) -> Option<Task> {
        let resource = self.resources.get(object.kind)?.clone();
        let standing = self.standing.get(&object)?;
        let desired = self.desired.get(&object).map(|desired| &desired.status);
        let wanted = desired.map(Json::value);
        // What we want is about an older generation: the translation of this one is under way.
        if let Some(observed) = wanted.as_ref().and_then(merge::observed_generation)
            && standing.generation.is_some_and(|generation| generation > observed)
        {
            return None;
        }
        // The API server has made something else of the same: it does not know a field.
        let is_settled = |written: &Written| Some(&written.desired) == desired && written.status == standing.status;
        if self.written.get(&object).is_some_and(is_settled) {
            return None;
        }
        let before = serde_json::from_str(&standing.status).unwrap_or_default();
        let status = merge::merge(&before, wanted.as_ref(), controller, jiff::Timestamp::now())?;
        let desired = desired.cloned().unwrap_or_default();
        Some(Task { version: standing.version.clone(), object, resource, status, desired, standing: before })
    }
}

/// Versions are numbers that grow, in every API server there is; where they are not, the last one told counts.
fn is_older(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(version), Ok(than)) => version < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests;

//! Events on objects whose conditions have become bad, or good again; `kubectl describe` shows them.

use std::time::Duration;

use controller_core::ir::ObjectRef;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};

use super::reason::reason;

/// Types of conditions that are true when all is well.
const TYPES: [&str; 3] = ["Accepted", "Programmed", "ResolvedRefs"];
/// Reasons of conditions that are false for a while when something is new.
const WAITING: [&str; 3] = ["Pending", "AddressNotAssigned", "NoResources"];
/// Longest time that one event may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Events that may wait; what is beyond is dropped, as statuses tell it too.
const WAITING_EVENTS: usize = 1000;
/// The most that the API server takes as a note, in bytes.
const LONGEST_NOTE: usize = 1024;

/// Where events go that are to be published.
#[derive(Clone, Debug)]
pub(super) struct Events(mpsc::Sender<(ObjectReference, Change)>);

/// A condition that has become bad, or good again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    good: bool,
    kind: String,
    reason: String,
    note: String,
}

impl Events {
    /// Publishes in the background as `controller`, of which this is the replica `identity`, until the last clone is gone.
    pub(super) fn new(client: Client, controller: &str, identity: &str) -> Self {
        let (sender, mut events) = mpsc::channel::<(ObjectReference, Change)>(WAITING_EVENTS);
        let reporter = Reporter { controller: controller.into(), instance: Some(identity.into()) };
        let recorder = Recorder::new(client, reporter);
        tokio::spawn(async move {
            while let Some((object, change)) = events.recv().await {
                match timeout(TIMEOUT, recorder.publish(&change.event(), &object)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!("an event is lost: {}", reason(&error)),
                    Err(_) => tracing::debug!("an event is lost: no answer within {TIMEOUT:?}"),
                }
            }
        });
        Self(sender)
    }

    /// Tells of `changes` in the conditions of an object.
    pub(super) fn tell(
        &self,
        object: &ObjectRef,
        api_version: &str,
        uid: Option<String>,
        changes: impl IntoIterator<Item = Change>,
    ) {
        let reference = ObjectReference {
            api_version: Some(api_version.to_owned()),
            kind: Some(object.kind.to_owned()),
            namespace: (!object.namespace.is_empty()).then(|| object.namespace.clone()),
            name: Some(object.name.clone()),
            uid,
            ..ObjectReference::default()
        };
        for change in changes {
            if self.0.try_send((reference.clone(), change)).is_err() {
                tracing::debug!("an event about {object} is lost: too many wait");
            }
        }
    }
}

impl Change {
    fn event(&self) -> Event {
        let type_ = if self.good { EventType::Normal } else { EventType::Warning };
        let (reason, action) = (self.reason.clone(), self.kind.clone());
        Event { type_, reason, note: Some(self.note.clone()), action, secondary: None }
    }
}

/// What has changed between two statuses of an object, in what `controller` says of it.
pub(super) fn changes(before: &Value, after: &Value, controller: &str) -> Vec<Change> {
    let before = sections(before, controller);
    let mut changes = Vec::new();
    for (name, conditions) in sections(after, controller) {
        let known = before.iter().find(|(other, _)| *other == name).map_or(&[][..], |(_, conditions)| conditions);
        for condition in conditions {
            changes.extend(change(known, condition, &name));
        }
    }
    changes
}

fn change(before: &[Value], condition: &Value, section: &Section) -> Option<Change> {
    let kind = text(condition, "type");
    if !TYPES.contains(&kind) {
        return None;
    }
    let known = before.iter().find(|known| text(known, "type") == kind);
    let was_bad = known.is_some_and(|known| text(known, "status") == "False");
    let reason = text(condition, "reason");
    let good = match text(condition, "status") {
        "True" if was_bad => true,
        "False" if WAITING.contains(&reason) => return None,
        "False" if !was_bad || known.is_some_and(|known| text(known, "reason") != reason) => false,
        _ => return None,
    };
    let mut note = match section {
        Section::Listener(name) => format!("Listener {name}: {}", text(condition, "message")),
        Section::Whole | Section::Entry(_) => text(condition, "message").to_owned(),
    };
    note.truncate(note.floor_char_boundary(LONGEST_NOTE));
    Some(Change { good, kind: kind.to_owned(), reason: reason.to_owned(), note })
}

/// A part of a status that has conditions of its own.
#[derive(Debug, PartialEq)]
enum Section<'s> {
    Whole,
    Listener(&'s str),
    /// The parent or ancestor that it is about.
    Entry(Option<&'s Value>),
}

fn sections<'s>(status: &'s Value, controller: &str) -> Vec<(Section<'s>, &'s [Value])> {
    let list = |field: &str| status.get(field).and_then(Value::as_array).into_iter().flatten();
    let is_ours = |entry: &&Value| entry.get("controllerName").is_none_or(|name| name == controller);
    let entries = list("parents").chain(list("ancestors")).filter(is_ours);
    let entry = |entry: &'s Value| {
        (Section::Entry(entry.get("parentRef").or_else(|| entry.get("ancestorRef"))), conditions(entry))
    };
    let listeners = list("listeners").map(|listener| (Section::Listener(text(listener, "name")), conditions(listener)));
    [(Section::Whole, conditions(status))].into_iter().chain(listeners).chain(entries.map(entry)).collect()
}

fn conditions(section: &Value) -> &[Value] {
    section.get("conditions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": format!("{reason}.")})
    }

    fn told(before: &Value, after: &Value) -> Vec<(bool, String, String)> {
        let changes = changes(before, after, "us");
        changes.into_iter().map(|change| (change.good, change.reason, change.note)).collect()
    }

    #[test]
    fn what_becomes_bad_or_good_again_is_told_once() {
        let status = |condition: Value| json!({"conditions": [condition]});
        let (good, bad) = (condition("Accepted", "True", "Accepted"), condition("Accepted", "False", "Invalid"));
        let bad_told = vec![(false, "Invalid".to_owned(), "Invalid.".to_owned())];
        assert_eq!(told(&Value::Null, &status(good.clone())), []);
        assert_eq!(told(&Value::Null, &status(bad.clone())), bad_told);
        assert_eq!(told(&status(good.clone()), &status(bad.clone())), bad_told);
        assert_eq!(told(&status(bad.clone()), &status(bad.clone())), []);
        assert_eq!(told(&status(bad.clone()), &status(condition("Accepted", "False", "Other"))).len(), 1);
        assert_eq!(told(&status(bad), &status(good)), [(true, "Accepted".to_owned(), "Accepted.".to_owned())]);
    }

    #[test]
    fn what_is_only_new_or_usually_false_is_not_told() {
        for silent in [condition("Programmed", "False", "AddressNotAssigned"), condition("Conflicted", "False", "No")] {
            assert_eq!(told(&Value::Null, &json!({"conditions": [silent]})), []);
        }
    }

    #[test]
    fn listeners_are_named_and_other_controllers_left_alone() {
        let bad = condition("ResolvedRefs", "False", "InvalidCertificateRef");
        let after = json!({"listeners": [{"name": "https", "conditions": [bad]}]});
        assert_eq!(told(&Value::Null, &after)[0].2, "Listener https: InvalidCertificateRef.");
        let parent = |controller: &str, name: &str| json!({"controllerName": controller, "parentRef": {"name": name}, "conditions": [bad]});
        let before = json!({"parents": [parent("us", "a")]});
        let after = json!({"parents": [parent("us", "a"), parent("them", "a"), parent("us", "b")]});
        assert_eq!(told(&before, &after).len(), 1, "of the parent b alone");
    }
}

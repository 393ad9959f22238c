//! What Envoys, their services and the API server refuse, in the statuses of the objects that ask for it.

use std::sync::Arc;

use controller_core::translate::ObjectStatus;
use serde_json::{Value, json};

use crate::ads::holds::{Owner, Refusals};

/// What to say before the reason of what Envoys refuse.
pub(crate) const BY_ENVOY: &str = "Envoy refuses what this asks for, and keeps what it had before";
/// What to say before the reason of what `extauth` or `ratelimit` refuse.
pub(crate) const BY_SERVICE: &str = "The service that decides on this refuses it, and keeps what it had before";
/// What to say before the reason of what the API server refuses.
pub(crate) const BY_API_SERVER: &str = "The Envoys of this cannot be made as they should be";

/// Makes the condition `Programmed` false wherever an object of `refusals` has conditions; `said` comes before the reason.
pub(crate) fn tell(statuses: &mut [Arc<ObjectStatus>], refusals: &Refusals, said: &str) {
    if refusals.is_empty() {
        return;
    }
    for status in statuses {
        let owner = Owner { kind: status.kind.into(), namespace: status.namespace.clone(), name: status.name.clone() };
        let Some(reason) = refusals.get(&owner) else { continue };
        let message = format!("{said}: {reason}");
        Arc::make_mut(status).status.edit(|status| tell_in(status, &message));
    }
}

fn tell_in(status: &mut Value, message: &str) {
    if let Some(conditions) = status.get_mut("conditions") {
        set(conditions, message);
    }
    for list in ["parents", "ancestors"] {
        for entry in status.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(conditions) = entry.get_mut("conditions") {
                set(conditions, message);
            }
        }
    }
}

fn set(conditions: &mut Value, message: &str) {
    let Some(conditions) = conditions.as_array_mut() else { return };
    let generation = conditions.iter().find_map(|condition| condition.get("observedGeneration")).cloned();
    conditions.retain(|condition| condition["type"] != "Programmed");
    let mut condition = json!({"type": "Programmed", "status": "False", "reason": "Invalid", "message": message});
    if let (Some(generation), Some(fields)) = (generation, condition.as_object_mut()) {
        fields.insert("observedGeneration".into(), generation);
    }
    conditions.push(condition);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refused_object_says_so_and_no_other() {
        let status = |name: &str, status: Value| {
            let (namespace, name) = ("web".into(), name.into());
            Arc::new(ObjectStatus { kind: "HTTPRoute", namespace, name, status: status.into() })
        };
        let accepted = json!({"type": "Accepted", "status": "True", "observedGeneration": 3});
        let route = json!({"parents": [{"parentRef": {"name": "eg"}, "conditions": [accepted]}]});
        let mut statuses = [status("bad", route.clone()), status("good", route.clone())];
        let owner = Owner { kind: "HTTPRoute".into(), namespace: "web".into(), name: "bad".into() };
        tell(&mut statuses, &[(owner, "no such regex".to_owned())].into(), BY_ENVOY);
        let condition = &statuses[0].status.value()["parents"][0]["conditions"][1];
        assert_eq!(condition["type"], "Programmed");
        assert_eq!(condition["status"], "False");
        assert_eq!(condition["observedGeneration"], 3);
        assert!(condition["message"].as_str().is_some_and(|message| message.ends_with("before: no such regex")));
        assert_eq!(statuses[1].status.value(), route);
    }
}

//! What is wrong with the manifests, one line each.

use std::{collections::BTreeSet, sync::Arc};

use controller_core::translate::ObjectStatus;
use serde_json::Value;

use crate::source::Manifests;

/// Conditions that say that something is wrong when they are false.
const GOOD: [&str; 3] = ["Accepted", "ResolvedRefs", "Programmed"];
/// Conditions that say that something is wrong when they are true.
const BAD: [&str; 3] = ["Conflicted", "PartiallyInvalid", "Overridden"];

/// The problems that have been logged and still stand.
#[derive(Debug, Default)]
pub(crate) struct Log {
    standing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

impl Log {
    /// Logs what is new and what is over, and counts what stands in the gauge `controller_problems`.
    pub(crate) fn update(&mut self, manifests: &Manifests, statuses: &[Arc<ObjectStatus>]) {
        let ignored: BTreeSet<String> = manifests.ignored.iter().map(ToString::to_string).collect();
        for line in ignored.difference(&self.ignored) {
            tracing::info!("{line}");
        }
        self.ignored = ignored;

        let files = manifests.problems.iter().map(ToString::to_string);
        let now: BTreeSet<String> = files.chain(statuses.iter().flat_map(|status| problems(status))).collect();
        for line in now.difference(&self.standing) {
            tracing::warn!("{line}");
        }
        for line in self.standing.difference(&now) {
            tracing::info!("no longer: {line}");
        }
        metrics::gauge!("controller_problems").set(u32::try_from(now.len()).unwrap_or(u32::MAX));
        self.standing = now;
    }
}

/// A part of a status that has conditions of its own.
pub(crate) struct Part<'s> {
    /// Such as `listener http`; `None` for the object as a whole.
    pub(crate) about: Option<String>,
    /// As they stand.
    pub(crate) conditions: &'s [Value],
}

/// Every condition in a status that is not as it should be.
pub(crate) fn problems(status: &ObjectStatus) -> Vec<String> {
    let object = match status.namespace.as_str() {
        "" => format!("{} {}", status.kind, status.name),
        namespace => format!("{} {namespace}/{}", status.kind, status.name),
    };
    let mut lines = Vec::new();
    for Part { about, conditions } in parts(&status.status.value()) {
        let about = about.map_or_else(|| object.clone(), |part| format!("{object}, {part}"));
        lines.extend(conditions.iter().filter_map(|condition| problem(condition, &about)));
    }
    lines
}

/// The parts of a status, wherever the kind keeps them.
pub(crate) fn parts(status: &Value) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    collect(status, &mut parts);
    parts
}

fn collect<'s>(value: &'s Value, parts: &mut Vec<Part<'s>>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                match inner {
                    Value::Array(conditions) if name == "conditions" => {
                        parts.push(Part { about: part(value), conditions });
                    }
                    other => collect(other, parts),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, parts)),
        _ => {}
    }
}

/// `listener http` or `Gateway eg/http`, for the part of a status that is about one listener, parent or ancestor.
fn part(value: &Value) -> Option<String> {
    value.get("conditions")?;
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    if let Some(reference) = value.get("parentRef").or(value.get("ancestorRef")) {
        let kind = text(reference, "kind").unwrap_or_else(|| "Gateway".to_owned());
        let section = text(reference, "sectionName").map(|section| format!("/{section}")).unwrap_or_default();
        return Some(format!("{kind} {}{section}", text(reference, "name")?));
    }
    Some(format!("listener {}", text(value, "name")?))
}

/// Whether a condition says that something is not as it should be.
pub(crate) fn is_wrong(condition: &Value) -> bool {
    let text = |field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default();
    let (kind, status) = (text("type"), text("status"));
    (GOOD.contains(&kind) && status == "False") || (BAD.contains(&kind) && status == "True")
}

fn problem(condition: &Value, about: &str) -> Option<String> {
    let text = |field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default();
    let (kind, status, reason, message) = (text("type"), text("status"), text("reason"), text("message"));
    is_wrong(condition).then(|| format!("{about}: {kind} is {status} ({reason}): {message}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_status_is_read() {
        let condition =
            |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R", "message": "M."});
        let lines = |kind, status: Value| {
            problems(&ObjectStatus { kind, namespace: "web".into(), name: "o".into(), status: status.into() })
        };
        let gateway = json!({
            "conditions": [condition("Accepted", "True"), condition("Programmed", "False")],
            "listeners": [{"name": "http", "conditions": [condition("Conflicted", "True")]}],
        });
        let expected =
            ["Gateway web/o: Programmed is False (R): M.", "Gateway web/o, listener http: Conflicted is True (R): M."];
        assert_eq!(lines("Gateway", gateway), expected);
        let route = json!({"parents": [{"parentRef": {"name": "eg", "sectionName": "http"}, "controllerName": "c",
            "conditions": [condition("ResolvedRefs", "False"), condition("Accepted", "True")]}]});
        assert_eq!(lines("HTTPRoute", route), ["HTTPRoute web/o, Gateway eg/http: ResolvedRefs is False (R): M."]);
        let policy = json!({"ancestors": [{"ancestorRef": {"kind": "Gateway", "name": "eg"},
            "conditions": [condition("Overridden", "True")]}]});
        assert_eq!(lines("SecurityPolicy", policy), ["SecurityPolicy web/o, Gateway eg: Overridden is True (R): M."]);
    }
}

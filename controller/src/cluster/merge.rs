//! What a status becomes when what others have written in it stays.
//!
//! Entries of `parents` and `ancestors` belong to the controller that they name, and where they cannot name one, as in the status
//! of an EnvoyProxy, to whoever has the object in use. Everything else in a status of ours is ours, but
//! for conditions whose type has a domain before it, which is how others are told to call theirs.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Fields that hold one entry for each controller and parent, and the most entries that the API server takes.
const SHARED: [(&str, usize); 2] = [("parents", 32), ("ancestors", 16)];

/// The fields of the status that have to change, null for those that go; `None` when it is as it should be.
///
/// Without `desired`, nothing of ours is to be left among others' entries; a status that has no such entries is nobody's to
/// clear.
pub(super) fn merge(standing: &Value, desired: Option<&Value>, controller: &str, now: Timestamp) -> Option<Value> {
    let has = |value: Option<&Value>, field: &str| value.is_some_and(|value| value.get(field).is_some());
    match SHARED.into_iter().find(|(field, _)| has(desired, field) || has(Some(standing), field)) {
        Some((field, most)) => shared(standing, desired, field, most, controller, now),
        None => own(standing, desired?, now),
    }
}

/// The first `observedGeneration` in a status, which is that of all of it.
pub(super) fn observed_generation(status: &Value) -> Option<i64> {
    match status {
        Value::Object(fields) => match fields.get("observedGeneration") {
            Some(generation) => generation.as_i64(),
            None => fields.values().find_map(observed_generation),
        },
        Value::Array(items) => items.iter().find_map(observed_generation),
        _ => None,
    }
}

fn shared(
    standing: &Value,
    desired: Option<&Value>,
    field: &str,
    most: usize,
    controller: &str,
    now: Timestamp,
) -> Option<Value> {
    let wanted = desired.map_or(&[][..], |desired| items(desired, field));
    let owner = |entry: &Value| entry.get("controllerName").and_then(Value::as_str).map(str::to_owned);
    let is_nameless = !wanted.is_empty() && wanted.iter().all(|entry| owner(entry).is_none());
    let is_ours = |entry: &&Value| match owner(entry) {
        Some(owner) => owner == controller,
        None => is_nameless,
    };
    let (ours, others): (Vec<&Value>, Vec<&Value>) = items(standing, field).iter().partition(is_ours);
    let wanted: Vec<Value> = wanted
        .iter()
        .take(most.saturating_sub(others.len()))
        .map(|entry| {
            let before = ours.iter().find(|ours| subject(ours) == subject(entry));
            timed(entry, before.copied(), now)
        })
        .collect();
    if ours.len() == wanted.len() && ours.into_iter().eq(&wanted) {
        return None;
    }
    let entries: Vec<Value> = others.into_iter().cloned().chain(wanted).collect();
    Some(json!({ field: entries }))
}

fn own(standing: &Value, desired: &Value, now: Timestamp) -> Option<Value> {
    let empty = Map::new();
    let standing_fields = standing.as_object().unwrap_or(&empty);
    let mut wanted = timed(desired, Some(standing), now);
    let fields = wanted.as_object_mut()?;
    if let Some(Value::Array(listeners)) = fields.get_mut("listeners") {
        for listener in listeners {
            let name = |listener: &Value| listener.get("name").cloned();
            let before = items(standing, "listeners").iter().find(|before| name(before) == name(listener));
            *listener = timed(listener, before, now);
        }
    }
    if let Some(Value::Array(conditions)) = fields.get_mut("conditions") {
        conditions.extend(items(standing, "conditions").iter().filter(|condition| is_foreign(condition)).cloned());
    }
    let mut changes: Map<String, Value> = fields
        .iter()
        .filter(|(name, value)| standing_fields.get(*name) != Some(value))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    changes.extend(
        standing_fields.keys().filter(|name| !fields.contains_key(*name)).map(|name| (name.clone(), Value::Null)),
    );
    (!changes.is_empty()).then(|| changes.into())
}

/// `entry` with the time of the last transition in each of its conditions.
fn timed(entry: &Value, before: Option<&Value>, now: Timestamp) -> Value {
    let mut entry = entry.clone();
    let Some(Value::Array(conditions)) = entry.get_mut("conditions") else { return entry };
    let known = before.map_or(&[][..], |before| items(before, "conditions"));
    for condition in conditions {
        let part = |condition: &Value, field: &str| condition.get(field).cloned();
        let same = known.iter().find(|known| {
            part(known, "type") == part(condition, "type") && part(known, "status") == part(condition, "status")
        });
        let time = same.and_then(|same| part(same, "lastTransitionTime"));
        let time = time.unwrap_or_else(|| json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
        if let Some(fields) = condition.as_object_mut() {
            fields.insert("lastTransitionTime".into(), time);
        }
    }
    entry
}

/// What an entry is about.
fn subject(entry: &Value) -> Option<&Value> {
    entry.get("parentRef").or_else(|| entry.get("ancestorRef"))
}

fn is_foreign(condition: &Value) -> bool {
    condition.get("type").and_then(Value::as_str).is_some_and(|name| name.contains('/'))
}

fn items<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;

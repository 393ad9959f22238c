//! Merging a route's policy into a less specific one.

use controller_api::policy::MergeType;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Fields of a policy that are its own.
const TARGETS: [&str; 4] = ["targetRef", "targetRefs", "targetSelectors", "mergeType"];

/// The lists that a strategic merge combines, and what their items are told apart by.
const MERGE_KEYS: [(&str, &str); 4] =
    [("compression", "type"), ("compressor", "type"), ("httpUpgrade", "type"), ("contextExtensions", "name")];

/// `parent` with everything that `child` sets. Both are policy specs; the targets are the child's.
pub(super) fn specs<S: Serialize + DeserializeOwned>(
    parent: &S,
    child: &S,
    merge_type: MergeType,
) -> Result<S, serde_json::Error> {
    let mut merged = serde_json::to_value(parent)?;
    if let Some(fields) = merged.as_object_mut() {
        fields.retain(|name, _| !TARGETS.contains(&name.as_str()));
    }
    patch(&mut merged, serde_json::to_value(child)?, merge_type);
    serde_json::from_value(merged)
}

/// RFC 7386, where a strategic merge combines some lists instead of replacing them.
fn patch(target: &mut Value, patch_value: Value, merge_type: MergeType) {
    let Value::Object(fields) = patch_value else {
        *target = patch_value;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(object) = target.as_object_mut() else { return };
    for (name, value) in fields {
        let merge_key = MERGE_KEYS.iter().find(|(list, _)| *list == name).map(|(_, key)| *key);
        match (merge_key, value, object.get_mut(&name)) {
            (_, Value::Null, _) => drop(object.remove(&name)),
            (Some(key), Value::Array(items), Some(Value::Array(known))) if merge_type == MergeType::StrategicMerge => {
                merge_lists(known, items, key);
            }
            (_, value, Some(known)) => patch(known, value, merge_type),
            (_, value, None) => drop(object.insert(name, value)),
        }
    }
}

fn merge_lists(known: &mut Vec<Value>, items: Vec<Value>, key: &str) {
    for item in items {
        match known.iter_mut().find(|one| one.get(key) == item.get(key)) {
            Some(one) => patch(one, item, MergeType::StrategicMerge),
            None => known.push(item),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn merged(merge_type: MergeType) -> Value {
        let parent = json!({
            "targetRef": {"name": "gw"},
            "timeout": {"tcp": {"connectTimeout": "10s"}, "http": {"requestTimeout": "5s"}},
            "extAuth": {"contextExtensions": [{"name": "a", "value": "1"}, {"name": "b", "value": "1"}]},
            "jwt": {"providers": [{"name": "p"}]},
        });
        let child = json!({
            "targetRefs": [{"name": "route"}],
            "timeout": {"http": {"requestTimeout": "1s"}},
            "extAuth": {"contextExtensions": [{"name": "b", "value": "2"}, {"name": "c", "value": "2"}]},
            "jwt": {"providers": [{"name": "q"}]},
        });
        specs(&parent, &child, merge_type).unwrap()
    }

    #[test]
    fn objects_are_merged_and_lists_replaced() {
        let merged = merged(MergeType::JSONMerge);
        assert_eq!(merged["timeout"], json!({"tcp": {"connectTimeout": "10s"}, "http": {"requestTimeout": "1s"}}));
        assert_eq!(merged["extAuth"]["contextExtensions"][0], json!({"name": "b", "value": "2"}));
        assert_eq!(merged["extAuth"]["contextExtensions"].as_array().unwrap().len(), 2);
        assert_eq!(merged.get("targetRef"), None, "the parent's targets are its own");
    }

    #[test]
    fn a_strategic_merge_combines_lists_that_have_a_key() {
        let merged = merged(MergeType::StrategicMerge);
        let values: Vec<_> = merged["extAuth"]["contextExtensions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["name"].as_str().unwrap(), one["value"].as_str().unwrap()))
            .collect();
        assert_eq!(values, [("a", "1"), ("b", "2"), ("c", "2")]);
        assert_eq!(merged["jwt"]["providers"], json!([{"name": "q"}]));
    }
}

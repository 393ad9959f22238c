//! Patches of finished objects: RFC 7386, and Kubernetes' strategic merge patch.

use controller_api::envoy_proxy::{KubernetesPatchSpec, PatchType};
use serde_json::{Map, Value};

/// Lists that a strategic merge combines, and the field that tells their items apart, which Kubernetes' API types name
/// as `patchMergeKey`. A list that may mean two things has two keys; items have one of them.
const MERGE_KEYS: [(&str, &[&str]); 15] = [
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("env", &["name"]),
    ("volumes", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("volumeDevices", &["devicePath"]),
    ("ports", &["containerPort", "port"]),
    ("imagePullSecrets", &["name"]),
    ("resourceClaims", &["name"]),
    ("schedulingGates", &["name"]),
    ("topologySpreadConstraints", &["topologyKey"]),
    ("hostAliases", &["ip"]),
    ("ownerReferences", &["uid"]),
    ("secrets", &["name"]),
];
/// What to do with an object instead of merging it: `replace`, `delete` or `merge`.
const DIRECTIVE: &str = "$patch";

/// Applies `patch` to `object`.
pub(super) fn apply(object: &mut Value, patch: &KubernetesPatchSpec) {
    match patch.kind.unwrap_or_default() {
        PatchType::JSONMerge => json_patch::merge(object, &patch.value),
        PatchType::StrategicMerge => merge(object, &patch.value),
    }
}

/// Merges `patch` into `target` strategically.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    match fields.get(DIRECTIVE).and_then(Value::as_str) {
        Some("delete") => {
            *target = Value::Object(Map::new());
            return;
        }
        Some("replace") => *target = Value::Object(Map::new()),
        _ => {}
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(object) = target.as_object_mut() else { return };
    for (name, value) in fields.iter().filter(|(name, _)| !name.starts_with('$')) {
        if value.is_null() {
            object.remove(name);
            continue;
        }
        let keys = MERGE_KEYS.iter().find(|(list, _)| list == name).map(|(_, keys)| *keys);
        let known = object.entry(name.clone()).or_insert(Value::Null);
        match (keys, value) {
            (Some(keys), Value::Array(items)) => merge_list(known, items, keys),
            _ => merge(known, value),
        }
    }
}

fn merge_list(known: &mut Value, items: &[Value], keys: &[&str]) {
    let directive = |item: &Value| item.get(DIRECTIVE).and_then(Value::as_str).map(str::to_owned);
    let key = |item: &Value| keys.iter().find_map(|key| item.get(*key).map(|value| ((*key).to_owned(), value.clone())));
    let replaces = items.iter().any(|item| directive(item).as_deref() == Some("replace") && key(item).is_none());
    if replaces || !known.is_array() {
        *known = Value::Array(Vec::new());
    }
    let Some(list) = known.as_array_mut() else { return };
    for item in items {
        let same = key(item).and_then(|(name, value)| list.iter().position(|one| one.get(&name) == Some(&value)));
        match (directive(item).as_deref(), same) {
            (Some("delete"), Some(index)) => drop(list.remove(index)),
            (Some("delete"), None) => {}
            (Some("replace"), None) if key(item).is_none() => {}
            (_, Some(index)) => {
                if let Some(one) = list.get_mut(index) {
                    merge(one, item);
                }
            }
            (_, None) => {
                let mut new = Value::Null;
                merge(&mut new, item);
                list.push(new);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(patch: &Value) -> Value {
        let mut pod = json!({
            "containers": [{"name": "envoy", "args": ["a"], "env": [{"name": "A", "value": "1"}]}, {"name": "other"}],
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "x"}],
        });
        merge(&mut pod, patch);
        pod
    }

    #[test]
    fn items_with_the_same_key_are_merged_and_others_added() {
        let pod = merged(&json!({"containers": [
            {"name": "envoy", "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}]}, {"name": "new"},
        ]}));
        let env = json!([{"name": "A", "value": "2"}, {"name": "B", "value": "3"}]);
        assert_eq!(pod["containers"][0], json!({"name": "envoy", "args": ["a"], "env": env}));
        assert_eq!(pod["containers"][2], json!({"name": "new"}));
    }

    #[test]
    fn lists_without_a_key_are_replaced_and_null_removes() {
        let pod = merged(&json!({"tolerations": [{"key": "y"}], "nodeSelector": null}));
        assert_eq!(pod["tolerations"], json!([{"key": "y"}]));
        assert_eq!(pod.get("nodeSelector"), None);
        assert_eq!(merged(&json!({"nodeSelector": {"disk": null}}))["nodeSelector"], json!({}));
    }

    #[test]
    fn directives_delete_and_replace() {
        let pod = merged(&json!({"containers": [{"$patch": "delete", "name": "other"}]}));
        assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1));
        let pod = merged(&json!({"containers": [{"$patch": "replace"}, {"name": "only"}]}));
        assert_eq!(pod["containers"], json!([{"name": "only"}]));
        let pod = merged(&json!({"containers": [{"$patch": "replace", "name": "envoy", "image": "e"}]}));
        assert_eq!(pod["containers"][0], json!({"name": "envoy", "image": "e"}));
        assert_eq!(
            merged(&json!({"nodeSelector": {"$patch": "replace", "a": "b"}}))["nodeSelector"],
            json!({"a": "b"})
        );
    }

    #[test]
    fn ports_of_containers_and_services_have_different_keys() {
        let mut service = json!({"ports": [{"port": 80, "targetPort": 10080}]});
        merge(&mut service, &json!({"ports": [{"port": 80, "nodePort": 30080}]}));
        assert_eq!(service["ports"], json!([{"port": 80, "targetPort": 10080, "nodePort": 30080}]));
    }
}

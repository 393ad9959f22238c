#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

const OURS: &str = "example.com/ours";
const THEN: &str = "2020-01-01T00:00:00Z";
const NOW: &str = "2026-01-01T00:00:00Z";

fn run(standing: &Value, desired: Option<&Value>) -> Option<Value> {
    merge(standing, desired, OURS, NOW.parse().unwrap())
}

fn condition(name: &str, status: &str, time: Option<&str>) -> Value {
    let mut condition = json!({"type": name, "status": status, "reason": "R", "message": "M"});
    if let Some(time) = time {
        condition["lastTransitionTime"] = time.into();
    }
    condition
}

fn parent(controller: &str, gateway: &str, condition: &Value) -> Value {
    json!({"controllerName": controller, "parentRef": {"name": gateway}, "conditions": [condition]})
}

#[test]
fn entries_of_others_stay_and_ours_keep_their_times() {
    let theirs = parent("example.com/other", "eg", &condition("Accepted", "False", Some(THEN)));
    let standing = json!({"parents": [
        parent(OURS, "gone", &condition("Accepted", "True", Some(THEN))),
        theirs,
        parent(OURS, "eg", &condition("Accepted", "True", Some(THEN))),
        parent(OURS, "flipped", &condition("Accepted", "True", Some(THEN))),
    ]});
    let desired = json!({"parents": [
        parent(OURS, "eg", &condition("Accepted", "True", None)),
        parent(OURS, "flipped", &condition("Accepted", "False", None)),
    ]});
    let expected = json!({"parents": [
        theirs,
        parent(OURS, "eg", &condition("Accepted", "True", Some(THEN))),
        parent(OURS, "flipped", &condition("Accepted", "False", Some(NOW))),
    ]});
    assert_eq!(run(&standing, Some(&desired)), Some(expected.clone()));
    assert_eq!(run(&expected, Some(&desired)), None);
}

#[test]
fn only_a_change_of_status_is_a_transition() {
    let standing = json!({"parents": [parent(OURS, "eg", &condition("Accepted", "True", Some(THEN)))]});
    let mut reworded = condition("Accepted", "True", None);
    reworded["message"] = "other words".into();
    reworded["observedGeneration"] = 2.into();
    let merged = run(&standing, Some(&json!({"parents": [parent(OURS, "eg", &reworded)]}))).unwrap();
    let merged = &merged["parents"][0]["conditions"][0];
    assert_eq!((&merged["message"], &merged["lastTransitionTime"]), (&json!("other words"), &json!(THEN)));
}

#[test]
fn what_we_no_longer_report_on_goes() {
    let theirs = parent("example.com/other", "eg", &condition("Accepted", "True", Some(THEN)));
    let standing = json!({"parents": [theirs, parent(OURS, "eg", &condition("Accepted", "True", Some(THEN)))]});
    assert_eq!(run(&standing, None), Some(json!({"parents": [theirs]})));
    assert_eq!(run(&json!({"parents": [theirs]}), None), None);
    // A Gateway of another controller's.
    assert_eq!(run(&json!({"conditions": [condition("Accepted", "True", Some(THEN))]}), None), None);
}

#[test]
fn no_more_entries_than_the_api_server_takes() {
    let of = |controller: &str, range: std::ops::Range<usize>| -> Vec<Value> {
        range
            .map(|i| json!({"controllerName": controller, "ancestorRef": {"name": i.to_string()}, "conditions": []}))
            .collect()
    };
    let standing = json!({"ancestors": of("example.com/other", 0..10)});
    let merged = run(&standing, Some(&json!({"ancestors": of(OURS, 0..10)}))).unwrap();
    assert_eq!(merged["ancestors"].as_array().unwrap().len(), 16);
}

#[test]
fn a_gateway_keeps_the_conditions_of_others_and_loses_its_addresses() {
    let foreign = condition("example.com/Scanned", "True", Some(THEN));
    let standing = json!({
        "conditions": [condition("Accepted", "True", Some(THEN)), foreign, condition("Old", "True", Some(THEN))],
        "listeners": [{"name": "http", "attachedRoutes": 1, "conditions": [condition("Programmed", "True", Some(THEN))]}],
        "addresses": [{"type": "IPAddress", "value": "127.0.0.1"}],
    });
    let desired = json!({
        "conditions": [condition("Accepted", "True", None)],
        "listeners": [{"name": "http", "attachedRoutes": 2, "conditions": [condition("Programmed", "True", None)]}],
    });
    let listener =
        json!({"name": "http", "attachedRoutes": 2, "conditions": [condition("Programmed", "True", Some(THEN))]});
    let expected = json!({
        "conditions": [condition("Accepted", "True", Some(THEN)), foreign],
        "listeners": [listener],
        "addresses": null,
    });
    assert_eq!(run(&standing, Some(&desired)), Some(expected));
}

#[test]
fn the_first_status_of_all() {
    let desired = json!({"conditions": [condition("Accepted", "True", None)]});
    let expected = json!({"conditions": [condition("Accepted", "True", Some(NOW))]});
    assert_eq!(run(&Value::Null, Some(&desired)), Some(expected));
}

#[test]
fn the_generation_is_found_wherever_it_stands() {
    let status =
        json!({"parents": [{"parentRef": {"name": "eg"}, "conditions": [{"type": "A", "observedGeneration": 7}]}]});
    assert_eq!(observed_generation(&status), Some(7));
    assert_eq!(observed_generation(&json!({"parents": []})), None);
}

#[test]
fn entries_that_cannot_name_a_controller_are_replaced() {
    let entry = |name: &str, condition: &Value| json!({"ancestorRef": {"name": name}, "conditions": [condition]});
    let standing = json!({"ancestors": [
        entry("gone", &condition("Accepted", "True", Some(THEN))),
        entry("eg", &condition("Accepted", "True", Some(THEN))),
    ]});
    let desired = json!({"ancestors": [entry("eg", &condition("Accepted", "True", None))]});
    let expected = json!({"ancestors": [entry("eg", &condition("Accepted", "True", Some(THEN)))]});
    assert_eq!(run(&standing, Some(&desired)), Some(expected.clone()));
    assert_eq!(run(&expected, Some(&desired)), None);
}

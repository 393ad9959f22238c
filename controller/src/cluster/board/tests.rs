#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use futures::FutureExt;
use serde_json::json;

use super::*;

fn object(name: &str) -> ObjectRef {
    ObjectRef { kind: "HTTPRoute", namespace: "ns".into(), name: name.into() }
}

fn status(reason: &str, generation: i64) -> Value {
    json!({"parents": [{"controllerName": "example.com/ours", "parentRef": {"name": "eg"}, "conditions": [
        {"type": "Accepted", "status": "True", "reason": reason, "message": "", "observedGeneration": generation,
         "lastTransitionTime": "2020-01-01T00:00:00Z"}]}]})
}

fn wanted(name: &str, reason: &str, generation: i64) -> Arc<ObjectStatus> {
    let ObjectRef { kind, namespace, name } = object(name);
    Arc::new(ObjectStatus { kind, namespace, name, status: status(reason, generation).into() })
}

fn board() -> Board {
    let board = Board::new("example.com/ours");
    let resource = ApiResource {
        group: "gateway.networking.k8s.io".into(),
        version: "v1".into(),
        api_version: "gateway.networking.k8s.io/v1".into(),
        kind: "HTTPRoute".into(),
        plural: "httproutes".into(),
    };
    board.serve(&BTreeMap::from([("HTTPRoute", resource)]));
    board
}

/// The next write, unless there is none to be made now.
fn next(board: &Board) -> Option<Task> {
    board.task().now_or_never()
}

/// The name and version of the next write.
fn task(board: &Board) -> Option<(String, String)> {
    next(board).map(|task| (task.object.name, task.version))
}

#[test]
fn what_is_as_it_should_be_is_left_alone() {
    let board = board();
    board.stands(&object("a"), "1".into(), Some(1), None);
    board.stands(&object("b"), "2".into(), Some(1), Some(status("Fine", 1)));
    board.want(vec![wanted("a", "Fine", 1), wanted("b", "Fine", 1)]);
    let first = next(&board).unwrap();
    assert_eq!((first.object.name.as_str(), first.version.as_str()), ("a", "1"));
    assert_eq!(task(&board), None);
    board.wrote(&first, "3".into(), Some(1), Some(&status("Fine", 1)));
    // The watch tells of our own write, and before that of what it replaced.
    board.stands(&object("a"), "2".into(), Some(1), None);
    board.stands(&object("a"), "3".into(), Some(1), Some(status("Fine", 1)));
    board.want(vec![wanted("a", "Fine", 1), wanted("b", "Fine", 1)]);
    board.review();
    assert_eq!(task(&board), None);
}

#[test]
fn a_status_about_an_older_generation_is_not_written() {
    let board = board();
    board.stands(&object("a"), "5".into(), Some(2), None);
    board.want(vec![wanted("a", "Fine", 1)]);
    assert_eq!(task(&board), None);
    board.want(vec![wanted("a", "Fine", 2)]);
    assert_eq!(task(&board), Some(("a".into(), "5".into())));
}

#[test]
fn what_is_wanted_no_longer_goes() {
    let board = board();
    board.want(vec![wanted("a", "Fine", 1)]);
    board.stands(&object("a"), "1".into(), Some(1), Some(status("Fine", 1)));
    assert_eq!(task(&board), None);
    board.want(vec![]);
    assert_eq!(task(&board), Some(("a".into(), "1".into())));
}

#[test]
fn an_api_server_that_drops_a_field_is_not_asked_again() {
    let board = board();
    board.stands(&object("a"), "1".into(), Some(1), None);
    board.want(vec![wanted("a", "Fine", 1)]);
    let first = next(&board).unwrap();
    board.wrote(&first, "2".into(), Some(1), Some(&status("Shortened", 1)));
    board.review();
    assert_eq!(task(&board), None);
    board.want(vec![wanted("a", "Other", 1)]);
    assert!(task(&board).is_some());
}

#[test]
fn what_is_wanted_while_a_write_is_under_way_is_written_next() {
    let board = board();
    board.stands(&object("a"), "1".into(), Some(1), None);
    board.want(vec![wanted("a", "Fine", 1)]);
    let first = next(&board).unwrap();
    board.want(vec![wanted("a", "Better", 1)]);
    board.wrote(&first, "2".into(), Some(1), Some(&status("Fine", 1)));
    assert_eq!(task(&board), Some(("a".into(), "2".into())));
}

#[tokio::test]
async fn somebody_who_takes_it_back_again_and_again_has_to_wait_for_us() {
    let board = board();
    board.stands(&object("a"), "1".into(), Some(1), None);
    board.want(vec![wanted("a", "Fine", 1)]);
    let first = next(&board).unwrap();
    board.wrote(&first, "2".into(), Some(1), Some(&status("Fine", 1)));
    board.stands(&object("a"), "3".into(), Some(1), Some(status("Theirs", 1)));
    let second = next(&board).unwrap();
    assert_eq!(second.version, "3");
    board.wrote(&second, "4".into(), Some(1), Some(&status("Fine", 1)));
    board.stands(&object("a"), "5".into(), Some(1), Some(status("Theirs", 1)));
    assert_eq!(task(&board), None);
    // A change of our own does not wait.
    board.want(vec![wanted("a", "Other", 1)]);
    assert_eq!(task(&board), Some(("a".into(), "5".into())));
}

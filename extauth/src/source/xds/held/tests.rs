#![allow(clippy::unwrap_used)]

use std::time::SystemTime;

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use proto::extauth::{ApiKey, Key, Method, Source};
use tokio::runtime::Runtime;

use super::*;
use crate::method::api_key::Hash;
use crate::resources::{Options, Resources};

struct House {
    authorizer: Authorizer,
    held: Held,
    runtime: Runtime,
}

impl House {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let authorizer = Authorizer::new(Resources::new(&Options::default()).unwrap());
        Self { authorizer, held: Held::default(), runtime }
    }

    fn take(&mut self, resources: Vec<Resource>, removed: &[&str]) -> Vec<Refusal> {
        let removed_resources = removed.iter().map(|name| (*name).to_owned()).collect();
        let response = DeltaDiscoveryResponse { resources, removed_resources, ..Default::default() };
        self.held.take(response, &self.authorizer)
    }

    /// The status that a request of the policy's route gets with this key; 200 if it passes.
    fn ask(&self, policy: &str, key: &str) -> i32 {
        let http = HttpRequest {
            method: "GET".into(),
            path: "/".into(),
            headers: [("x-api-key".to_owned(), key.to_owned())].into(),
            ..Default::default()
        };
        let mut request = CheckRequest::default();
        let attributes = request.attributes.get_or_insert_default();
        attributes.request = Some(Request { http: Some(http), ..Default::default() });
        attributes.context_extensions = [("policy".to_owned(), policy.to_owned())].into();
        let response = self.runtime.block_on(self.authorizer.answer(&request, SystemTime::now()));
        match response.http_response {
            Some(HttpResponse::DeniedResponse(denied)) => denied.status.unwrap().code,
            _ => 200,
        }
    }

    fn known(&self) -> Vec<(String, String)> {
        let versions = self.held.open(Node::default()).initial_resource_versions;
        let mut versions: Vec<_> = versions.into_iter().collect();
        versions.sort();
        versions
    }
}

fn policy(name: &str, key: &str) -> Policy {
    let key = Key { hash: Hash::of(key, None).unwrap().to_string(), client: "ann".into(), ..Key::default() };
    let from = vec![Source::Header { name: "x-api-key".into(), prefix: String::new() }];
    let keys = ApiKey { from, keys: vec![key], ..ApiKey::default() };
    Policy { name: name.into(), methods: vec![Method::ApiKey(keys)], ..Policy::default() }
}

fn resource(policy: &Policy, version: &str) -> Resource {
    let any = pack(&AuthPolicy::of(policy).unwrap());
    Resource { name: policy.name.clone(), version: version.into(), resource: Some(any), ..Default::default() }
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(name, version)| (name.to_owned(), version.to_owned())).to_vec()
}

#[test]
fn changes_take_effect_and_leave_the_others_alone() {
    let mut house = House::new();
    assert_eq!(house.take(vec![resource(&policy("a", "one"), "1"), resource(&policy("b", "two"), "1")], &[]), []);
    assert_eq!((house.ask("a", "one"), house.ask("b", "two"), house.ask("a", "two")), (200, 200, 401));
    assert_eq!(house.take(vec![resource(&policy("a", "three"), "2")], &[]), []);
    assert_eq!((house.ask("a", "three"), house.ask("a", "one"), house.ask("b", "two")), (200, 401, 200));
    assert_eq!(house.known(), pairs([("a", "2"), ("b", "1")]));
    assert_eq!(house.take(vec![], &["b"]), []);
    assert_eq!((house.ask("a", "three"), house.ask("b", "two")), (200, 403));
    assert_eq!(house.known(), pairs([("a", "2")]));
}

#[test]
fn a_refused_policy_leaves_the_one_before_in_force_and_the_good_ones_beside_it_take_effect() {
    let mut house = House::new();
    house.take(vec![resource(&policy("a", "one"), "1")], &[]);
    let bad = Policy { methods: vec![], ..policy("a", "one") };
    let refusals = house.take(vec![resource(&bad, "2"), resource(&policy("b", "two"), "1")], &[]);
    let refusals: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    assert_eq!(refusals, ["policy `a`: methods: is empty: a policy needs at least one method"]);
    assert_eq!((house.ask("a", "one"), house.ask("b", "two")), (200, 200));
    assert_eq!(house.known(), pairs([("a", "1"), ("b", "1")]), "the next stream is told again");
}

#[test]
fn a_refused_policy_without_one_before_denies_until_it_is_good() {
    let mut house = House::new();
    let bad = Policy { methods: vec![], ..policy("a", "one") };
    assert_eq!(house.take(vec![resource(&bad, "1")], &[]).len(), 1);
    assert_eq!(house.ask("a", "one"), 500);
    assert_eq!(house.known(), []);
    assert!(house.held.message().resources.is_empty());
    assert_eq!(house.take(vec![resource(&policy("b", "two"), "1")], &[]), [], "it is not refused over and over");
    assert_eq!((house.ask("a", "one"), house.ask("b", "two")), (500, 200));
    assert_eq!(house.take(vec![resource(&policy("a", "one"), "2")], &[]), []);
    assert_eq!(house.ask("a", "one"), 200);
}

#[test]
fn what_cannot_be_read_is_refused_without_quoting_it() {
    let mut house = House::new();
    house.take(vec![resource(&policy("a", "one"), "1")], &[]);
    let json = |json: &str| {
        let any = pack(&AuthPolicy { name: "a".into(), json: json.into() });
        Resource { name: "a".into(), version: "2".into(), resource: Some(any), ..Default::default() }
    };
    let garbage = Resource { resource: None, ..json("") };
    let other = Resource { name: "b".into(), ..json("{}") };
    for (resource, problem) in [
        (json(r#"{"name": "a", "methods": [{"apiKey": {"from": [], "keys": "s3cret"}}]}"#), "methods[0].apiKey.keys: "),
        (json(r#"{"name": "a", "methods": [], "later": "s3cret"}"#), "later: "),
        (json(r#"{"name": "b", "methods": []}"#), "its `name` is another one"),
        (garbage, "the resource is no `type"),
        (other, "the resource is no `type"),
    ] {
        let refusals = house.take(vec![resource], &[]);
        assert!(refusals[0].problem.starts_with(problem), "{refusals:?}");
        assert!(!refusals[0].problem.contains("s3cret"), "{refusals:?}");
        assert_eq!(house.ask("a", "one"), 200);
    }
    assert_eq!(house.known(), pairs([("a", "1")]));
}

#[test]
fn what_is_kept_is_what_is_in_force() {
    let mut house = House::new();
    house.take(vec![resource(&policy("a", "one"), "1"), resource(&policy("b", "two"), "7")], &[]);
    let mut next = House::new();
    assert_eq!(next.held.take(house.held.message(), &next.authorizer), []);
    assert_eq!((next.ask("a", "one"), next.ask("b", "two")), (200, 200));
    assert_eq!(next.known(), house.known());
}

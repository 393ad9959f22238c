//! What Envoy sends is what `ratelimit` counts: every descriptor of a route has a limit, and every limit is reached.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::BTreeSet;

use controller_core::{Settings, Snapshot, Translation, translate, xds::Type};
use envoy_types::pb::{
    envoy::{
        config::route::v3::{RateLimit, RouteConfiguration, rate_limit::action::ActionSpecifier},
        extensions::filters::http::ratelimit::v3::RateLimitPerRoute,
    },
    ratelimit::config::ratelimit::v3::RateLimitDescriptor,
};
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};

/// Domain, then key and value of each entry; the value is empty where each one counts by itself.
type Descriptor = (String, Vec<(String, String)>);

fn translated(rules: &[Value]) -> Translation {
    let gateway_api = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let backend_refs = json!([{"name": "app", "port": 80}]);
    let mut snapshot = Snapshot::default();
    for object in [
        gateway_api("GatewayClass", "eg", json!({"controllerName": Settings::default().controller_name})),
        gateway_api(
            "Gateway",
            "eg",
            json!({"gatewayClassName": "eg",
            "listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}, {"name": "b", "port": 81, "protocol": "HTTP"}]}),
        ),
        gateway_api(
            "HTTPRoute",
            "app",
            json!({"parentRefs": [{"name": "eg"}], "hostnames": ["a.example", "b.example"],
            "rules": [{"backendRefs": backend_refs}, {"matches": [{"path": {"value": "/x"}}], "backendRefs": backend_refs}]}),
        ),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"}, "spec": {"ports": [{"port": 80}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "app", "labels": {"kubernetes.io/service-name": "app"}},
            "ports": [{"port": 8080}], "endpoints": [{"addresses": ["10.0.0.1"]}]}),
        json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "BackendTrafficPolicy", "metadata": {"name": "p"},
            "spec": {"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "eg"}],
                "rateLimit": {"global": {"rules": rules}}}}),
    ] {
        snapshot.insert(object).unwrap();
    }
    translate(&snapshot, &Settings::default())
}

fn entry(action: &ActionSpecifier) -> (String, String) {
    match action {
        ActionSpecifier::GenericKey(one) => (one.descriptor_key.clone(), one.descriptor_value.clone()),
        ActionSpecifier::HeaderValueMatch(one) => (one.descriptor_key.clone(), one.descriptor_value.clone()),
        ActionSpecifier::QueryParameterValueMatch(one) => (one.descriptor_key.clone(), one.descriptor_value.clone()),
        ActionSpecifier::RequestHeaders(one) => (one.descriptor_key.clone(), String::new()),
        ActionSpecifier::QueryParameters(one) => (one.descriptor_key.clone(), String::new()),
        ActionSpecifier::RemoteAddressMatch(one) => {
            let value = if one.descriptor_value.starts_with('%') { "" } else { &one.descriptor_value };
            (one.descriptor_key.clone(), value.to_owned())
        }
        other => panic!("unexpected {other:?}"),
    }
}

fn sent(translation: &Translation) -> BTreeSet<Descriptor> {
    let mut sent = BTreeSet::new();
    let resources = translation.proxies.values().flat_map(|proxy| proxy.resources.of(Type::RouteConfiguration));
    for (_, resource) in resources {
        let configuration = RouteConfiguration::decode(resource.any.value.as_slice()).unwrap();
        let routes = configuration.virtual_hosts.iter().flat_map(|host| &host.routes);
        for (name, config) in routes.flat_map(|route| &route.typed_per_filter_config) {
            if !name.starts_with("envoy.filters.http.ratelimit") {
                continue;
            }
            let per_route = RateLimitPerRoute::decode(config.value.as_slice()).unwrap();
            let entries = |limit: &RateLimit| {
                limit.actions.iter().map(|action| entry(action.action_specifier.as_ref().unwrap())).collect()
            };
            sent.extend(per_route.rate_limits.iter().map(|limit| (per_route.domain.clone(), entries(limit))));
        }
    }
    sent
}

fn walk(domain: &str, path: &[(String, String)], level: &[RateLimitDescriptor], counted: &mut BTreeSet<Descriptor>) {
    for descriptor in level {
        let path = [path, &[(descriptor.key.clone(), descriptor.value.clone())]].concat();
        walk(domain, &path, &descriptor.descriptors, counted);
        if descriptor.rate_limit.is_some() {
            assert!(counted.insert((domain.to_owned(), path)), "two limits for one descriptor");
        }
    }
}

fn counted(translation: &Translation) -> BTreeSet<Descriptor> {
    let mut counted = BTreeSet::new();
    for config in translation.rate_limits.iter() {
        walk(&config.domain, &[], &config.descriptors, &mut counted);
    }
    counted
}

fn any_rule() -> impl Strategy<Value = Value> {
    let keyed = prop::sample::select(vec![
        json!({"name": "x", "type": "Distinct"}),
        json!({"name": "x", "value": "1"}),
        json!({"name": "x", "type": "RegularExpression", "value": "a+", "invert": true}),
    ]);
    let method = prop::sample::select(vec![json!({"value": "GET"}), json!({"value": "PUT", "invert": true})]);
    let path = prop::sample::select(vec![json!({"value": "/x"}), json!({"type": "Exact", "value": "/y"})]);
    let source = prop::sample::select(vec![
        json!({"value": "10.1.2.3/8"}),
        json!({"value": "10.0.0.0/8"}),
        json!({"value": "10.0.0.0/8", "type": "Distinct"}),
        json!({"value": "10.0.0.0/8", "invert": true}),
    ]);
    let selector = (
        prop::collection::vec(keyed.clone(), 0..3),
        prop::collection::vec(method, 0..3),
        prop::option::of(path),
        prop::option::of(source),
        prop::collection::vec(keyed, 0..2),
    )
        .prop_map(|(headers, methods, path, source, parameters)| {
            let mut selector = json!({"headers": headers, "methods": methods, "queryParams": parameters});
            selector["path"] = path.into();
            selector["sourceCIDR"] = source.into();
            selector
        })
        .prop_filter("a selector selects", |selector| {
            let lists =
                ["headers", "methods", "queryParams"].iter().any(|list| !selector[list].as_array().unwrap().is_empty());
            lists || !selector["path"].is_null() || !selector["sourceCIDR"].is_null()
        });
    (prop::collection::vec(selector, 0..3), 1..100_u32, any::<bool>()).prop_map(|(selectors, requests, shared)| {
        json!({"clientSelectors": selectors, "limit": {"requests": requests, "unit": "Hour"}, "shared": shared})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_descriptor_has_one_limit_and_every_limit_a_descriptor(rules in prop::collection::vec(any_rule(), 1..5)) {
        let translation = translated(&rules);
        let sent = sent(&translation);
        prop_assert!(!sent.is_empty());
        prop_assert_eq!(sent, counted(&translation));
    }

    #[test]
    fn no_rule_is_lost(rules in prop::collection::vec(any_rule(), 1..5)) {
        let shared = rules.iter().filter(|rule| rule["shared"] == true).count();
        // Two listeners with two hosts and two rules each.
        let routes = 8;
        prop_assert_eq!(counted(&translated(&rules)).len(), shared + routes * (rules.len() - shared));
    }
}

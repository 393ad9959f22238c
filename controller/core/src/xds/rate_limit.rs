//! Rate limit descriptors: what a rule is called and how Envoy tells that a request belongs to it.
//!
//! Both sides of a global limit come from here, what Envoy sends and what `ratelimit` counts, so that they cannot differ.
//! Keys are upstream's, with two exceptions. Two rules of a route on the same client addresses and nothing else, which
//! upstream gives the same keys and hence only the first one's limit, get keys of their own. And a shared rule is numbered
//! within its own policy even where that is merged with another, so that it has the same counter everywhere.

pub(crate) mod action;
mod config;

use std::collections::{BTreeMap, BTreeSet};

use controller_api::rate_limit::{
    KeyedMatch, KeyedMatchType, RateLimitRule, RateLimitSelectCondition, SourceMatchType,
};
use envoy_types::pb::envoy::config::route::v3::rate_limit::action::ActionSpecifier;
use ipnet::IpNet;

pub(crate) use self::config::{Root, configs, roots};
use crate::ir::{Action, HttpRoute};

/// One entry of a descriptor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Link {
    /// The entry's key.
    pub(crate) key: String,
    /// The entry's value; `None` counts each value by itself.
    pub(crate) value: Option<String>,
    /// What makes Envoy add the entry: any one of these.
    pub(crate) actions: Vec<ActionSpecifier>,
}

impl Link {
    /// An entry whose value is its key, as most are.
    fn named(key: String, action: impl FnOnce(&str) -> Vec<ActionSpecifier>) -> Self {
        let actions = action(&key);
        Self { value: Some(key.clone()), key, actions }
    }
}

/// A global limit on one route.
#[derive(Clone, Debug)]
pub(crate) struct Limit<'a> {
    /// The listener, or the policy of a shared rule.
    pub(crate) domain: String,
    /// Key and value of the first entry: the route, or the shared rule.
    pub(crate) root: String,
    /// The other entries.
    pub(crate) links: Vec<Link>,
    /// What it comes from.
    pub(crate) rule: &'a RateLimitRule,
}

/// The global limits on a route of the listener of this name, none unless it forwards requests.
pub(crate) fn global<'a>(listener: &str, route: &'a HttpRoute) -> Vec<Limit<'a>> {
    let (Action::Forward(_), Some(traffic)) = (&route.action, &route.traffic) else { return Vec::new() };
    let rules = traffic.spec.rate_limit.as_ref().and_then(|limits| limits.global());
    let rules = rules.map(|global| global.rules.as_slice()).unwrap_or_default();
    let mut shared: BTreeMap<&str, usize> = BTreeMap::new();
    let mut own = 0..;
    let mut chains = BTreeSet::new();
    let mut limits = Vec::new();
    for (rule, name) in rules.iter().zip(&traffic.global_rule_names) {
        if rule.shared == Some(true) {
            let policy = name.rsplit_once("/rule/").map_or(name.as_str(), |(policy, _)| policy);
            let number = shared.entry(policy).or_default();
            let links = links(rule, *number, "");
            *number += 1;
            limits.push(Limit { domain: policy.to_owned(), root: name.clone(), links, rule });
        } else if let Some(number) = own.next() {
            let mut links_of_rule = links(rule, number, "");
            if !chains.insert(entries(&links_of_rule)) {
                links_of_rule = links(rule, number, &format!("rule-{number}-"));
            }
            limits.push(Limit { domain: listener.to_owned(), root: route.name.clone(), links: links_of_rule, rule });
        }
    }
    limits
}

/// The entries of a rule of a local limit, which is the `number`th of those with selectors.
pub(crate) fn local(rule: &RateLimitRule, number: usize) -> Vec<Link> {
    let mut links = links(rule, number, &format!("rule-{number}-"));
    for link in &mut links {
        // The one place where upstream spells local keys differently.
        if link.key.ends_with("remote_address") {
            link.key = link.key.replace('_', "-");
            let key = link.key.clone();
            for action in &mut link.actions {
                if let ActionSpecifier::RemoteAddressMatch(matching) = action {
                    matching.descriptor_key.clone_from(&key);
                }
            }
        }
    }
    links
}

fn entries(links: &[Link]) -> Vec<(String, Option<String>)> {
    links.iter().map(|link| (link.key.clone(), link.value.clone())).collect()
}

/// The entries of a rule: headers, method, path, client address, query parameters. Of several paths and of several ranges
/// of addresses the last one counts, as it does upstream. Keys of addresses begin with `address_prefix`.
fn links(rule: &RateLimitRule, number: usize, address_prefix: &str) -> Vec<Link> {
    let selectors = &rule.client_selectors;
    let mut links = Vec::new();
    let headers: Vec<_> = selectors.iter().flat_map(|selector| &selector.headers).collect();
    for (index, header) in headers.iter().enumerate() {
        links.push(keyed(format!("rule-{number}-match-{index}"), header, action::header, action::header_value));
    }
    let methods: Vec<_> = selectors.iter().flat_map(|selector| &selector.methods).collect();
    if !methods.is_empty() {
        links.push(Link::named(format!("rule-{number}-method"), |key| action::methods(key, &methods)));
    }
    if let Some(path) = last(selectors, |selector| selector.path.as_ref()) {
        links.push(Link::named(format!("rule-{number}-path"), |key| vec![action::path(key, path)]));
    }
    if let Some(source) = last(selectors, |selector| selector.source_cidr.as_ref())
        && let Ok(range) = source.value.parse::<IpNet>()
    {
        let invert = source.invert == Some(true);
        let key = format!("{address_prefix}masked_remote_address");
        let value = if invert { format!("invert:{range}") } else { range.to_string() };
        let actions = vec![action::address(&key, &value, range, invert)];
        links.push(Link { key, value: Some(value), actions });
        if source.kind == Some(SourceMatchType::Distinct) {
            let key = format!("{address_prefix}remote_address");
            let actions = vec![action::address(&key, action::CLIENT_ADDRESS, range, invert)];
            links.push(Link { key, value: None, actions });
        }
    }
    let parameters = selectors.iter().flat_map(|selector| &selector.query_params);
    for (index, parameter) in parameters.enumerate() {
        let key = format!("rule-{number}-match-{}", headers.len() + index);
        links.push(keyed(key, parameter, action::query_parameter, action::query_parameter_value));
    }
    if links.is_empty() {
        links.push(Link::named(format!("rule-{number}-match--1"), |key| vec![action::always(key)]));
    }
    links
}

fn last<T>(
    selectors: &[RateLimitSelectCondition],
    field: impl Fn(&RateLimitSelectCondition) -> Option<&T>,
) -> Option<&T> {
    selectors.iter().rev().find_map(field)
}

fn keyed(
    key: String,
    matching: &KeyedMatch,
    distinct: fn(&str, &str) -> ActionSpecifier,
    value: fn(&str, &KeyedMatch) -> ActionSpecifier,
) -> Link {
    if matching.kind == Some(KeyedMatchType::Distinct) {
        let actions = vec![distinct(&key, &matching.name)];
        return Link { key, value: None, actions };
    }
    Link::named(key, |key| vec![value(key, matching)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn rule(rule: serde_json::Value) -> RateLimitRule {
        serde_json::from_value(rule).unwrap()
    }

    fn keys(links: &[Link]) -> Vec<&str> {
        links.iter().map(|link| link.key.as_str()).collect()
    }

    #[test]
    fn local_keys_are_the_rules_own() {
        let rule = rule(json!({
            "clientSelectors": [{"sourceCIDR": {"type": "Distinct", "value": "10.0.0.0/8"}, "methods": [{"value": "GET"}]}],
            "limit": {"requests": 1, "unit": "Hour"},
        }));
        let links = local(&rule, 2);
        assert_eq!(keys(&links), ["rule-2-method", "rule-2-masked-remote-address", "rule-2-remote-address"]);
        assert_eq!(links[1].value.as_deref(), Some("10.0.0.0/8"));
        assert_eq!(links[2].value, None);
        let ActionSpecifier::RemoteAddressMatch(action) = &links[1].actions[0] else { panic!("no address") };
        assert_eq!(action.descriptor_key, "rule-2-masked-remote-address");
    }

    #[test]
    fn a_request_meets_at_most_one_of_the_methods() {
        let count = |methods: serde_json::Value| {
            let rule = rule(json!({
                "clientSelectors": [{"methods": methods}], "limit": {"requests": 1, "unit": "Hour"},
            }));
            links(&rule, 0, "")[0].actions.len()
        };
        assert_eq!(count(json!([{"value": "GET"}, {"value": "PUT"}, {"value": "GET"}])), 2);
        assert_eq!(count(json!([{"value": "GET", "invert": true}, {"value": "PUT"}])), 1);
        assert_eq!(count(json!([{"value": "GET", "invert": true}, {"value": "PUT", "invert": true}])), 1);
    }

    #[test]
    fn of_several_paths_and_ranges_the_last_counts() {
        let rule = rule(json!({
            "clientSelectors": [
                {"path": {"value": "/a"}, "sourceCIDR": {"value": "10.0.0.0/8"}},
                {"path": {"value": "/b"}, "sourceCIDR": {"value": "11.0.0.0/8", "invert": true}},
                {"headers": [{"name": "x", "value": "y"}]},
            ],
            "limit": {"requests": 1, "unit": "Hour"},
        }));
        let links = links(&rule, 0, "");
        assert_eq!(keys(&links), ["rule-0-match-0", "rule-0-path", "masked_remote_address"]);
        assert_eq!(links[2].value.as_deref(), Some("invert:11.0.0.0/8"));
    }
}

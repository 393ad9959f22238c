//! Policies attach, win, lose, merge and report as upstream has it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use controller_core::{
    Settings, Translation,
    ir::{Action, HttpRoute},
};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{conditions, route, routes, security, target, traffic, translated, translated_with};

#[path = "support/policies.rs"]
mod support;

/// The policy that is in force, by rule of the route `app` on the listeners of both Gateways.
fn winners(translation: &Translation) -> Vec<(String, String)> {
    let named = |(listener, route): (String, &HttpRoute)| {
        let winner = route.traffic.as_ref().map_or("-", |traffic| traffic.policy.name.as_str());
        let rule = route.rule_name.clone().unwrap_or_default();
        (format!("{listener} {rule}").trim_end().to_owned(), winner.to_owned())
    };
    let mut winners: Vec<_> = routes(translation).into_iter().map(named).collect();
    winners.sort();
    winners
}

#[test]
fn the_most_specific_policy_wins_wholesale() {
    let translation = translated([
        traffic("gateway", &format!("{}, timeout: {{http: {{requestTimeout: 9s}}}}", target("Gateway", "gw", ""))),
        traffic("listener", &target("Gateway", "gw", "b")),
        traffic("route", &target("HTTPRoute", "app", "")),
        traffic("rule", &target("HTTPRoute", "app", "one")),
    ]);
    let expected = [
        ("default/gw/a", "gateway"),
        ("default/gw/a one", "rule"),
        ("default/gw/a two", "route"),
        ("default/gw/b one", "rule"),
        ("default/gw/b two", "route"),
        ("default/other/a one", "rule"),
        ("default/other/a two", "route"),
    ];
    assert_eq!(winners(&translation), expected.map(|(route, winner)| (route.to_owned(), winner.to_owned())));
    let rule = route(&translation, "default/gw/a", "httproute/default/app/rule/0").traffic.as_ref().unwrap();
    assert_eq!(rule.spec.timeout, None, "an empty policy switches off what it would inherit");

    let accepted = "Accepted=True/Accepted: Policy has been accepted.";
    assert_eq!(conditions(&translation, "rule"), [format!("gw|{accepted}"), format!("other|{accepted}")]);
    let overridden = "Overridden=True/Overridden: This policy is being overridden by other";
    assert_eq!(
        conditions(&translation, "route")[1],
        format!("gw|{overridden} backendTrafficPolicy for these route rules: [one]")
    );
    assert_eq!(
        conditions(&translation, "listener")[1],
        format!("gw/b|{overridden} backendTrafficPolicies for these routes: [default/app]")
    );
    assert_eq!(
        conditions(&translation, "gateway")[1],
        format!(
            "gw|{overridden} backendTrafficPolicies for these gateway listeners: [default/gw/b] and these routes: \
             [default/app]"
        )
    );
}

#[test]
fn a_decision_names_the_winner_and_every_loser_with_the_reason() {
    let translation = translated([
        traffic("gateway", &target("Gateway", "gw", "")),
        traffic("late", &target("Gateway", "gw", "")),
        traffic("rule", &target("HTTPRoute", "app", "one")),
    ]);
    let decision =
        translation.decisions.iter().find(|one| &*one.listener == "default/gw/a" && one.winner.name == "rule");
    let decision = decision.unwrap();
    assert_eq!(decision.reason, "targets rule one of the route");
    let losers: Vec<_> =
        decision.losers.iter().map(|(policy, reason)| (policy.name.as_str(), reason.as_ref())).collect();
    assert_eq!(
        losers,
        [
            ("gateway", "targets Gateway default/gw, which is less specific"),
            ("late", "BackendTrafficPolicy default/gateway has the same target and was there first"),
        ]
    );
}

#[test]
fn conflicts_missing_sections_and_missing_targets() {
    let translation = translated([
        security("a", &target("HTTPRoute", "app", "")),
        security("b", &target("HTTPRoute", "app", "")),
        security("c", &target("HTTPRoute", "app", "three")),
        security("d", &target("Gateway", "gw", "c")),
        security("e", &target("HTTPRoute", "nowhere", "")),
    ]);
    assert_eq!(
        conditions(&translation, "b")[0],
        "gw|Accepted=False/Conflicted: Unable to target HTTPRoute app, another SecurityPolicy has already attached to it"
    );
    let missing = "Accepted=False/TargetNotFound: No section name";
    assert_eq!(conditions(&translation, "c")[0], format!("gw|{missing} three found for HTTPRoute default/app"));
    assert_eq!(conditions(&translation, "d"), [format!("gw/c|{missing} c found for Gateway default/gw")]);
    assert_eq!(conditions(&translation, "e"), Vec::<String>::new());
    assert_eq!(conditions(&translation, "a").len(), 2, "a section that is not there overrides nothing");
}

#[test]
fn the_older_policy_keeps_a_target() {
    let mut old = traffic("z-old", &target("Gateway", "gw", ""));
    old["metadata"]["creationTimestamp"] = json!("2020-01-01T00:00:00Z");
    let mut new = traffic("a-new", &target("Gateway", "gw", ""));
    new["metadata"]["creationTimestamp"] = json!("2021-01-01T00:00:00Z");
    let translation = translated([new, old]);
    assert_eq!(winners(&translation)[0].1, "z-old");
    assert!(conditions(&translation, "a-new")[0].contains("Conflicted"));
}

#[test]
fn a_selector_finds_routes_by_label() {
    let selector = |labels: &str| format!("targetSelectors: [{{kind: HTTPRoute, matchLabels: {{team: {labels}}}}}]");
    let translation = translated([traffic("mine", &selector("x")), traffic("none", &selector("other"))]);
    assert_eq!(winners(&translation)[0], ("default/gw/a".to_owned(), "-".to_owned()));
    assert_eq!(winners(&translation)[1], ("default/gw/a one".to_owned(), "mine".to_owned()));
    assert_eq!(conditions(&translation, "none"), Vec::<String>::new());
}

#[test]
fn a_merge_takes_the_policy_of_the_listener_or_gateway_in() {
    let rule = |name: &str| {
        format!(
            "{{clientSelectors: [{{headers: [{{name: {name}, type: Distinct}}]}}], limit: {{requests: 1, unit: Hour}}}}"
        )
    };
    let limits = |name: &str| format!("rateLimit: {{global: {{rules: [{}]}}}}", rule(name));
    let gateway = format!(
        "{}, {}, timeout: {{tcp: {{connectTimeout: 3s}}, http: {{requestTimeout: 9s}}}}",
        target("Gateway", "gw", ""),
        limits("x-parent")
    );
    let child = |merge: &str| {
        format!(
            "{}, mergeType: {merge}, {}, timeout: {{http: {{requestTimeout: 1s}}}}",
            target("HTTPRoute", "app", ""),
            limits("x-child")
        )
    };
    for (merge, names) in [
        ("StrategicMerge", vec!["default/child/rule/0", "default/gateway/rule/0"]),
        ("JSONMerge", vec!["default/child/rule/0"]),
    ] {
        let translation = translated([traffic("gateway", &gateway), traffic("child", &child(merge))]);
        let merged = route(&translation, "default/gw/a", "httproute/default/app/rule/0").traffic.clone().unwrap();
        assert_eq!(merged.policy.name, "child");
        assert_eq!(merged.global_rule_names, names, "{merge}");
        let timeout = serde_json::to_value(&merged.spec.timeout).unwrap();
        assert_eq!(timeout, json!({"tcp": {"connectTimeout": "3s"}, "http": {"requestTimeout": "1s"}}));
        let alone = route(&translation, "default/other/a", "httproute/default/app/rule/0").traffic.clone().unwrap();
        assert_eq!(alone.global_rule_names, ["default/child/rule/0"]);

        let accepted = "Accepted=True/Accepted: Policy has been accepted.";
        let merged = "Merged=True/Merged: Merged with policy default/gateway";
        assert_eq!(
            conditions(&translation, "child"),
            [format!("gw/a|{merged}"), format!("gw/b|{merged}"), format!("gw|{accepted}"), format!("other|{accepted}"),]
        );
        assert_eq!(
            conditions(&translation, "gateway")[1],
            "gw|Merged=True/Merged: This policy is being merged by other backendTrafficPolicies for these routes: [default/app]"
        );
        assert_eq!(conditions(&translation, "gateway").len(), 2, "a merged route overrides nothing");
    }
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    for (rules, message) in [
        (
            "local: {rules: [{limit: {requests: 1, unit: Hour}}, {limit: {requests: 2, unit: Hour}}]}",
            "RateLimit: local rateLimit can not have more than one rule without clientSelectors.",
        ),
        (
            "local: {rules: [{limit: {requests: 1, unit: Hour}}, {clientSelectors: [{methods: [{value: GET}]}], limit: {requests: 2, unit: Minute}}]}",
            "local.rules[1].limit.unit must be a multiple",
        ),
        (
            "global: {rules: [{clientSelectors: [{sourceCIDR: {value: 10.0.0.0}}], limit: {requests: 1, unit: Hour}}]}",
            "\"10.0.0.0\" is no CIDR",
        ),
        (
            "global: {rules: [{clientSelectors: [{headers: [{name: x, type: RegularExpression, value: '('}]}], limit: {requests: 1, unit: Hour}}]}",
            "spec.rateLimit.global.rules[0].clientSelectors[0].headers[0].value: regex",
        ),
        (
            "global: {rules: [{limit: {requests: 1, unit: Fortnight}}]}",
            "spec.rateLimit.global.rules[0].limit.unit: unknown variant `Fortnight`",
        ),
    ] {
        let translation =
            translated([traffic("limits", &format!("{}, rateLimit: {{{rules}}}", target("Gateway", "gw", "")))]);
        let condition = &conditions(&translation, "limits")[0];
        assert!(condition.contains("Accepted=False/Invalid") && condition.contains(message), "{condition}");
        let closed = route(&translation, "default/gw/a", "httproute/default/app/rule/0");
        assert_eq!(closed.action, Action::Respond { status: 500, body: String::new(), format: false });
    }
}

#[test]
fn global_limits_need_the_service() {
    let settings = Settings { rate_limit: None, ..Settings::default() };
    let spec = format!(
        "{}, rateLimit: {{global: {{rules: [{{limit: {{requests: 1, unit: Hour}}}}]}}}}",
        target("Gateway", "gw", "")
    );
    let translation = translated_with(&settings, [traffic("limits", &spec)]);
    assert_eq!(
        conditions(&translation, "limits")[0],
        "gw|Accepted=False/Invalid: RateLimit: enable Ratelimit in the EnvoyGateway config to configure global rateLimit."
    );
}

#[test]
fn what_has_no_effect_is_said() {
    let spec = "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: gw}, loadBalancer: {type: Random}";
    let translation = translated([traffic("balanced", spec)]);
    assert_eq!(
        conditions(&translation, "balanced")[1],
        "gw|Warning=True/Warnings: spec.loadBalancer is not supported yet and has no effect; \
         spec.targetRef is deprecated, use spec.targetRefs instead"
    );
}

/// A policy's level, from the most specific, its age and its name.
fn any_policy() -> impl Strategy<Value = (usize, i64, String)> {
    (0..4_usize, 0..3_i64, "[a-d]")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_winner_does_not_depend_on_the_order_of_the_input(
        policies in prop::collection::btree_map("[a-f]", any_policy(), 1..6),
        seed in any::<prop::sample::Index>(),
    ) {
        let levels = [("HTTPRoute", "app", "one"), ("HTTPRoute", "app", ""), ("Gateway", "gw", "a"), ("Gateway", "gw", "")];
        let mut objects: Vec<_> = policies.iter().map(|(name, (level, age, _))| {
            let (kind, object, section) = levels[*level];
            let mut policy = traffic(name, &target(kind, object, section));
            policy["metadata"]["creationTimestamp"] = json!(format!("202{}-01-01T00:00:00Z", 9 - age));
            policy
        }).collect();
        let middle = seed.index(objects.len());
        objects.rotate_left(middle);
        let expected = policies.iter().min_by_key(|(name, (level, age, _))| (*level, -age, (*name).clone())).unwrap();
        let translation = translated(objects);
        let winner = route(&translation, "default/gw/a", "httproute/default/app/rule/0").traffic.clone().unwrap();
        prop_assert_eq!(&winner.policy.name, expected.0);
    }
}

#[test]
fn a_shared_limit_is_counted_once_however_many_gateways_carry_it() {
    let spec = "rateLimit: {global: {rules: [{limit: {requests: 7, unit: Hour}, shared: true}, \
                {limit: {requests: 1, unit: Hour}}]}}";
    let translation = translated([traffic("limits", &format!("{}, {spec}", target("HTTPRoute", "app", "one")))]);
    let domains: Vec<_> = translation.rate_limits.iter().map(|config| config.domain.as_str()).collect();
    assert_eq!(domains, ["default/gw/a", "default/gw/b", "default/limits", "default/other/a"]);
    let shared = translation.rate_limits.iter().find(|config| config.domain == "default/limits").unwrap();
    let [rule] = shared.descriptors.as_slice() else { panic!("one rule") };
    assert_eq!(rule.key, "default/limits/rule/0");
    assert_eq!(rule.descriptors[0].rate_limit.as_ref().unwrap().requests_per_unit, 7);
}

#[test]
fn two_limits_on_the_same_addresses_both_hold() {
    let rule = |requests| {
        format!(
            "{{clientSelectors: [{{sourceCIDR: {{value: 10.0.0.0/8}}}}], limit: {{requests: {requests}, unit: Hour}}}}"
        )
    };
    let spec = format!("rateLimit: {{global: {{rules: [{}, {}]}}}}", rule(5), rule(9));
    let translation = translated([traffic("limits", &format!("{}, {spec}", target("HTTPRoute", "plain", "")))]);
    let limits: Vec<_> = translation.rate_limits[0].descriptors[0]
        .descriptors
        .iter()
        .map(|limit| (limit.key.as_str(), limit.rate_limit.as_ref().unwrap().requests_per_unit))
        .collect();
    assert_eq!(limits, [("masked_remote_address", 5), ("rule-1-masked_remote_address", 9)]);
}

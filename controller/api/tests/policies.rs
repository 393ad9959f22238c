//! Manifests become types, and what cannot be read stays a policy that says why.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use controller_api::{
    backend::Backend,
    backend_traffic_policy::BackendTrafficPolicy,
    http_route_filter::HttpRouteFilter,
    policy::MergeType,
    rate_limit::{KeyedMatchType, RateLimitUnit},
    security_policy::SecurityPolicy,
};
use kube::{CustomResourceExt, core::Resource};

fn security_policy(spec: &str) -> SecurityPolicy {
    let head = "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {name: a, namespace: b}\n";
    serde_saphyr::from_str(&format!("{head}spec:\n{spec}")).unwrap()
}

#[test]
fn a_rate_limit_is_read_in_full() {
    let policy: BackendTrafficPolicy = serde_saphyr::from_str(
        r"
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: limits, namespace: default}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: app}]
  mergeType: JSONMerge
  rateLimit:
    global:
      rules:
      - clientSelectors:
        - headers: [{name: x-user-id, type: Distinct}]
          sourceCIDR: {value: 10.0.0.0/8}
          methods: [{value: GET}]
        limit: {requests: 3, unit: Hour}
        shared: true
  timeout: {http: {requestTimeout: 1m30s}}
  loadBalancer: {type: RoundRobin}
",
    )
    .unwrap();
    assert_eq!(policy.spec.malformed, None);
    assert_eq!(policy.spec.targets.merge_type, Some(MergeType::JSONMerge));
    let rule = &policy.spec.rate_limit.as_ref().unwrap().global().unwrap().rules[0];
    assert_eq!(rule.client_selectors[0].headers[0].kind, Some(KeyedMatchType::Distinct));
    assert_eq!(rule.client_selectors[0].source_cidr.as_ref().unwrap().value, "10.0.0.0/8");
    assert_eq!((rule.limit.requests, rule.limit.unit, rule.shared), (3, RateLimitUnit::Hour, Some(true)));
    let timeout = policy.spec.timeout.as_ref().unwrap().http.as_ref().unwrap().request_timeout.unwrap();
    assert_eq!(timeout.as_millis(), 90_000);
    assert_eq!(policy.spec.unsupported.keys().collect::<Vec<_>>(), ["loadBalancer"]);
}

#[test]
fn what_is_read_is_written_back() {
    let policy = security_policy(
        r"
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: app, sectionName: one}]
  jwt: {providers: [{name: idp, localJWKS: {inline: '{}'}, extractFrom: {headers: [{name: x-token, valuePrefix: 'Token '}]}}]}
  apiKeyAuth: {credentialRefs: [{name: keys}], extractFrom: [{headers: [x-api-key]}], forwardClientIDHeader: x-client}
  authorization: {rules: [{action: Allow, principal: {clientCIDRs: [10.0.0.0/8]}}]}
  passkeys: {provider: {issuer: https://a.example}}
",
    );
    let value = serde_json::to_value(&policy).unwrap();
    assert_eq!(value["spec"]["passkeys"]["provider"]["issuer"], "https://a.example");
    assert_eq!(value["spec"]["targetRefs"][0]["sectionName"], "one");
    assert_eq!(serde_json::from_value::<SecurityPolicy>(value).unwrap().spec, policy.spec);
}

#[test]
fn a_field_that_cannot_be_read_leaves_a_policy_with_targets() {
    for (field, expected) in [
        (
            "cors: {maxAge: tomorrow}",
            r#"spec.cors.maxAge: invalid duration "tomorrow", expected one such as 10s, 1m30s or 500ms"#,
        ),
        (
            "authorization: {rules: [{action: Maybe}]}",
            "spec.authorization.rules[0].action: unknown variant `Maybe`, expected `Allow` or `Deny`",
        ),
        ("jwt: {providers: idp}", "spec.jwt.providers: invalid type: string \"idp\", expected a sequence"),
    ] {
        let policy = security_policy(&format!(
            "  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: app}}]\n  {field}\n"
        ));
        assert_eq!(policy.spec.malformed.as_deref(), Some(expected));
        assert_eq!(policy.spec.targets.target_refs[0].name, "app");
    }
}

#[test]
fn a_field_without_a_value_is_not_there() {
    let policy = security_policy("  targetRefs: []\n  oidc:\n  cors: ~\n");
    assert!(policy.spec.unsupported.is_empty() && policy.spec.malformed.is_none());
}

#[test]
fn a_policy_without_readable_targets_is_no_policy() {
    let text =
        "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {name: a}\nspec: {targetRefs: 7}";
    let error = serde_saphyr::from_str::<SecurityPolicy>(text).unwrap_err();
    assert!(error.to_string().contains("targetRefs"), "{error}");
}

#[test]
fn definitions_are_upstreams_names_and_keep_unknown_fields() {
    assert_eq!(Backend::crd().spec.names.plural, "backends");
    assert_eq!(BackendTrafficPolicy::plural(&()), "backendtrafficpolicies");
    let crd = serde_json::to_value(SecurityPolicy::crd()).unwrap();
    assert_eq!(crd["metadata"]["name"], "securitypolicies.gateway.envoyproxy.io");
    let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    assert_eq!(spec["x-kubernetes-preserve-unknown-fields"], true, "the API server would drop passkeys unseen");
    assert!(spec["properties"]["targetRefs"].is_object());
    assert!(spec["properties"]["apiKeyAuth"]["properties"]["forwardClientIDHeader"].is_object());
}

/// What a schema does not name, the API server takes away before anybody can refuse it.
#[test]
fn fields_that_are_refused_are_kept() {
    for (crd, path) in [
        (Backend::crd(), "tls/properties/fingerprints"),
        (SecurityPolicy::crd(), "jwt/properties/providers/items/properties/remoteJWKS/properties/backendRef"),
        (SecurityPolicy::crd(), "oidc/properties/provider/properties/backendRef"),
        (HttpRouteFilter::crd(), "directResponse/properties/header/properties/remove"),
    ] {
        let crd = serde_json::to_value(crd).unwrap();
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        assert!(crd.pointer(&format!("{spec}/{path}")).is_some(), "{path}");
    }
}

//! Which policy answers, and what happens when none can.

use std::time::UNIX_EPOCH;

use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use extauth::check::{Check, Error};
use extauth::policy::Policies;
use proto::extauth::{Method, Policy};

use crate::support::{Answer, Issuer, Service, api_keys, key, request, request_to, resources, wait};

fn policy(name: &str, methods: Vec<Method>) -> Policy {
    Policy { name: name.into(), methods, ..Policy::default() }
}

fn keys() -> Method {
    Method::ApiKey(api_keys(vec![key("a-key", "acme")]))
}

fn ask(policies: &Policies, request: &CheckRequest) -> Answer {
    Answer::of(wait(policies.check(&Check::new(request, UNIX_EPOCH).unwrap())).into())
}

fn named(policy: Option<&str>) -> CheckRequest {
    let mut request = request(&[("x-api-key", "a-key")]);
    let extensions = &mut request.attributes.as_mut().unwrap().context_extensions;
    extensions.clear();
    extensions.extend(policy.map(|name| ("policy".to_owned(), name.to_owned())));
    request
}

#[test]
fn e3_a_route_without_a_known_policy_is_closed() {
    let open = Policy { optional: true, ..policy("guard", vec![keys()]) };
    let policies = Policies::compile(&[open], &resources()).unwrap();
    assert_eq!(ask(&policies, &named(Some("guard"))).status, 200);
    for name in [None, Some(""), Some("other"), Some("Guard"), Some("guard ")] {
        let answer = ask(&policies, &named(name));
        assert_eq!((answer.status, answer.body.as_str()), (403, "Forbidden"), "{name:?}");
    }
    assert_eq!(ask(&Policies::default(), &named(Some("guard"))).status, 403);
}

#[test]
fn e3_a_client_cannot_choose_its_policy() {
    let open = Policy { optional: true, ..policy("open", vec![keys()]) };
    let policies = Policies::compile(&[open, policy("guard", vec![keys()])], &resources()).unwrap();
    let answer = ask(&policies, &request(&[("policy", "open"), ("x-envoy-auth-policy", "open")]));
    assert_eq!(answer.status, 401);
}

#[test]
fn a7_a8_cve_2026_40575_what_a_client_says_about_its_path_or_itself_opens_nothing() {
    let service = Service::new(vec![keys()]);
    for header in ["x-forwarded-uri", "x-original-url", "x-original-uri", "x-envoy-original-path", "x-forwarded-host"] {
        assert_eq!(service.ask(&request(&[(header, "/healthz")])).status, 401, "{header}");
    }
    for agent in ["GoogleHC/1.0", "kube-probe/1.33", "ELB-HealthChecker/2.0"] {
        assert_eq!(service.ask(&request(&[("user-agent", agent)])).status, 401, "{agent}");
    }
    assert_eq!(service.ask(&request(&[("x-http-method-override", "OPTIONS")])).status, 401);
}

#[test]
fn a1_a5_no_path_is_open() {
    let service = Service::new(vec![keys()]);
    for path in ["//admin", "/./", "/%2e%2e/", "/a?path=/status", "/private#/public", "/private%23/public", "*", ""] {
        assert_eq!(service.ask(&request_to(path, &[])).status, 401, "{path}");
    }
}

#[test]
fn a_check_without_a_request_is_no_check() {
    let empty = CheckRequest { attributes: Some(AttributeContext::default()) };
    for request in [CheckRequest::default(), empty] {
        assert_eq!(Check::new(&request, UNIX_EPOCH).unwrap_err(), Error::NoRequest);
    }
}

#[test]
fn e6_a_denial_tells_nothing_about_the_configuration() {
    let service = Service::new(vec![Method::Jwt(Issuer::new("EdDSA").provider()), keys()]);
    let requests = [request(&[]), request(&[("x-api-key", "wrong")]), request(&[("authorization", "Bearer a.b.c")])];
    for request in &requests {
        let answer = service.ask(request);
        let said = format!("{} {:?}", answer.body, answer.challenge);
        for secret in ["guard", "acme", "main", "issuer.example.com", "key-1", "sha256"] {
            assert!(!said.contains(secret), "{said}");
        }
    }
}

#[test]
fn every_method_says_how_it_wants_to_be_asked() {
    let answer = Service::new(vec![Method::Jwt(Issuer::new("EdDSA").provider()), keys()]).ask(&request(&[]));
    assert_eq!(answer.body, "Jwt is missing");
    assert_eq!(answer.challenge.as_deref(), Some("Bearer realm=\"http://shop.example.com/orders\", ApiKey"));
}

#[test]
fn one_broken_policy_stops_all_of_a_file() {
    let error = |policies: &[Policy]| Policies::compile(policies, &resources()).unwrap_err().to_string();
    let good = policy("good", vec![keys()]);
    assert_eq!(
        error(&[good.clone(), policy("bare", Vec::new())]),
        "policy `bare`: methods: is empty: a policy needs at least one method"
    );
    assert_eq!(error(&[good.clone(), good.clone()]), "policy `good`: name: another policy has the same name");
    assert_eq!(error(&[policy("", vec![keys()])]), "policy ``: name: is empty");
}

#[test]
fn a_broken_policy_of_the_controllers_denies_alone() {
    let good = Policy { optional: true, ..policy("good", vec![keys()]) };
    let broken = Policy { optional: true, ..policy("broken", Vec::new()) };
    let twice = [good.clone(), broken, policy("twice", vec![keys()]), policy("twice", vec![keys()])];
    let (policies, errors) = Policies::compile_each(&twice, &resources());
    assert_eq!(
        errors.iter().map(|error| (error.policy.as_str(), error.index)).collect::<Vec<_>>(),
        [("broken", 1), ("twice", 3)]
    );
    assert_eq!(ask(&policies, &named(Some("good"))).status, 200);
    for name in ["broken", "twice"] {
        let answer = ask(&policies, &named(Some(name)));
        assert_eq!((answer.status, answer.body.as_str()), (500, "Internal Server Error"), "{name}");
    }
}

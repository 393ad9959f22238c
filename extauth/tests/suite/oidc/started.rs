//! Nobody fills the store with logins that never end.

use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use extauth::check::Check;
use extauth::policy::Policies;
use proto::extauth::{Oidc, StartedLogins};

use super::forger::Forger;
use super::{oidc, policy};
use crate::attempts::from;
use crate::support::{request_to, resources};

const PAGE: [(&str, &str); 3] =
    [("accept", "text/html"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];

fn navigation(address: &str) -> CheckRequest {
    let mut request = from(address, request_to("/", &PAGE));
    let http = request.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    http.method = "GET".into();
    http.scheme = "https".into();
    http.host = "shop.example.com".into();
    request
}

/// Status and `Retry-After` of a navigation so many seconds from now.
async fn ask(policies: &Policies, address: &str, seconds: u64) -> (i32, Option<u64>) {
    let request = navigation(address);
    let check = Check::new(&request, SystemTime::now() + Duration::from_secs(seconds)).unwrap();
    let response: envoy_types::pb::envoy::service::auth::v3::CheckResponse = policies.check(&check).await.into();
    let Some(HttpResponse::DeniedResponse(denied)) = response.http_response else { panic!("{response:?}") };
    let header = |name: &str| {
        let headers = denied.headers.iter().filter_map(|option| option.header.as_ref());
        headers.clone().find(|header| header.key == name).map(|header| header.value.clone())
    };
    let status = denied.status.unwrap().code;
    assert_eq!(header("location").is_some(), status == 302, "nothing else leads anywhere");
    (status, header("retry-after").map(|text| text.parse().unwrap()))
}

#[tokio::test]
async fn k6_logins_that_are_started_are_bounded_by_address_in_all_and_in_time() {
    let forger = Forger::start().await;
    let resources = resources();
    let bounds = StartedLogins { per_address: 5, total: 12, trusted_hops: 0 };
    let guarded = Oidc { started_logins: bounds, csrf_token_ttl_seconds: 60, ..oidc(&forger.issuer) };
    let policies = Policies::compile(&[policy(guarded.clone())], &resources).unwrap();
    for _ in 0..5 {
        assert_eq!(ask(&policies, "192.0.2.1", 0).await.0, 302);
    }
    let (status, retry) = ask(&policies, "192.0.2.1", 10).await;
    assert!(status == 429 && retry.is_some_and(|seconds| (40..=60).contains(&seconds)), "{status} {retry:?}");
    for _ in 0..5 {
        assert_eq!(ask(&policies, "2001:db8::1", 0).await.0, 302, "others may");
    }
    assert_eq!(ask(&policies, "2001:db8::ffff", 0).await.0, 429, "the same network of 64 bits");
    // A policy that changes forgets nothing.
    let policies = Policies::compile(&[policy(guarded)], &resources).unwrap();
    assert_eq!(ask(&policies, "192.0.2.1", 0).await.0, 429);
    for number in 3..5 {
        assert_eq!(ask(&policies, &format!("192.0.2.{number}"), 0).await.0, 302);
    }
    assert_eq!(ask(&policies, "192.0.2.9", 0).await.0, 429, "in all, whoever it is");
    assert_eq!(ask(&policies, "192.0.2.1", 120).await.0, 302, "what is over does not count");
}

#[tokio::test]
async fn zero_sets_no_bound() {
    let forger = Forger::start().await;
    let bounds = StartedLogins { per_address: 0, total: 0, trusted_hops: 0 };
    let open = Oidc { started_logins: bounds, ..oidc(&forger.issuer) };
    let policies = Policies::compile(&[policy(open)], &resources()).unwrap();
    for _ in 0..20 {
        assert_eq!(ask(&policies, "192.0.2.1", 0).await.0, 302);
    }
}

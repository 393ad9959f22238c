//! Requests that another site makes a browser send.

use controller_api::security_policy::csrf::Csrf as Spec;
use envoy_types::pb::{
    envoy::{
        config::core::v3::RuntimeFractionalPercent,
        extensions::filters::{http::csrf::v3::CsrfPolicy, network::http_connection_manager::v3::HttpFilter},
        r#type::{
            matcher::v3::StringMatcher,
            v3::{FractionalPercent, fractional_percent::DenominatorType},
        },
    },
    google::protobuf::Any,
};

use super::{Filter, enabled};
use crate::{
    ir::HttpRoute,
    xds::{
        listener::Port,
        matcher::{exact, quote, regex},
        value::any,
    },
};

const NAME: &str = "envoy.filters.http.csrf";
const MILLION: u32 = 1_000_000;

pub(super) struct Csrf;

impl Filter for Csrf {
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter> {
        let is_used = port.routes().any(|route| spec(route).is_some());
        let never = CsrfPolicy { filter_enabled: Some(share(0)), ..Default::default() };
        is_used.then(|| enabled(NAME, &never)).into_iter().collect()
    }

    fn route(&self, _listener: &str, route: &HttpRoute) -> Vec<(String, Any)> {
        spec(route).map(|spec| (NAME.to_owned(), any(&policy(spec)))).into_iter().collect()
    }
}

fn spec(route: &HttpRoute) -> Option<&Spec> {
    route.security.as_ref()?.spec.csrf.as_ref()
}

fn policy(spec: &Spec) -> CsrfPolicy {
    let shadowed = spec.shadow_fraction.map_or(0, |fraction| {
        let whole = u64::from(fraction.denominator.unwrap_or(100).max(1));
        u32::try_from(u64::from(fraction.numerator) * u64::from(MILLION) / whole).unwrap_or(MILLION).min(MILLION)
    });
    CsrfPolicy {
        filter_enabled: Some(share(MILLION - shadowed)),
        // Envoy asks this share of those that the first one left out.
        shadow_enabled: (shadowed > 0).then(|| share(MILLION)),
        additional_origins: spec.additional_origins.iter().map(|origin| host_match(origin)).collect(),
    }
}

fn share(of_a_million: u32) -> RuntimeFractionalPercent {
    let (numerator, denominator) = match of_a_million {
        whole_percents if whole_percents.is_multiple_of(10_000) => (whole_percents / 10_000, DenominatorType::Hundred),
        parts => (parts, DenominatorType::Million),
    };
    let value = FractionalPercent { numerator, denominator: denominator.into() };
    RuntimeFractionalPercent { default_value: Some(value), ..Default::default() }
}

/// Envoy compares host and port only.
fn host_match(origin: &str) -> StringMatcher {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    if host.contains('*') { regex(&quote(host).replace(r"\*", ".*")) } else { exact(host) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn policy_of(json: &str) -> CsrfPolicy {
        policy(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn origins_are_compared_without_their_scheme() {
        let origins =
            r#"{"additionalOrigins": ["https://www.example.com", "http://a.b:8080", "https://*.trusted.com", "*"]}"#;
        let expected = [exact("www.example.com"), exact("a.b:8080"), regex(r".*\.trusted\.com"), regex(".*")];
        assert_eq!(policy_of(origins).additional_origins, expected);
    }

    #[test]
    fn what_is_not_refused_is_counted() {
        let whole = policy_of("{}");
        assert_eq!((whole.filter_enabled, whole.shadow_enabled), (Some(share(MILLION)), None));
        let part = policy_of(r#"{"shadowFraction": {"numerator": 1, "denominator": 3}}"#);
        assert_eq!(part.filter_enabled.unwrap().default_value.unwrap().numerator, 666_667);
        assert_eq!(part.shadow_enabled, Some(share(MILLION)));
        let never = policy_of(r#"{"shadowFraction": {"numerator": 100}}"#);
        assert_eq!(never.filter_enabled, Some(share(0)));
    }
}

//! Cross-origin requests.

use controller_api::security_policy::cors::Cors as Spec;
use envoy_types::pb::{
    envoy::{
        extensions::filters::{
            http::cors::v3::{Cors as Config, CorsPolicy},
            network::http_connection_manager::v3::HttpFilter,
        },
        r#type::matcher::v3::StringMatcher,
    },
    google::protobuf::Any,
};

use super::{Filter, enabled};
use crate::{
    ir::HttpRoute,
    xds::{
        listener::Port,
        matcher::{exact, quote, regex},
        value::{any, boolean},
    },
};

const NAME: &str = "envoy.filters.http.cors";

pub(super) struct Cors;

impl Filter for Cors {
    fn chain(&self, port: &Port<'_>) -> Vec<HttpFilter> {
        let is_used = port.routes().any(|route| spec(route).is_some());
        is_used.then(|| enabled(NAME, &Config::default())).into_iter().collect()
    }

    fn route(&self, _listener: &str, route: &HttpRoute) -> Vec<(String, Any)> {
        spec(route).map(|spec| (NAME.to_owned(), any(&policy(spec)))).into_iter().collect()
    }
}

fn spec(route: &HttpRoute) -> Option<&Spec> {
    route.filters.cors.as_deref().or_else(|| route.security.as_ref()?.spec.cors.as_ref())
}

fn policy(spec: &Spec) -> CorsPolicy {
    CorsPolicy {
        allow_origin_string_match: spec.allow_origins.iter().map(|origin| origin_match(origin)).collect(),
        allow_methods: spec.allow_methods.join(", "),
        allow_headers: spec.allow_headers.join(", "),
        expose_headers: spec.expose_headers.join(", "),
        max_age: spec.max_age.map(|age| (age.as_millis() / 1000).to_string()).unwrap_or_default(),
        allow_credentials: boolean(spec.allow_credentials.unwrap_or(false)),
        // A preflight of a foreign origin ends here and does not reach the backend.
        forward_not_matching_preflights: boolean(false),
        ..Default::default()
    }
}

fn origin_match(origin: &str) -> StringMatcher {
    if origin.contains('*') { regex(&quote(origin).replace(r"\*", ".*")) } else { exact(origin) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_star_in_an_origin_stands_for_any_text() {
        assert_eq!(origin_match("https://www.example.com"), exact("https://www.example.com"));
        assert_eq!(origin_match("https://*.test.com:8080"), regex(r"https://.*\.test\.com:8080"));
        assert_eq!(origin_match("*"), regex(".*"));
    }
}

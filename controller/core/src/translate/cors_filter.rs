//! The filter `CORS`.

use controller_api::{Duration, security_policy::cors::Cors};
use gateway_api::apis::experimental::httproutes::HttpRouteRulesFiltersCors as Spec;

use super::{fault::Fault, route_match::is_token};

/// How long browsers remember an answer by default, in seconds.
const MAX_AGE: i32 = 5;

/// Reads the filter as what a SecurityPolicy has for it.
pub(super) fn read(spec: &Spec) -> Result<Cors, Fault> {
    let list = |field: &str, list: &Option<Vec<String>>| -> Result<Vec<String>, Fault> {
        let list = list.clone().unwrap_or_default();
        if let Some(bad) = list.iter().find(|name| !is_token(name)) {
            return Err(Fault::accepted("UnsupportedValue", format!("cors.{field} has {bad:?}, which is no name")));
        }
        // With any name allowed, the others say nothing.
        Ok(if list.iter().any(|name| name == "*") { vec!["*".to_owned()] } else { list })
    };
    let seconds = u32::try_from(spec.max_age.unwrap_or(MAX_AGE)).unwrap_or_default();
    Ok(Cors {
        allow_origins: spec.allow_origins.clone().unwrap_or_default(),
        allow_methods: list("allowMethods", &spec.allow_methods)?,
        allow_headers: list("allowHeaders", &spec.allow_headers)?,
        expose_headers: list("exposeHeaders", &spec.expose_headers)?,
        max_age: Some(Duration::from_millis(u64::from(seconds) * 1000)),
        allow_credentials: spec.allow_credentials,
    })
}

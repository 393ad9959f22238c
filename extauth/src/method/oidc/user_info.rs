//! Claims that a provider keeps out of its ID tokens.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{Request, StatusCode};
use serde_json::{Map, Value};

use super::issuer::Known;
use crate::fetch::Fetch;
use crate::json;
use crate::session::{Record, Refused};

/// Asks the `userinfo` endpoint about the session's user (OpenID Connect Core 1.0, section 5.3).
pub(super) async fn fetch(fetch: &Fetch, known: &Known, record: &Record) -> Result<Map<String, Value>, Refused> {
    let unavailable = |reason: &str| Refused::Unavailable(format!("the userinfo endpoint: {reason}"));
    let endpoint = known.metadata.userinfo_endpoint().ok_or_else(|| unavailable("the provider has none"))?;
    let request = Request::get(endpoint.as_str())
        .header(ACCEPT, "application/json")
        .header(AUTHORIZATION, format!("Bearer {}", record.access_token))
        .body(Bytes::new())
        .map_err(|error| unavailable(&error.to_string()))?;
    let answer = fetch.send(request).await.map_err(|error| unavailable(&error.to_string()))?;
    if answer.status() != StatusCode::OK {
        return Err(unavailable(answer.status().as_str()));
    }
    let claims = json::object(answer.body()).ok_or_else(|| unavailable("its answer is no plain JSON object"))?;
    // Section 5.3.2: the answer may be about somebody else.
    if claims.get("sub").and_then(Value::as_str) != Some(&record.subject) {
        return Err(Refused::Final("the userinfo endpoint speaks of another user".to_owned()));
    }
    Ok(claims)
}

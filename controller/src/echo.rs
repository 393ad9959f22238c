//! A backend that answers with the request it got, as JSON.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header::HOST},
};
use proto::{
    drain::Signal,
    serve::{self, Listener},
};
use serde::Serialize;

/// Where it listens unless told otherwise.
pub const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3000);

/// Request header that chooses the status of the answer.
const STATUS: &str = "x-echo-status";
/// Request header that delays the answer, in milliseconds.
const DELAY: &str = "x-echo-delay-ms";
/// Longest delay that a request may ask for.
const MAX_DELAY: Duration = Duration::from_mins(1);

/// The answer: what arrived.
#[derive(Debug, Serialize)]
pub struct Echo {
    /// Name of the backend that answers.
    pub service: String,
    /// Method of the request.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// `Host` or `:authority`.
    pub host: String,
    /// Values of each header, by its name in lower case. Bytes that are not UTF-8 are replaced.
    pub headers: BTreeMap<String, Vec<String>>,
    /// The body as text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
}

/// Answers every request as `service` until `signal`.
pub async fn serve(listener: Listener, service: &'static str, signal: Signal) -> Result<(), serve::Error> {
    let router = Router::new().fallback(echo).with_state(service);
    serve::http(listener, router, signal).await
}

async fn echo(
    State(service): State<&'static str>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Json<Echo>) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let status = text(STATUS).and_then(|status| status.parse().ok()).unwrap_or(StatusCode::OK);
    if let Some(delay) = text(DELAY).and_then(|delay| delay.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(delay).min(MAX_DELAY)).await;
    }
    let host = text(HOST.as_str()).or(uri.host()).unwrap_or_default().to_owned();
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &headers {
        values.entry(name.to_string()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let echo = Echo {
        service: service.to_owned(),
        method: method.to_string(),
        path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        host,
        headers: values,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    (status, Json(echo))
}

//! The HTTP endpoints beside the gRPC service.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::{any, get},
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitResponse, rate_limit_response::Code};
use proto::{drain::Signal, json, readiness::Readiness};

use crate::{
    service::{self, MAX_REQUEST_BYTES, Service},
    shadow::Report,
    store::CounterStore,
    talkers::Talkers,
};

/// `/healthcheck` answers 200 `OK` while ready, 500 before that and from the first moment of the drain. `/json` takes a
/// `RateLimitRequest` as JSON and answers with a `RateLimitResponse`: 200 for OK, 429 for over limit.
pub fn router<S: CounterStore + Clone>(service: Service<S>, readiness: Readiness, signal: Signal) -> Router {
    let health = get(move || async move {
        if readiness.is_ready() && !signal.is_draining() { Ok("OK") } else { Err(StatusCode::INTERNAL_SERVER_ERROR) }
    });
    Router::new()
        .route("/healthcheck", health)
        .route("/json", any(should_rate_limit::<S>))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(service)
}

/// What the debug port tells.
#[derive(Clone, Debug)]
pub struct Debug<S> {
    /// Its rules are at `/rlconfig`, one a line; nothing while there is none. `/explain` takes a request as `/json` does, and
    /// says in text, or in JSON to who accepts that, what the service would answer to it and why.
    pub service: Service<S>,
    /// At `/stats`, as text for Prometheus.
    pub stats: Option<proto::metrics::Handle>,
    /// At `/top`.
    pub talkers: Option<Talkers>,
    /// At `/shadow`.
    pub shadow: Option<Report>,
}

impl<S: CounterStore + Clone> Debug<S> {
    /// `/` lists the paths.
    pub fn router(self) -> Router {
        let Self { service, stats, talkers, shadow } = self;
        let rules = |State(service): State<Service<S>>| async move { service.dump() };
        let off = |setting: &str| format!("off; {setting} switches it on\n");
        let measured = move || stats.as_ref().map_or_else(|| off("USE_PROMETHEUS"), proto::metrics::Handle::render);
        let top = move || talkers.as_ref().map_or_else(|| off("TOP_TALKERS"), ToString::to_string);
        let tried = move || shadow.as_ref().map_or_else(|| off("SHADOW_CONFIG_DIR"), ToString::to_string);
        Router::new()
            .route("/", get(DEBUG_PATHS))
            .route("/rlconfig", get(rules))
            .route("/stats", get(|| async move { measured() }))
            .route("/top", get(|| async move { top() }))
            .route("/shadow", get(|| async move { tried() }))
            .route("/explain", get(explain::<S>).post(explain::<S>))
            .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
            .with_state(service)
    }
}

const DEBUG_PATHS: &str = "\
/: this list
/rlconfig: the rules in force
/explain: why a request, sent as to /json, is answered as it is; charges nothing
/stats: what is measured
/top: who uses each rule most
/shadow: what a second configuration would decide
";

/// Why `/json` has no decision. Upstream answers 400 to all of them, to a store that fails too.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the body is not JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("{0}: {source}", source = std::error::Error::source(.0).map(ToString::to_string).unwrap_or_default())]
    Message(#[from] json::Error),
    #[error("clients are known by their certificates here, so that only gRPC answers")]
    Certificate,
    #[error(transparent)]
    Service(#[from] service::Error),
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = if matches!(self, Self::Certificate) { StatusCode::FORBIDDEN } else { StatusCode::BAD_REQUEST };
        (status, format!("{self}\n")).into_response()
    }
}

async fn should_rate_limit<S: CounterStore>(State(service): State<Service<S>>, body: Bytes) -> Result<Response, Error> {
    if !service.is_open() {
        return Err(Error::Certificate);
    }
    let request = json::from_json(serde_json::from_slice(&body)?)?;
    let response: RateLimitResponse = service.decide(&request).await?;
    let status = match response.overall_code() {
        Code::Ok => StatusCode::OK,
        Code::OverLimit => StatusCode::TOO_MANY_REQUESTS,
        Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Ok((status, [(CONTENT_TYPE, "application/json")], json::to_json(&response)?.to_string()).into_response())
}

async fn explain<S: CounterStore>(
    State(service): State<Service<S>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Error> {
    let request = json::from_json(serde_json::from_slice(&body)?)?;
    let explanation = service.explain(&request).await?;
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepted.any(|value| value.contains("application/json")) {
        return Ok(Json(explanation).into_response());
    }
    Ok(explanation.to_string().into_response())
}

//! The HTTP endpoints beside the gRPC service.

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitResponse, rate_limit_response::Code};
use proto::{drain::Signal, json, readiness::Readiness};

use crate::{
    service::{self, CurrentConfig, MAX_REQUEST_BYTES, Service},
    store::CounterStore,
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

/// What the debug port has.
const DEBUG_PATHS: &str = "/: this list\n/rlconfig: the rules in force\n";

/// `/rlconfig` lists the rules in force, one a line; empty while there is no configuration. `/` lists the paths.
pub fn debug_router(config: CurrentConfig) -> Router {
    let dump = move || async move { config.load().as_ref().map(|config| config.dump()).unwrap_or_default() };
    Router::new().route("/", get(DEBUG_PATHS)).route("/rlconfig", get(dump))
}

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

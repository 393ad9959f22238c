//! Asks a running instance.

use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use http::{Request, header::ACCEPT, uri::Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use proto::json;
use tokio::time::timeout;

/// How long an instance may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Larger answers, in bytes, are no explanations.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Why an instance did not explain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an address of HTTP.
    #[error("`{0}` is no URL of a debug port; say http://HOST:PORT")]
    Url(String),
    /// The request is none.
    #[error(transparent)]
    Request(#[from] json::Error),
    /// Nobody answers.
    #[error("nobody answers at {url}: {reason}; is that the debug port of ratelimit, see DEBUG_PORT?")]
    Unreachable {
        /// Who was asked.
        url: String,
        /// Why that failed.
        reason: String,
    },
    /// It answers, but not with an explanation.
    #[error("{url} answers {status}: {text}")]
    Refused {
        /// Who was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The body.
        text: String,
    },
}

/// The explanation of an instance, as text or as JSON. `url` is that of its debug port.
pub async fn ask(url: &str, request: &RateLimitRequest, as_json: bool) -> Result<String, Error> {
    let no_url = || Error::Url(url.to_owned());
    let uri: Uri = format!("{}/explain", url.trim_end_matches('/')).parse().map_err(|_| no_url())?;
    if uri.scheme_str() != Some("http") {
        return Err(no_url());
    }
    let unreachable = |reason: String| Error::Unreachable { url: url.to_owned(), reason };
    let accept = if as_json { "application/json" } else { "text/plain" };
    let body = Full::new(Bytes::from(json::to_json(request)?.to_string()));
    let request = Request::post(uri).header(ACCEPT, accept).body(body).map_err(|_| no_url())?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let exchange = async {
        let answer = client.request(request).await.map_err(|error| unreachable(causes(&error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| match error.downcast::<LengthLimitError>() {
            Ok(_) => unreachable("it answers too much".to_owned()),
            Err(error) => unreachable(error.to_string()),
        })?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    let answer = timeout(PATIENCE, exchange).await;
    let (status, text) = answer.unwrap_or_else(|_| Err(unreachable(format!("not within {PATIENCE:?}"))))?;
    if status.is_success() {
        return Ok(text);
    }
    Err(Error::Refused { url: url.to_owned(), status: status.as_u16(), text: text.trim().to_owned() })
}

/// An error with what lies below it; the outermost alone says little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

//! The same questions over plain HTTP, as Envoy's `http_service` asks them: the request itself, without its body, answered by
//! exactly 200 when it may pass.

use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request as Asked};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse, OkHttpResponse};
use http::request::Parts;
use http::{HeaderName, StatusCode, Version};

use crate::check::POLICY;
use crate::service::{Authorizer, LARGEST_REQUEST};

/// In which Envoy is told what the upstream must not see.
const TO_REMOVE: &str = "x-envoy-auth-headers-to-remove";

/// Where a question's parts stand.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What stands before the request's own path, as Envoy's `path_prefix` says.
    pub path_prefix: String,
    /// A header, set by whoever asks and never by a client, that names the policy; by host and path without it.
    pub policy_header: Option<HeaderName>,
    /// Whoever asks puts method, host and path in `X-Forwarded-Method`, `-Host` and `-Uri`, and lets no client set them.
    pub trust_forwarded: bool,
}

/// Why a question cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Error {
    #[error("the path is not below the prefix, or none at all")]
    Path,
    #[error("there is not exactly one host")]
    Host,
    #[error("a header is missing, stands twice or is no text")]
    Header,
    #[error("the body is too long or did not come")]
    Body,
}

/// Answers every request.
pub fn router(authorizer: Authorizer, options: Options) -> Router {
    Router::new().fallback(answer).with_state((authorizer, options))
}

async fn answer(State((authorizer, options)): State<(Authorizer, Options)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let asked = match axum::body::to_bytes(body, LARGEST_REQUEST).await {
        Ok(body) => question(&parts, &body, &options),
        Err(_) => Err(Error::Body),
    };
    match asked {
        Ok(asked) => respond(authorizer.answer(&asked, SystemTime::now()).await),
        Err(error) => {
            tracing::debug!(%error, "denied");
            refuse()
        }
    }
}

/// What Envoy would have asked over gRPC.
fn question(parts: &Parts, body: &[u8], options: &Options) -> Result<CheckRequest, Error> {
    let forwarded = |name: &str| one(parts, name);
    let (method, host, path) = if options.trust_forwarded {
        let (method, uri) = (forwarded("x-forwarded-method")?, forwarded("x-forwarded-uri")?);
        (method, forwarded("x-forwarded-host")?, uri)
    } else {
        (parts.method.as_str(), host(parts)?, path(parts, &options.path_prefix)?)
    };
    let named = options.policy_header.as_ref().map(|name| one(parts, name.as_str())).transpose()?;
    let headers = parts.headers.iter().map(|(name, value)| HeaderValue {
        key: name.as_str().to_owned(),
        raw_value: value.as_bytes().to_vec(),
        ..HeaderValue::default()
    });
    let http = HttpRequest {
        method: method.to_owned(),
        host: host.to_owned(),
        path: path.to_owned(),
        scheme: one(parts, "x-forwarded-proto").unwrap_or("http").to_owned(),
        header_map: Some(HeaderMap { headers: headers.collect() }),
        // Envoy says that there is no body where it does not send it.
        size: -1,
        raw_body: body.to_vec(),
        ..HttpRequest::default()
    };
    let attributes = AttributeContext {
        request: Some(Asked { http: Some(http), ..Asked::default() }),
        context_extensions: named.map(|name| (POLICY.to_owned(), name.to_owned())).into_iter().collect(),
        ..AttributeContext::default()
    };
    Ok(CheckRequest { attributes: Some(attributes) })
}

fn path<'a>(parts: &'a Parts, prefix: &str) -> Result<&'a str, Error> {
    let target = parts.uri.path_and_query().ok_or(Error::Path)?.as_str();
    let rest = target.strip_prefix(prefix.trim_end_matches('/')).ok_or(Error::Path)?;
    if rest.starts_with('/') { Ok(rest) } else { Err(Error::Path) }
}

/// The authority of HTTP/2, or the one `Host` of HTTP/1.1; never that of an absolute form.
fn host(parts: &Parts) -> Result<&str, Error> {
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    match (parts.version >= Version::HTTP_2, authority) {
        (true, Some(authority)) if !parts.headers.contains_key(http::header::HOST) => Ok(authority),
        (false, None) => one(parts, http::header::HOST.as_str()).map_err(|_| Error::Host),
        _ => Err(Error::Host),
    }
}

fn one<'a>(parts: &'a Parts, name: &str) -> Result<&'a str, Error> {
    let mut values = parts.headers.get_all(name).iter();
    match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(Error::Header),
    }
}

fn respond(response: CheckResponse) -> Response {
    match response.http_response {
        Some(HttpResponse::OkResponse(ok)) => allow(ok),
        Some(HttpResponse::DeniedResponse(denied)) => {
            let code = denied.status.and_then(|status| u16::try_from(status.code).ok());
            let status = code.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::FORBIDDEN);
            // Envoy takes 5xx for a failure of ours, which `failure_mode_allow` lets pass, and 200 for a yes.
            let clear = !status.is_server_error() && status != StatusCode::OK;
            let mut answer = plain(if clear { status } else { StatusCode::FORBIDDEN }, denied.body);
            put(&mut answer, denied.headers);
            answer
        }
        _ => refuse(),
    }
}

fn allow(ok: OkHttpResponse) -> Response {
    // There is no word for it in this protocol: a key in the query would reach the upstream.
    if !ok.query_parameters_to_remove.is_empty() || !ok.query_parameters_to_set.is_empty() {
        tracing::debug!("denied: query parameters cannot be changed over HTTP");
        return refuse();
    }
    let mut answer = plain(StatusCode::OK, String::new());
    put(&mut answer, ok.headers);
    put(&mut answer, ok.response_headers_to_add);
    if let Ok(names) = ok.headers_to_remove.join(",").parse()
        && !ok.headers_to_remove.is_empty()
    {
        answer.headers_mut().insert(TO_REMOVE, names);
    }
    answer
}

fn put(answer: &mut Response, headers: Vec<HeaderValueOption>) {
    for option in headers {
        let append = option.append_action == i32::from(HeaderAppendAction::AppendIfExistsOrAdd);
        let Some(header) = option.header else { continue };
        let (Ok(name), Ok(value)) = (header.key.parse::<HeaderName>(), header.value.parse()) else { continue };
        if append {
            answer.headers_mut().append(name, value);
        } else {
            answer.headers_mut().insert(name, value);
        }
    }
}

fn refuse() -> Response {
    plain(StatusCode::FORBIDDEN, "Forbidden".to_owned())
}

fn plain(status: StatusCode, body: String) -> Response {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    answer
}

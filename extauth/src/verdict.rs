//! What Envoy is told to do: the only place that builds a response.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BufMut;

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption, QueryParameter};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse, OkHttpResponse};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use envoy_types::pb::google::rpc;
use http::{HeaderName, StatusCode};
use prost::{EncodeError, Message as _};
use tonic::Code;

use crate::check::Check;
use crate::shared::{METHOD, Shared, put_metadata};

/// The answer to one [`Check`].
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The request goes on to the upstream.
    Allow(Grant),
    /// The client gets an answer instead.
    Deny(Denial),
    /// The request was for us, or leads to a login.
    Respond(LocalResponse),
}

impl Verdict {
    /// Adds a header to what the client gets, from us or from the upstream.
    pub fn tell(&mut self, name: HeaderName, value: String) {
        match self {
            Self::Allow(grant) => grant.response_headers.push((name, value)),
            Self::Deny(denial) => denial.headers.push((name, value)),
            Self::Respond(response) => response.headers.push((name, value)),
        }
    }
}

/// What a request that may pass looks like to the upstream, and what later filters learn about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grant {
    /// Headers to set; each replaces all of the client's own, and stands here once: Envoy would take the last.
    pub headers: Vec<(HeaderName, String)>,
    /// Query parameters to set, with their values encoded.
    pub query: Vec<(String, String)>,
    /// Cookies that the upstream gets besides the client's own.
    pub cookies: Vec<(String, String)>,
    /// Headers to add to the upstream's answer.
    pub response_headers: Vec<(HeaderName, String)>,
    /// What the upstream must not see.
    pub removal: Removal,
    /// Metadata that Envoy stores under the `ext_authz` filter's name.
    pub metadata: HashMap<String, Value>,
    /// More of it, as long as nobody has to [look into it](Self::unshare).
    pub shared: Option<Arc<Shared>>,
    /// The method that decided, which the metadata names as well.
    pub method: Option<&'static str>,
}

/// Headers, query parameters and cookies to take out of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    headers: Vec<String>,
    query: Vec<String>,
    cookies: Vec<String>,
}

/// What a client gets whose request may not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// HTTP status.
    pub status: StatusCode,
    /// `WWW-Authenticate` values: how to do it right.
    pub challenges: Vec<String>,
    /// Further headers.
    pub headers: Vec<(HeaderName, String)>,
    /// Text for the client; says nothing about the configuration.
    pub body: String,
    /// Why, for the log; never holds a credential.
    pub reason: String,
}

/// An answer of our own that is no denial: a redirect, or a page for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalResponse {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers; one that stands twice goes out twice.
    pub headers: Vec<(HeaderName, String)>,
    /// What is read.
    pub body: String,
    /// Why, for the log; never holds a credential.
    pub reason: String,
}

impl Removal {
    /// Takes out a header.
    pub fn header(&mut self, name: &str) {
        once(&mut self.headers, name);
    }

    /// Takes out a query parameter.
    pub fn query(&mut self, name: &str) {
        once(&mut self.query, name);
    }

    /// What is taken out, for people.
    pub fn names(&self) -> Vec<String> {
        self.headers.iter().cloned().chain(self.query.iter().map(|name| format!("?{name}"))).collect()
    }

    /// Takes out a cookie and leaves the others.
    pub fn cookie(&mut self, name: &str) {
        once(&mut self.cookies, name);
    }
}

fn once(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

impl Grant {
    /// Makes all metadata this grant's own, for rules and results that read it.
    pub fn unshare(&mut self) {
        if let Some(shared) = self.shared.take() {
            for (name, value) in shared.metadata() {
                self.metadata.entry(name).or_insert(value);
            }
        }
    }

    /// Removes every header that an upstream may take for one of `identity`, unless this grant sets that very name.
    pub fn guard<'a>(&mut self, check: &Check<'_>, identity: impl Iterator<Item = &'a HeaderName>) {
        for name in identity {
            let set = self.headers.iter().any(|(header, _)| header == name);
            if !set {
                self.removal.header(name.as_str());
            }
            for (sent, _) in check.headers() {
                if crate::header::alike(name.as_str(), sent) && !sent.eq_ignore_ascii_case(name.as_str()) {
                    self.removal.header(sent);
                }
            }
        }
    }

    /// Turns the cookies to remove into a new `cookie` header, and keeps Envoy from removing what is set: it would, as
    /// it removes last.
    pub fn settle(&mut self, check: &Check<'_>) {
        self.rewrite_cookies(check);
        let Self { headers, query, removal, .. } = self;
        removal.headers.retain(|name| !headers.iter().any(|(set, _)| set == name.as_str()));
        removal.query.retain(|name| !query.iter().any(|(set, _)| set == name));
    }

    fn rewrite_cookies(&mut self, check: &Check<'_>) {
        let removed = std::mem::take(&mut self.removal.cookies);
        let added = std::mem::take(&mut self.cookies);
        let gone = |name: &str| removed.iter().any(|gone| gone == name);
        if added.is_empty() && !check.cookies().any(|(name, _)| gone(name)) {
            return;
        }
        let kept = check.cookies().filter(|(name, _)| !gone(name)).map(|(name, value)| format!("{name}={value}"));
        let added = added.iter().map(|(name, value)| format!("{name}={value}"));
        let cookies = kept.chain(added).collect::<Vec<_>>().join("; ");
        if cookies.is_empty() {
            self.removal.header(http::header::COOKIE.as_str());
        } else {
            self.headers.push((http::header::COOKIE, cookies));
        }
    }
}

/// A text in dynamic metadata.
pub fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

impl Verdict {
    /// Writes it as a `CheckResponse`, the fields in the order of their numbers or not.
    pub fn encode(self, buffer: &mut impl BufMut) -> Result<(), EncodeError> {
        match self {
            Self::Allow(mut grant) => {
                let (own, shared) = (std::mem::take(&mut grant.metadata), grant.shared.take());
                let method = grant.method.take();
                allow(grant).encode(buffer)?;
                put_metadata(own, shared.as_deref(), method, buffer)
            }
            Self::Deny(_) | Self::Respond(_) => CheckResponse::from(self).encode(buffer),
        }
    }
}

impl From<Verdict> for CheckResponse {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow(grant) => allow(grant),
            Verdict::Deny(denial) => deny(denial),
            Verdict::Respond(response) => respond(response),
        }
    }
}

fn allow(mut grant: Grant) -> CheckResponse {
    grant.unshare();
    grant.metadata.extend(grant.method.map(|method| (METHOD.to_owned(), text(method))));
    let response = OkHttpResponse {
        headers: grant.headers.into_iter().map(|(name, value)| set(name.as_str(), value)).collect(),
        headers_to_remove: grant.removal.headers,
        query_parameters_to_set: grant.query.into_iter().map(|(key, value)| QueryParameter { key, value }).collect(),
        query_parameters_to_remove: grant.removal.query,
        response_headers_to_add: grant
            .response_headers
            .into_iter()
            .map(|(name, value)| add(name.as_str(), value))
            .collect(),
        ..OkHttpResponse::default()
    };
    CheckResponse {
        status: Some(rpc::Status { code: Code::Ok.into(), ..rpc::Status::default() }),
        dynamic_metadata: (!grant.metadata.is_empty()).then_some(Struct { fields: grant.metadata }),
        http_response: Some(HttpResponse::OkResponse(response)),
    }
}

fn deny(denial: Denial) -> CheckResponse {
    let code = if denial.status == StatusCode::UNAUTHORIZED { Code::Unauthenticated } else { Code::PermissionDenied };
    let mut headers = Vec::with_capacity(denial.headers.len() + 1);
    for (name, value) in denial.headers {
        // Each cookie is a line of its own.
        let put = if name == http::header::SET_COOKIE { add } else { set };
        headers.push(put(name.as_str(), value));
    }
    if !denial.challenges.is_empty() {
        headers.push(set(http::header::WWW_AUTHENTICATE.as_str(), denial.challenges.join(", ")));
    }
    let response = DeniedHttpResponse {
        status: Some(HttpStatus { code: i32::from(denial.status.as_u16()) }),
        headers,
        body: denial.body,
    };
    CheckResponse {
        status: Some(rpc::Status { code: code.into(), ..rpc::Status::default() }),
        dynamic_metadata: None,
        http_response: Some(HttpResponse::DeniedResponse(response)),
    }
}

/// Envoy takes every status that is not OK for a denial, and sends what it is given.
fn respond(response: LocalResponse) -> CheckResponse {
    let denied = DeniedHttpResponse {
        status: Some(HttpStatus { code: i32::from(response.status.as_u16()) }),
        headers: response.headers.into_iter().map(|(name, value)| add(name.as_str(), value)).collect(),
        body: response.body,
    };
    CheckResponse {
        status: Some(rpc::Status { code: Code::Unauthenticated.into(), ..rpc::Status::default() }),
        dynamic_metadata: None,
        http_response: Some(HttpResponse::DeniedResponse(denied)),
    }
}

fn add(name: &str, value: String) -> HeaderValueOption {
    HeaderValueOption { append_action: HeaderAppendAction::AppendIfExistsOrAdd.into(), ..set(name, value) }
}

fn set(name: &str, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value, ..HeaderValue::default() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}

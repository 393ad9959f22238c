//! Why a request would be let in or not, for people: on the command line and on the debug port.

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use clap::Args;
use envoy_types::pb::envoy::config::core::v3::address::Address as Place;
use envoy_types::pb::envoy::config::core::v3::{Address, HeaderMap, HeaderValue, SocketAddress};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::check::{Check, POLICY};
use crate::policy::Policies;
use crate::service::Authorizer;
use crate::verdict::Grant;

/// A request that somebody wants to know about.
#[derive(Args, Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Name of the policy, as Envoy's context extension says it; by host and path without it.
    #[arg(long)]
    pub policy: Option<String>,
    /// The request's method.
    #[arg(long, default_value = "GET")]
    #[serde(default = "get")]
    pub method: String,
    /// The request's host.
    #[arg(long, default_value = "")]
    #[serde(default)]
    pub host: String,
    /// The request's path and query, as the upstream would see it.
    #[arg(long, default_value = "/")]
    #[serde(default = "root")]
    pub path: String,
    /// A header, `NAME: VALUE`; any number of them.
    #[arg(long = "header")]
    #[serde(default)]
    pub headers: Vec<String>,
    /// The client's address.
    #[arg(long)]
    pub source: Option<IpAddr>,
}

/// What becomes of a request, and what led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The policy that guards it.
    pub policy: Option<String>,
    /// How it was found.
    pub found_by: &'static str,
    /// Whether a denial would only be counted.
    pub shadow: bool,
    /// What each method says, in order; the first that lets in or denies decides.
    pub methods: Vec<Step>,
    /// What each rule says, in order; the first that fits decides.
    pub rules: Vec<Step>,
    /// What Envoy would be told.
    pub answer: Answer,
}

/// What one method or rule says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Of the method or the rule.
    pub name: String,
    /// What it says.
    pub outcome: String,
}

/// What Envoy would be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// 200, or that of the denial before the policy's own words.
    pub status: u16,
    /// Why not.
    pub reason: Option<String>,
    /// Headers and query parameters for the upstream, as `name: value`.
    pub set: Vec<String>,
    /// Headers and query parameters that the upstream does not see.
    pub removed: Vec<String>,
}

/// Answers `POST /explain` with a [`Question`] in JSON.
pub fn router(authorizer: Authorizer) -> Router {
    let explain = async |State(authorizer): State<Authorizer>, Json(question): Json<Question>| match authorizer
        .explain(&question)
        .await
    {
        Ok(explanation) => Ok(Json(explanation)),
        Err(error) => Err((StatusCode::BAD_REQUEST, error)),
    };
    Router::new().route("/explain", post(explain)).with_state(authorizer)
}

impl Question {
    /// Asks the policies; the error says what is wrong with the question.
    pub async fn ask(&self, policies: &Policies) -> Result<Explanation, String> {
        let request = self.request()?;
        let check = Check::new(&request, SystemTime::now()).map_err(|error| error.to_string())?;
        Ok(policies.explain(check).await)
    }

    fn request(&self) -> Result<CheckRequest, String> {
        let header = |line: &String| {
            let (name, value) = line.split_once(':').ok_or_else(|| "say a header as NAME: VALUE".to_owned())?;
            let (key, raw_value) = (name.trim().to_ascii_lowercase(), value.trim().as_bytes().to_vec());
            Ok(HeaderValue { key, raw_value, ..HeaderValue::default() })
        };
        let headers = self.headers.iter().map(header).collect::<Result<_, String>>()?;
        let http = HttpRequest {
            method: self.method.clone(),
            scheme: "https".to_owned(),
            host: self.host.clone(),
            path: self.path.clone(),
            header_map: Some(HeaderMap { headers }),
            ..HttpRequest::default()
        };
        let socket = |address: IpAddr| SocketAddress { address: address.to_string(), ..SocketAddress::default() };
        let peer = |address| Peer {
            address: Some(Address { address: Some(Place::SocketAddress(socket(address))) }),
            ..Peer::default()
        };
        let attributes = AttributeContext {
            source: self.source.map(peer),
            request: Some(Request { http: Some(http), ..Request::default() }),
            context_extensions: self.policy.iter().map(|name| (POLICY.to_owned(), name.clone())).collect(),
            ..AttributeContext::default()
        };
        Ok(CheckRequest { attributes: Some(attributes) })
    }
}

impl Answer {
    pub(crate) fn denied(status: StatusCode, reason: &str) -> Self {
        Self { status: status.as_u16(), reason: Some(reason.to_owned()), set: Vec::new(), removed: Vec::new() }
    }

    pub(crate) fn allowed(grant: &Grant) -> Self {
        let headers = grant.headers.iter().map(|(name, value)| format!("{name}: {value}"));
        let query = grant.query.iter().map(|(name, value)| format!("?{name}={value}"));
        Self { status: 200, reason: None, set: headers.chain(query).collect(), removed: grant.removal.names() }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "policy   {} (found by {})", self.policy.as_deref().unwrap_or("none"), self.found_by)?;
        for step in &self.methods {
            writeln!(formatter, "method   {}: {}", step.name, step.outcome.escape_debug())?;
        }
        for step in &self.rules {
            writeln!(formatter, "rule     {}: {}", step.name, step.outcome.escape_debug())?;
        }
        let reason = self.answer.reason.as_deref().unwrap_or("it may pass");
        let shadow =
            if self.shadow && self.answer.status != 200 { " (only counted: the policy is a shadow)" } else { "" };
        writeln!(formatter, "answer   {}: {}{shadow}", self.answer.status, reason.escape_debug())?;
        for set in &self.answer.set {
            writeln!(formatter, "set      {}", set.escape_debug())?;
        }
        for removed in &self.answer.removed {
            writeln!(formatter, "removed  {}", removed.escape_debug())?;
        }
        Ok(())
    }
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

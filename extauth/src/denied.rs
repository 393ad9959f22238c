//! What a client reads whose request may not pass: a page for people, a problem (RFC 9457) for programs that ask for JSON,
//! and for all others plain text, which Envoy turns into gRPC's own words for gRPC clients.

use std::fmt::Write as _;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, StatusCode};
use proto::extauth::DeniedResponse;
use serde_json::json;

use crate::check::Check;
use crate::header;
use crate::method::Invalid;
use crate::verdict::Denial;

/// A policy's own answers.
#[derive(Debug, Default)]
pub struct Answers {
    unauthenticated: Answer,
    unauthorized: Answer,
}

#[derive(Debug, Default)]
struct Answer {
    status: Option<StatusCode>,
    headers: Vec<(HeaderName, String)>,
    text: Option<String>,
    html: Option<String>,
    json: Option<String>,
}

/// What a client wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Html,
    Json,
    Grpc,
}

impl Answers {
    /// Checks a policy's own answers.
    pub fn compile(config: &proto::extauth::Denied) -> Result<Self, Invalid> {
        let answer = |field: &str, config: &Option<DeniedResponse>| match config {
            None => Ok(Answer::default()),
            Some(config) => Answer::compile(config)
                .map_err(|e| Invalid { field: format!("denied.{field}.{}", e.field), problem: e.problem }),
        };
        Ok(Self {
            unauthenticated: answer("unauthenticated", &config.unauthenticated)?,
            unauthorized: answer("unauthorized", &config.unauthorized)?,
        })
    }

    /// Says a denial in the form that the client asked for.
    pub fn word(&self, mut denial: Denial, check: &Check<'_>) -> Denial {
        let form = form(check);
        let plain = Answer::default();
        let own = match denial.status {
            _ if form == Form::Grpc => &plain,
            StatusCode::UNAUTHORIZED => &self.unauthenticated,
            StatusCode::FORBIDDEN => &self.unauthorized,
            _ => &plain,
        };
        let status = own.status.unwrap_or(denial.status);
        let (body, kind) = match form {
            Form::Html => (own.html.clone().unwrap_or_else(|| page(denial.status)), "text/html; charset=utf-8"),
            Form::Json => match &own.json {
                Some(json) => (json.clone(), "application/json"),
                None => (problem(status, &denial.body), "application/problem+json"),
            },
            Form::Text | Form::Grpc => (own.text.clone().unwrap_or(denial.body), "text/plain"),
        };
        if matches!(form, Form::Html | Form::Json) {
            denial.headers.push((CACHE_CONTROL, "no-store".to_owned()));
            denial.headers.push((X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()));
        }
        if form == Form::Html && own.html.is_none() {
            let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
            denial.headers.push((CONTENT_SECURITY_POLICY, policy.to_owned()));
        }
        denial.headers.push((CONTENT_TYPE, kind.to_owned()));
        denial.headers.extend(own.headers.iter().cloned());
        Denial { status, body, ..denial }
    }
}

impl Answer {
    fn compile(config: &DeniedResponse) -> Result<Self, Invalid> {
        let status = |code: u16| {
            let status = StatusCode::from_u16(code).ok().filter(|_| (300..600).contains(&code));
            status.ok_or_else(|| Invalid::new("status", "is no HTTP status from 300 to 599"))
        };
        let headers = config.headers.iter().enumerate().map(|(index, named)| {
            let name = header::name(&named.name).map_err(|e| Invalid::new(format!("headers[{index}].name"), &e))?;
            header::value(&named.value).map_err(|e| Invalid::new(format!("headers[{index}].value"), &e))?;
            Ok((name, named.value.clone()))
        });
        if let Some(json) = &config.json {
            serde_json::from_str::<serde::de::IgnoredAny>(json).map_err(|_| Invalid::new("json", "is no JSON"))?;
        }
        Ok(Self {
            status: config.status.map(status).transpose()?,
            headers: headers.collect::<Result<_, Invalid>>()?,
            text: config.text.clone(),
            html: config.html.clone(),
            json: config.json.clone(),
        })
    }
}

/// The first form that the client names, whatever weight it gives it; browsers name HTML first.
fn form(check: &Check<'_>) -> Form {
    if check.header(CONTENT_TYPE.as_str()).any(|kind| kind.starts_with("application/grpc")) {
        return Form::Grpc;
    }
    let ranges = check.header(ACCEPT.as_str()).flat_map(|accept| accept.split(','));
    let mut forms = ranges.filter_map(|range| {
        let kind = range.split(';').next().unwrap_or_default().trim();
        match kind {
            "text/html" | "application/xhtml+xml" => Some(Form::Html),
            "text/plain" => Some(Form::Text),
            "application/json" => Some(Form::Json),
            _ if kind.starts_with("application/") && kind.ends_with("+json") => Some(Form::Json),
            _ => None,
        }
    });
    forms.next().unwrap_or(Form::Text)
}

fn problem(status: StatusCode, detail: &str) -> String {
    let title = status.canonical_reason().unwrap_or("Denied");
    json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail}).to_string()
}

/// A page that says no more than the status does.
fn page(status: StatusCode) -> String {
    let (title, text) = match status {
        StatusCode::UNAUTHORIZED => {
            ("Please sign in", "This page is only for people and programs that say who they are.")
        }
        StatusCode::FORBIDDEN => {
            ("You have no access", "You may not see this page. If you should, ask the people who run this site.")
        }
        StatusCode::TOO_MANY_REQUESTS => ("Too many attempts", "Wait a moment, and try again then."),
        StatusCode::SERVICE_UNAVAILABLE => {
            ("Not available right now", "It cannot be checked who you are. Try again soon.")
        }
        _ => ("Something went wrong", "It cannot be checked whether you may see this page."),
    };
    let mut page = include_str!("denied/page.html").replace("{title}", title).replace("{text}", text);
    let at = page.find("{status}").unwrap_or(page.len());
    let rest = page.split_off(at);
    // Writing to a text does not fail.
    let _ = write!(page, "{}{}", status.as_u16(), rest.trim_start_matches("{status}"));
    page
}

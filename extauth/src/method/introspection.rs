//! Tokens that their issuer is asked about (RFC 7662).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode, Uri, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proto::extauth::{RequiredClaim, Secret, SecretAuth};
use serde_json::Value;

use super::jwt::{LONGEST_TOKEN, audience, places, provider_name, seconds};
use crate::authority::{Authority, Error, Judgement, Vouched};
use crate::check::Check;
use crate::claims::{Claims, ToHeaders, check_required, has, metadata};
use crate::credential::Places;
use crate::fetch::Fetch;
use crate::json;
use crate::jwks::uri;
use crate::method::Invalid;
use crate::resources::Resources;
use crate::revocation::Identity;
use crate::verdict::{Grant, Removal};

/// Tokens that one authorization server is asked about.
#[derive(Debug)]
pub struct Introspection {
    places: Places,
    remove: bool,
    endpoint: Arc<Endpoint>,
    authority: Arc<Authority>,
}

/// The authorization server, and what its answers must say.
#[derive(Debug)]
struct Endpoint {
    uri: Uri,
    fetch: Fetch,
    /// `Authorization`, where that is how we prove who we are.
    authorization: Option<Secret>,
    /// What else stands in the form.
    form: Secret,
    name: String,
    issuer: Option<String>,
    audiences: Vec<String>,
    required_claims: Vec<RequiredClaim>,
    to_headers: ToHeaders,
    cache: u64,
    negative_cache: u64,
}

impl Introspection {
    /// Checks the configuration; nobody is asked yet.
    pub fn compile(config: &proto::extauth::Introspection, resources: &Resources) -> Result<Self, Invalid> {
        if config.client_secret_file.is_some() {
            return Err(Invalid::new("clientSecretFile", "is only known where policies are read from files"));
        }
        let secret = config.client_secret.as_ref().filter(|secret| !secret.is_empty());
        let secret = secret.ok_or_else(|| Invalid::new("clientSecret", "is missing"))?;
        if config.client_id.is_empty() {
            return Err(Invalid::new("clientId", "is empty"));
        }
        if config.audiences.iter().any(String::is_empty) {
            return Err(Invalid::new("audiences", "must name no empty audience"));
        }
        if config.max_concurrent == 0 {
            return Err(Invalid::new("maxConcurrent", "must be at least 1"));
        }
        check_required(&config.required_claims)?;
        let (authorization, form) = credentials(config, secret);
        let endpoint = Endpoint {
            uri: uri(&config.endpoint).map_err(|e| Invalid::new("endpoint", &e))?,
            fetch: resources.fetch.clone(),
            authorization,
            form,
            name: provider_name(&config.name)?,
            issuer: config.issuer.clone(),
            audiences: config.audiences.clone(),
            required_claims: config.required_claims.clone(),
            to_headers: ToHeaders::compile(&config.claims_to_headers)?,
            cache: config.cache_seconds,
            negative_cache: config.negative_cache_seconds,
        };
        // The debug form quotes texts and names every field, except what the secret is.
        let configuration = format!("{config:?} {:?}", secret.expose());
        let longest = config.cache_seconds.max(config.negative_cache_seconds);
        Ok(Self {
            places: places(&config.from)?,
            remove: config.remove,
            endpoint: Arc::new(endpoint),
            authority: resources.authorities.with(
                ("introspection", &config.name),
                &configuration,
                longest,
                config.max_concurrent,
            ),
        })
    }

    /// Whether the request carries a token for which the authorization server vouches.
    pub async fn check(&self, check: &Check<'_>) -> Result<Option<Grant>, Error> {
        let Some(token) = self.places.find(check)? else { return Ok(None) };
        if token.len() > LONGEST_TOKEN {
            return Err(Error::TooLong);
        }
        let judge = || {
            let (endpoint, token, now) = (Arc::clone(&self.endpoint), token.to_string(), check.now());
            async move { endpoint.judge(&token, now).await }
        };
        self.authority.ask(&token, check.now(), judge).await.map(Some)
    }

    /// The key of the answer in the metadata.
    pub fn provider(&self) -> &str {
        &self.endpoint.name
    }

    /// Headers that tell the upstream about the answer.
    pub fn identity(&self) -> Vec<HeaderName> {
        self.endpoint.to_headers.names()
    }

    /// Takes the token away, when that was asked for.
    pub fn strip(&self, check: &Check<'_>, removal: &mut Removal) {
        if self.remove {
            self.places.strip(check, removal);
        }
    }
}

impl Endpoint {
    async fn judge(&self, token: &str, now: u64) -> Result<Judgement, Error> {
        let body = format!("token={}{}", encode(token), self.form.expose());
        let mut request = Request::post(&self.uri)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.expose());
        }
        let request = request.body(Bytes::from(body)).map_err(|error| Error::Undecided(error.to_string()))?;
        let answer = self.fetch.send(request).await.map_err(|error| Error::Undecided(error.to_string()));
        let judgement = answer.and_then(|answer| self.read(&answer, now));
        if let Err(error) = &judgement {
            tracing::warn!(provider = self.name, %error, "introspection failed");
        }
        judgement
    }

    /// What the answer says. Nothing of it gets into an error: it may tell about the token.
    fn read(&self, answer: &Response<Bytes>, now: u64) -> Result<Judgement, Error> {
        if answer.status() != StatusCode::OK {
            return Err(Error::Undecided(format!("introspection was answered by {}", answer.status())));
        }
        let undecided = |problem: &str| Error::Undecided(format!("the answer to introspection {problem}"));
        let claims = json::object(answer.body()).ok_or_else(|| undecided("is no JSON object"))?;
        let active = claims.get("active").and_then(Value::as_bool);
        let active = active.ok_or_else(|| undecided("has no `active` that is true or false"))?;
        let expires = match claims.get("exp").filter(|_| active) {
            None | Some(Value::Null) => u64::MAX,
            Some(exp) => seconds(exp).ok_or_else(|| undecided("has an `exp` that is no time"))?,
        };
        if !active || expires <= now {
            return Ok(Judgement { outcome: Err(Error::Inactive), seconds: self.negative_cache });
        }
        Ok(match self.vouch(claims) {
            Ok(vouched) => Judgement { outcome: Ok(vouched), seconds: self.cache.min(expires - now) },
            Err(error) => Judgement { outcome: Err(error), seconds: self.negative_cache },
        })
    }

    fn vouch(&self, claims: Claims) -> Result<Vouched, Error> {
        let present = |name| claims.get(name).filter(|value| !value.is_null());
        if let (Some(issuer), Some(iss)) = (&self.issuer, present("iss"))
            && iss.as_str() != Some(issuer)
        {
            return Err(Error::Forbidden("it is another issuer's"));
        }
        if !self.audiences.is_empty() && present("aud").is_some_and(|aud| !audience(Some(aud), &self.audiences)) {
            return Err(Error::Forbidden("it is for another audience"));
        }
        // Whoever sends such a token has to prove more than that they have it (RFC 9449, section 7).
        let bound = present("token_type").and_then(Value::as_str).is_some_and(|typ| typ.eq_ignore_ascii_case("DPoP"));
        if bound || present("cnf").is_some() {
            return Err(Error::Forbidden("it is bound to a key"));
        }
        if !self.required_claims.iter().all(|required| has(&claims, required)) {
            return Err(Error::Forbidden("it lacks a required claim"));
        }
        let headers = self.to_headers.of(&claims).map_err(|_| Error::Forbidden("a claim is no header value"))?;
        let identity = Identity::of(&claims, claims.get("iat").and_then(seconds));
        let metadata = metadata(&self.name, claims).collect();
        Ok(Vouched { grant: Grant { headers, metadata, ..Grant::default() }, identity })
    }
}

/// How we prove who we are: the header, or what the form needs besides the token.
fn credentials(config: &proto::extauth::Introspection, secret: &Secret) -> (Option<Secret>, Secret) {
    const HINT: &str = "&token_type_hint=access_token";
    let (id, secret) = (encode(&config.client_id), encode(secret.expose()));
    match config.client_auth {
        SecretAuth::SecretBasic => {
            let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
            (Some(Secret::new(basic)), Secret::new(HINT))
        }
        SecretAuth::SecretPost => (None, Secret::new(format!("{HINT}&client_id={id}&client_secret={secret}"))),
    }
}

fn encode(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

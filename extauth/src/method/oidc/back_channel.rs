//! The end of a session that its provider asks for (OpenID Connect Back-Channel Logout 1.0).

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Map, Value};

use super::issuer::Known;
use super::provider::Provider;
use super::{Oidc, form};
use crate::check::Check;
use crate::method::jwt::token::Token;
use crate::method::jwt::{self, LONGEST_TOKEN};
use crate::verdict::LocalResponse;
use crate::{json, random, session};

/// The event that a logout token tells of.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// How old a logout token may be, in seconds, and for how long it is remembered.
const OLDEST: u64 = 300;

/// Why a logout token ends nothing.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no POST of a form with one `logout_token`")]
    Request,
    #[error("the logout token's issuer is none of the policy's")]
    Issuer,
    #[error("the logout token: {0}")]
    Token(#[from] jwt::Error),
    #[error("`typ` is that of another token")]
    Type,
    #[error("`events` does not name a logout")]
    Events,
    #[error("a logout token has no `nonce`; this may be an ID token")]
    Nonce,
    #[error("`{0}` is missing, or is not what it should be")]
    Claim(&'static str),
    #[error("the logout token was used before")]
    Replay,
    #[error("{0}")]
    Unavailable(String),
}

impl From<session::Error> for Error {
    fn from(error: session::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<crate::store::Error> for Error {
    fn from(error: crate::store::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Oidc {
    /// Ends the sessions that a provider's logout token names.
    pub(super) async fn back_channel(&self, check: &Check<'_>) -> LocalResponse {
        let (status, body, reason) = match self.end_named(check).await {
            Ok(ended) => (StatusCode::OK, "", format!("a provider ended {ended} sessions")),
            Err(Error::Unavailable(reason)) => {
                (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"temporarily_unavailable"}"#, reason)
            }
            Err(error) => (StatusCode::BAD_REQUEST, r#"{"error":"invalid_request"}"#, error.to_string()),
        };
        let headers = vec![(CACHE_CONTROL, "no-store".to_owned()), (CONTENT_TYPE, "application/json".to_owned())];
        LocalResponse { status, headers, body: body.to_owned(), reason }
    }

    async fn end_named(&self, check: &Check<'_>) -> Result<usize, Error> {
        let form =
            if check.method() == "POST" { check.whole_body().and_then(|body| form(body.as_bytes())) } else { None };
        let text = form.and_then(|mut form| form.remove("logout_token")).ok_or(Error::Request)?;
        let (provider, claims) = self.verify(&text).await?;
        let iss = provider.config.issuer.as_str();
        let (sid, sub) = logout(&claims, check.now(), provider.config.leeway_seconds)?;
        let id = claims.get("jti").and_then(Value::as_str).filter(|id| !id.is_empty()).ok_or(Error::Claim("jti"))?;
        let key = format!("logout:{}", random::hash(&[iss, id]));
        let remembered = Duration::from_secs(OLDEST + 2 * provider.config.leeway_seconds);
        if !self.sessions.store().put_new(&key, b"", remembered).await? {
            return Err(Error::Replay);
        }
        let ended = match (sid, sub) {
            (Some(sid), _) => self.sessions.revoke_sid(iss, sid).await,
            (None, Some(sub)) => self.sessions.revoke(iss, sub).await,
            (None, None) => return Err(Error::Claim("sub")),
        };
        if ended.is_err() {
            // The provider may say it again.
            self.sessions.store().remove(&key).await?;
        }
        Ok(ended?)
    }

    /// Whose token it is, and what it claims.
    async fn verify(&self, text: &str) -> Result<(&Provider, Map<String, Value>), Error> {
        if text.len() > LONGEST_TOKEN {
            return Err(Error::Request);
        }
        let claims = json::payload(text).ok_or(Error::Request)?;
        let named = claims.get("iss").and_then(Value::as_str);
        let of_issuer = self.providers.iter().filter(|provider| Some(provider.config.issuer.as_str()) == named);
        let of_issuer: Vec<&Arc<Provider>> = of_issuer.collect();
        let mut failure = Error::Issuer;
        // Two clients at one issuer: the audience tells whose it is.
        for provider in of_issuer {
            match verify_for(provider, text).await {
                Ok(claims) => return Ok((provider, claims)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

async fn verify_for(provider: &Provider, text: &str) -> Result<Map<String, Value>, Error> {
    let unavailable = |error: super::issuer::Error| Error::Unavailable(error.to_string());
    let known = provider.issuer.known().await.map_err(unavailable)?;
    match vouch(provider, &known, text) {
        Err(Error::Token(jwt::Error::NoKey)) => {
            let again = provider.issuer.known_again().await.map_err(unavailable)?;
            vouch(provider, &again, text)
        }
        other => other,
    }
}

/// Checks the signature, the type, and that the token is for us.
fn vouch(provider: &Provider, known: &Known, text: &str) -> Result<Map<String, Value>, Error> {
    let token = Token::parse(text)?;
    let typ = token.typ.as_deref().map(str::to_ascii_lowercase);
    if typ.is_some_and(|typ| !["logout+jwt", "application/logout+jwt", "jwt"].contains(&typ.as_str())) {
        return Err(Error::Type);
    }
    match known.keys.verify(token.algorithm, token.kid.as_deref(), token.message.as_bytes(), &token.signature) {
        Some(true) => {}
        Some(false) => return Err(jwt::Error::Signature.into()),
        None => return Err(jwt::Error::NoKey.into()),
    }
    let issuer = token.claims.get("iss").and_then(Value::as_str) == Some(provider.config.issuer.as_str());
    let audience = jwt::claims::audience(token.claims.get("aud"), std::slice::from_ref(&provider.config.client_id));
    if !issuer || !audience {
        return Err(jwt::Error::Audience.into());
    }
    Ok(token.claims)
}

/// What is to end: a session of the provider, or all of a user.
fn logout(claims: &Map<String, Value>, now: u64, leeway: u64) -> Result<(Option<&str>, Option<&str>), Error> {
    let events = claims.get("events").and_then(Value::as_object).ok_or(Error::Events)?;
    if !events.get(EVENT).is_some_and(Value::is_object) {
        return Err(Error::Events);
    }
    if claims.contains_key("nonce") {
        return Err(Error::Nonce);
    }
    let time = |name: &'static str| claims.get(name).map(|value| value.as_u64().ok_or(Error::Claim(name))).transpose();
    let issued = time("iat")?.ok_or(Error::Claim("iat"))?;
    if issued > now.saturating_add(leeway) || issued.saturating_add(OLDEST + leeway) < now {
        return Err(Error::Claim("iat"));
    }
    if time("exp")?.is_some_and(|expires| expires.saturating_add(leeway) <= now) {
        return Err(Error::Claim("exp"));
    }
    let text = |name: &'static str| match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.as_str())),
        Some(_) => Err(Error::Claim(name)),
    };
    Ok((text("sid")?, text("sub")?))
}

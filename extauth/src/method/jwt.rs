//! JSON Web Tokens (RFC 7519) of one issuer, signed with a key of its key set.

mod cache;
mod claims;
mod json;
mod token;

use std::sync::Arc;

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use http::{HeaderName, StatusCode};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use proto::extauth::{ClaimToHeader, Source};
use serde::de::IgnoredAny;

pub use self::cache::Cache;
use self::cache::Provider;
use self::claims::Lifetime;
use self::token::Token;
use crate::check::Check;
use crate::credential::{self, Places};
use crate::header;
use crate::jwks::{self, KeySet};
use crate::method::{Invalid, unauthorized};
use crate::verdict::{Denial, Grant, Removal};

/// The longest token that is looked at, in bytes.
pub const LONGEST_TOKEN: usize = 8 * 1024;

/// Keys of the metadata that are not a provider's.
pub(crate) const RESERVED: [&str; 6] = ["method", "client", "tier", "tenant", "scopes", "labels"];

/// Why a token proves nothing. What it says is what the client reads, in the words of Envoy's own JWT filter where that
/// has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No place holds one.
    #[error("Jwt is missing")]
    Missing,
    /// More than one, empty, or with characters no token has.
    #[error("Jwt is not one well-formed token: {0}")]
    Credential(#[from] credential::Error),
    /// More than [`LONGEST_TOKEN`].
    #[error("Jwt is too long")]
    TooLong,
    /// No compact JWS (RFC 7515, section 7.1).
    #[error("Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections")]
    Form,
    /// The header is not canonical base64url, or too long.
    #[error("Jwt header is an invalid Base64url encoded")]
    HeaderEncoding,
    /// The header is no JSON object, or one that repeats itself.
    #[error("Jwt header is an invalid JSON")]
    HeaderSyntax,
    /// `none`, HMAC, encryption, or whatever else the provider does not accept.
    #[error("Jwt header [alg] is not supported")]
    Algorithm,
    /// `kid` is no short text.
    #[error("Jwt header [kid] field is not a string")]
    KeyId,
    /// `crit`, `b64`, `zip`, `enc`, or a nested token: extensions that change what the signature means.
    #[error("Jwt header has an extension that is not supported")]
    Extension,
    /// The payload is not canonical base64url.
    #[error("Jwt payload is an invalid Base64url encoded")]
    PayloadEncoding,
    /// The payload is no JSON object, repeats itself, or is nested too deep.
    #[error("Jwt payload is an invalid JSON")]
    PayloadSyntax,
    /// The signature is not canonical base64url.
    #[error("Jwt signature is an invalid Base64url encoded")]
    SignatureEncoding,
    /// `iss` is not the provider's.
    #[error("Jwt issuer is not configured")]
    Issuer,
    /// `aud` names none of the provider's audiences.
    #[error("Audiences in Jwt are not allowed")]
    Audience,
    /// `exp` is missing or no number.
    #[error("Jwt has no valid expiration time")]
    NoExpiration,
    /// `exp` has passed.
    #[error("Jwt is expired")]
    Expired,
    /// `nbf` lies ahead, or is no number.
    #[error("Jwt not yet valid")]
    NotYetValid,
    /// No key with the token's `kid` and `alg`.
    #[error("Jwks doesn't have key to match kid or alg from Jwt")]
    NoKey,
    /// No such key made the signature.
    #[error("Jwt verification fails")]
    Signature,
    /// A claim that goes out as a header would break out of it.
    #[error("Jwt has a claim that cannot be sent as a header")]
    Claim,
}

impl From<jsonwebtoken::errors::Error> for Error {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
                "iss" => Self::Issuer,
                "exp" => Self::NoExpiration,
                _ => Self::Audience,
            },
            // Header and payload were decoded before, and read as JSON: what is left is the signature, and members of the
            // header that are of the wrong type.
            ErrorKind::Base64(_) => Self::SignatureEncoding,
            ErrorKind::Json(_) => Self::HeaderSyntax,
            _ => Self::Signature,
        }
    }
}

/// Tokens of one issuer.
#[derive(Debug)]
pub struct Jwt {
    provider: Provider,
    name: String,
    issuer: String,
    validation: Validation,
    keys: KeySet,
    leeway: u64,
    places: Places,
    remove: bool,
    claims_to_headers: Vec<(String, HeaderName)>,
    tokens: Cache,
}

/// What is known about a token that was verified: all that is needed to answer for it again.
#[derive(Debug)]
struct Verified {
    lifetime: Lifetime,
    headers: Vec<(HeaderName, String)>,
    claims: Value,
}

impl Jwt {
    /// Checks the configuration; `tokens` remembers what was verified.
    pub fn compile(config: &proto::extauth::Jwt, tokens: Cache) -> Result<Self, Invalid> {
        if config.name.is_empty() || RESERVED.contains(&config.name.as_str()) {
            return Err(Invalid::new("name", &format!("must be set, and be none of {}", RESERVED.join(", "))));
        }
        if config.issuer.is_empty() {
            return Err(Invalid::new("issuer", "is empty"));
        }
        if config.audiences.is_empty() || config.audiences.iter().any(String::is_empty) {
            return Err(Invalid::new("audiences", "must name at least one audience, and no empty one"));
        }
        if config.jwks_file.is_some() {
            return Err(Invalid::new("jwksFile", "is only known where policies are read from files"));
        }
        let jwks = config.jwks.as_deref().ok_or_else(|| Invalid::new("jwks", "is missing"))?;
        let bearer = [Source::Header { name: "authorization".to_owned(), prefix: "Bearer ".to_owned() }];
        let from = if config.from.is_empty() { bearer.as_slice() } else { config.from.as_slice() };
        Ok(Self {
            provider: Provider::of(config),
            name: config.name.clone(),
            issuer: config.issuer.clone(),
            validation: validation(config),
            keys: KeySet::parse(jwks, &algorithms(&config.algorithms)?).map_err(|e| Invalid::new("jwks", &e))?,
            leeway: config.leeway_seconds,
            places: Places::compile(from).map_err(|(index, e)| Invalid::new(format!("from[{index}]"), &e))?,
            remove: config.remove,
            claims_to_headers: claims_to_headers(&config.claims_to_headers)?,
            tokens,
        })
    }

    /// Whether the request carries a valid token of the issuer.
    pub fn check(&self, check: &Check<'_>) -> Result<Option<Grant>, Error> {
        let Some(token) = self.places.find(check)? else { return Ok(None) };
        if token.len() > LONGEST_TOKEN {
            return Err(Error::TooLong);
        }
        let verified = match self.tokens.find(&self.provider, &token) {
            Some(known) => known,
            None => self.remember(&token, self.verify(&token, check.now())?),
        };
        // A token grows old in the cache as it does outside.
        verified.lifetime.check(check.now())?;
        Ok(Some(self.grant(&verified)))
    }

    /// The key of the claims in the metadata.
    pub fn provider(&self) -> &str {
        &self.name
    }

    /// Headers that tell the upstream about the token's claims.
    pub fn identity(&self) -> Vec<HeaderName> {
        self.claims_to_headers.iter().map(|(_, header)| header.clone()).collect()
    }

    /// Takes the token away, when that was asked for.
    pub fn strip(&self, check: &Check<'_>, removal: &mut Removal) {
        if self.remove {
            self.places.strip(check, removal);
        }
    }

    fn verify(&self, text: &str, now: u64) -> Result<Verified, Error> {
        let token = Token::parse(text)?;
        // Whose token it is comes first: of two providers, only the issuer's own keys may vouch for it.
        claims::issuer(&token.claims, &self.issuer)?;
        let lifetime = Lifetime::of(&token.claims, self.leeway)?;
        lifetime.check(now)?;
        self.vouch(text, &token)?;
        let mut headers = Vec::new();
        for (claim, header) in &self.claims_to_headers {
            headers.extend(claims::header(&token.claims, claim)?.map(|value| (header.clone(), value)));
        }
        let fields = token.claims.into_iter().map(|(name, value)| (name, json::value(value))).collect();
        Ok(Verified { lifetime, headers, claims: Value { kind: Some(Kind::StructValue(Struct { fields })) } })
    }

    /// Checks the signature, and what the claims say of issuer and audience.
    fn vouch(&self, text: &str, token: &Token) -> Result<(), Error> {
        let validation = Validation { algorithms: vec![token.algorithm], ..self.validation.clone() };
        let mut outcome = Err(Error::NoKey);
        for key in self.keys.candidates(token.algorithm, token.kid.as_deref()) {
            outcome = jsonwebtoken::decode::<IgnoredAny>(text, key, &validation).map(drop).map_err(Error::from);
            if outcome != Err(Error::Signature) {
                break;
            }
        }
        outcome
    }

    fn remember(&self, token: &str, verified: Verified) -> Arc<Verified> {
        let verified = Arc::new(verified);
        self.tokens.insert(&self.provider, token, Arc::clone(&verified));
        verified
    }

    fn grant(&self, verified: &Verified) -> Grant {
        Grant {
            headers: verified.headers.clone(),
            removal: Removal::default(),
            metadata: [(self.name.clone(), verified.claims.clone())].into(),
        }
    }
}

/// What the client is told, with the challenge of RFC 6750.
pub fn denial(error: &Error, check: &Check<'_>) -> Denial {
    let realm = check.uri().map(|uri| format!("realm=\"{uri}\""));
    let invalid = (*error != Error::Missing).then(|| "error=\"invalid_token\"".to_owned());
    let parameters = realm.into_iter().chain(invalid).collect::<Vec<_>>().join(", ");
    let challenge = format!("Bearer {parameters}").trim_end().to_owned();
    let denial = unauthorized(challenge, &error.to_string(), error.to_string());
    match error {
        // The token is good, but not for this place: asking for it again would not help.
        Error::Audience | Error::Claim => Denial { status: StatusCode::FORBIDDEN, ..denial },
        _ => denial,
    }
}

/// What the library checks of the claims. The times are left to [`Lifetime`], which judges by the clock of the request and
/// judges a cached token as well.
fn validation(config: &proto::extauth::Jwt) -> Validation {
    let mut validation = Validation::default();
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.set_issuer(&[&config.issuer]);
    validation.set_audience(&config.audiences);
    validation.validate_exp = false;
    // Each token adds its own, so that none is accepted by default.
    validation.algorithms.clear();
    validation
}

fn algorithms(names: &[String]) -> Result<Vec<Algorithm>, Invalid> {
    if names.is_empty() {
        return Ok(jwks::ALGORITHMS.into());
    }
    let known = || jwks::ALGORITHMS.map(|algorithm| format!("{algorithm:?}")).join(", ");
    let algorithms = names.iter().enumerate().map(|(index, name)| {
        let problem = || format!("`{name}` is none of {}", known());
        jwks::algorithm(name).ok_or_else(|| Invalid::new(format!("algorithms[{index}]"), &problem()))
    });
    algorithms.collect()
}

fn claims_to_headers(configured: &[ClaimToHeader]) -> Result<Vec<(String, HeaderName)>, Invalid> {
    let mut headers: Vec<(String, HeaderName)> = Vec::new();
    for (index, ClaimToHeader { claim, header }) in configured.iter().enumerate() {
        let field = |name| format!("claimsToHeaders[{index}].{name}");
        if claim.is_empty() {
            return Err(Invalid::new(field("claim"), "is empty"));
        }
        let name = header::name(header).map_err(|e| Invalid::new(field("header"), &e))?;
        if headers.iter().any(|(_, other)| *other == name) {
            return Err(Invalid::new(field("header"), &format!("`{name}` is already set from another claim")));
        }
        headers.push((claim.clone(), name));
    }
    Ok(headers)
}

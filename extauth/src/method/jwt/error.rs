//! Why a token proves nothing, and what its sender is told.

use http::StatusCode;

use crate::check::Check;
use crate::credential;
use crate::method::{bearer_challenge, unauthorized};
use crate::revocation::Refusal;
use crate::verdict::Denial;

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
    /// More than [`LONGEST_TOKEN`](super::LONGEST_TOKEN).
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
    /// `typ` says that the token is for something else.
    #[error("Jwt header [typ] is not allowed")]
    Type,
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
    /// `sub` is none of the provider's subjects.
    #[error("Jwt subject is not allowed")]
    Subject,
    /// A required claim is missing, or says something else.
    #[error("Jwt lacks a required claim")]
    RequiredClaim,
    /// `exp` is missing or no number.
    #[error("Jwt has no valid expiration time")]
    NoExpiration,
    /// `exp` has passed.
    #[error("Jwt is expired")]
    Expired,
    /// `nbf` lies ahead, or is no number.
    #[error("Jwt not yet valid")]
    NotYetValid,
    /// `exp` lies further ahead than the provider allows.
    #[error("Jwt lifetime exceeds the maximum allowed lifetime")]
    Lifetime,
    /// Somebody revoked it.
    #[error("Jwt is revoked")]
    Revoked,
    /// Nobody knows yet whether it is revoked.
    #[error("Jwt may be revoked")]
    NoRevocations,
    /// There are no keys yet.
    #[error("Jwks remote fetch is failed")]
    NoKeys,
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

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Revoked => Self::Revoked,
            Refusal::Unknown => Self::NoRevocations,
        }
    }
}

/// What the client is told, with the challenge of RFC 6750.
pub fn denial(error: &Error, check: &Check<'_>) -> Denial {
    let challenge = bearer_challenge(check, *error != Error::Missing);
    let denial = unauthorized(challenge, &error.to_string(), error.to_string());
    match error {
        // The token is good, but not for this place: asking for it again would not help.
        Error::Audience | Error::Subject | Error::RequiredClaim | Error::Claim => {
            Denial { status: StatusCode::FORBIDDEN, ..denial }
        }
        // It may be good: another token would not help, and the same may do so later.
        Error::NoKeys | Error::NoRevocations => {
            Denial { status: StatusCode::SERVICE_UNAVAILABLE, challenges: Vec::new(), ..denial }
        }
        _ => denial,
    }
}

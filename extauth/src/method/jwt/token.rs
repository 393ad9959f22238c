//! The compact form of a token, read before it is verified: so strictly that one token has one spelling, and one meaning.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::Error;
use crate::{json, jwks};

/// The longest header, in encoded bytes.
const LONGEST_HEADER: usize = 2 * 1024;

/// The longest key id, in bytes.
const LONGEST_KEY_ID: usize = 256;

/// A token that was read and not yet verified.
pub(in crate::method) struct Token<'a> {
    pub(in crate::method) algorithm: Algorithm,
    pub(in crate::method) kid: Option<String>,
    /// The header's `typ`.
    pub(in crate::method) typ: Option<String>,
    pub(in crate::method) claims: Map<String, Value>,
    /// What was signed, as it was sent.
    pub(in crate::method) message: &'a str,
    /// The signature's bytes.
    pub(in crate::method) signature: Vec<u8>,
}

impl<'a> Token<'a> {
    /// Reads all three parts; whether the signature is good is left to whoever has the keys.
    pub(in crate::method) fn parse(text: &'a str) -> Result<Self, Error> {
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::Form);
        };
        let message = &text[..header.len() + 1 + payload.len()];
        if header.len() > LONGEST_HEADER {
            return Err(Error::HeaderEncoding);
        }
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| Error::HeaderEncoding)?;
        let header = json::object(&header).ok_or(Error::HeaderSyntax)?;
        refuse_extensions(&header)?;
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(jwks::algorithm).ok_or(Error::Algorithm)?;
        let (kid, typ) = (key_id(&header)?, typ(&header)?);
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Error::PayloadEncoding)?;
        let claims = json::object(&payload).ok_or(Error::PayloadSyntax)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Error::SignatureEncoding)?;
        Ok(Self { algorithm, kid, typ, claims, message, signature })
    }
}

/// Refuses what would change the meaning of the signature or of the payload. Where to find keys (`jku`, `jwk`, `x5u`,
/// `x5c`) is simply not read: keys come from the configuration alone.
fn refuse_extensions(header: &Map<String, Value>) -> Result<(), Error> {
    let nested = header.get("cty").and_then(Value::as_str).is_some_and(|cty| cty.eq_ignore_ascii_case("jwt"));
    let extended = ["crit", "b64", "zip", "enc"].iter().any(|name| header.contains_key(*name));
    if nested || extended { Err(Error::Extension) } else { Ok(()) }
}

fn key_id(header: &Map<String, Value>) -> Result<Option<String>, Error> {
    match header.get("kid") {
        None => Ok(None),
        Some(Value::String(kid)) if kid.len() <= LONGEST_KEY_ID && !kid.chars().any(char::is_control) => {
            Ok(Some(kid.clone()))
        }
        Some(_) => Err(Error::KeyId),
    }
}

fn typ(header: &Map<String, Value>) -> Result<Option<String>, Error> {
    match header.get("typ") {
        None => Ok(None),
        Some(Value::String(typ)) => Ok(Some(typ.clone())),
        Some(_) => Err(Error::Type),
    }
}

//! Where a key set is published.

use std::fmt;

use http::Uri;
use serde::Deserialize;

use super::{Error as FetchError, get};
use crate::fetch::Fetch;

/// Where a key set is published.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// At this address.
    KeySet(Uri),
    /// Where the issuer's discovery document says (OpenID Connect Discovery 1.0, section 4).
    Issuer(String),
}

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No `https` or `http` URI.
    #[error("is no https or http URI")]
    Uri,
    /// It would stand in logs and metrics.
    #[error("must not hold a user or a password")]
    User,
}

/// The members of a discovery document that are used here.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

impl Address {
    /// Reads the address of a key set.
    pub fn key_set_at(text: &str) -> Result<Self, Error> {
        uri(text).map(Self::KeySet)
    }

    /// Reads an issuer's name, which must be an address in order to be asked.
    pub fn issuer(text: &str) -> Result<Self, Error> {
        uri(text)?;
        Ok(Self::Issuer(text.to_owned()))
    }

    /// The key set's own address.
    pub(super) async fn key_set(&self, fetch: &Fetch) -> Result<Uri, FetchError> {
        let issuer = match self {
            Self::KeySet(uri) => return Ok(uri.clone()),
            Self::Issuer(issuer) => issuer,
        };
        let discovery = |problem: String| FetchError::Discovery(problem);
        let document = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document = uri(&document).map_err(|error| discovery(error.to_string()))?;
        let document = get(fetch, &document).await?;
        let document: Document = serde_json::from_slice(&document)
            .map_err(|error| discovery(format!("is not what it should be: {error}")))?;
        if document.issuer != *issuer {
            return Err(discovery("is another issuer's".to_owned()));
        }
        let found = uri(&document.jwks_uri).map_err(|error| discovery(format!("has a `jwks_uri` that {error}")))?;
        if found.scheme_str() != Some("https") && issuer.starts_with("https:") {
            return Err(discovery("has a `jwks_uri` without TLS".to_owned()));
        }
        Ok(found)
    }
}

/// For logs and metrics: without the query, which may hold a secret.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::KeySet(uri) => return formatter.write_str(uri.to_string().split('?').next().unwrap_or_default()),
            Self::Issuer(issuer) => issuer,
        };
        formatter.write_str(text.split('?').next().unwrap_or_default())
    }
}

/// An address that may be asked.
pub(crate) fn uri(text: &str) -> Result<Uri, Error> {
    let uri: Uri = text.parse().map_err(|_| Error::Uri)?;
    let schemes = ["https", "http"];
    let authority = uri.authority().ok_or(Error::Uri)?;
    if authority.as_str().contains('@') {
        return Err(Error::User);
    }
    let known = uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme));
    if known && !authority.host().is_empty() { Ok(uri) } else { Err(Error::Uri) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_addresses_without_users_are_asked() {
        for good in ["https://issuer.example.com/keys?a=b", "http://127.0.0.1:8080/", "https://[::1]/keys"] {
            assert!(uri(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/keys",
            "issuer.example.com",
            "gopher://a/b",
            "file:///etc/passwd",
            "https://",
            "https://a b/",
            "http://a\r\n/",
        ] {
            assert_eq!(uri(bad), Err(Error::Uri), "{bad}");
        }
        assert_eq!(uri("https://user:secret@issuer.example.com/"), Err(Error::User));
    }

    #[test]
    fn queries_are_not_shown() {
        let address = Address::key_set_at("https://a/keys?token=secret").map(|address| address.to_string());
        assert_eq!(address.as_deref(), Ok("https://a/keys"));
    }
}

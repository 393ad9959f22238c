//! The ways of proving an identity; one file each.

pub mod api_key;
pub mod jwt;
pub mod oidc;

use http::header::RETRY_AFTER;
use http::{HeaderName, StatusCode};

use crate::check::Check;
use crate::resources::Resources;
use crate::verdict::{Denial, Grant, LocalResponse, Removal};

/// One way of proving an identity, ready to use.
#[derive(Debug)]
pub enum Method {
    /// A key that was given to a client.
    ApiKey(Box<api_key::ApiKey>),
    /// A signed token of an issuer.
    Jwt(Box<jwt::Jwt>),
    /// A browser's session.
    Oidc(Box<oidc::Oidc>),
}

/// Why a credential that is there proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See [`api_key::Error`].
    #[error(transparent)]
    ApiKey(#[from] api_key::Error),
    /// See [`jwt::Error`].
    #[error(transparent)]
    Jwt(#[from] jwt::Error),
    /// See [`oidc::Error`].
    #[error(transparent)]
    Oidc(#[from] oidc::Error),
}

/// What is wrong with a method's configuration.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Path of the field below the method.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Invalid {
    /// Says what is wrong with a field.
    pub fn new(field: impl Into<String>, problem: &(impl ToString + ?Sized)) -> Self {
        Self { field: field.into(), problem: problem.to_string() }
    }
}

impl Method {
    /// Checks a method's configuration.
    pub fn compile(method: &proto::extauth::Method, resources: &Resources) -> Result<Self, Invalid> {
        match method {
            proto::extauth::Method::ApiKey(config) => {
                api_key::ApiKey::compile(config, resources).map(|keys| Self::ApiKey(Box::new(keys)))
            }
            proto::extauth::Method::Jwt(config) => {
                jwt::Jwt::compile(config, resources).map(|jwt| Self::Jwt(Box::new(jwt)))
            }
            proto::extauth::Method::Oidc(config) => {
                oidc::Oidc::compile(config, resources).map(|oidc| Self::Oidc(Box::new(oidc)))
            }
        }
    }

    /// Looks for the method's credential: `None` when the request has none, an error when it does not prove anything.
    pub async fn check(&self, check: &Check<'_>) -> Result<Option<Grant>, Error> {
        match self {
            Self::ApiKey(method) => Ok(method.check(check)?),
            Self::Jwt(method) => Ok(method.check(check).await?),
            Self::Oidc(method) => Ok(method.check(check).await?),
        }
    }

    /// The method's own answer to a request that is meant for itself, such as a browser that comes back from a login.
    pub async fn respond(&self, check: &Check<'_>) -> Option<LocalResponse> {
        match self {
            Self::Oidc(method) if method.answers(check) => Some(method.respond(check).await),
            Self::ApiKey(_) | Self::Jwt(_) | Self::Oidc(_) => None,
        }
    }

    /// The way to a credential, for a client that can be sent there.
    pub async fn login(&self, check: &Check<'_>) -> Option<LocalResponse> {
        match self {
            Self::ApiKey(_) | Self::Jwt(_) => None,
            Self::Oidc(method) => method.login(check).await,
        }
    }

    /// Whether the method, when it lets a request in, has verified what stands in `Authorization`.
    pub fn vouches_for_authorization(&self) -> bool {
        match self {
            Self::ApiKey(_) | Self::Oidc(_) => false,
            Self::Jwt(_) => true,
        }
    }

    /// The method's name in metadata and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ApiKey(_) => "api_key",
            Self::Jwt(_) => "jwt",
            Self::Oidc(_) => "oidc",
        }
    }

    /// The keys of the metadata under which there may be claims.
    pub fn providers(&self) -> Vec<&str> {
        match self {
            Self::ApiKey(_) => Vec::new(),
            Self::Jwt(method) => vec![method.provider()],
            Self::Oidc(method) => method.providers(),
        }
    }

    /// Every header that the method may set.
    pub fn identity(&self) -> Vec<HeaderName> {
        match self {
            Self::ApiKey(method) => method.identity(),
            Self::Jwt(method) => method.identity(),
            Self::Oidc(method) => method.identity(),
        }
    }

    /// Notes the credentials that must not reach the upstream, whichever method decides.
    pub fn strip(&self, check: &Check<'_>, removal: &mut Removal) {
        match self {
            Self::ApiKey(method) => method.strip(check, removal),
            Self::Jwt(method) => method.strip(check, removal),
            Self::Oidc(method) => method.strip(removal),
        }
    }

    /// What a client is told that sent no credential at all.
    pub fn missing(&self, check: &Check<'_>) -> Denial {
        match self {
            Self::ApiKey(_) => api_key::denial(None),
            Self::Jwt(_) => jwt::denial(&jwt::Error::Missing, check),
            Self::Oidc(method) => method.missing(),
        }
    }
}

impl Error {
    /// Whether the credential is some other method's business, such as a token of another issuer or an opaque one.
    pub fn foreign(&self) -> bool {
        match self {
            Self::Jwt(error) => matches!(error, jwt::Error::Form | jwt::Error::Issuer | jwt::Error::Audience),
            Self::Oidc(error) => error.over(),
            Self::ApiKey(_) => false,
        }
    }

    /// What the client is told.
    pub fn denial(&self, check: &Check<'_>) -> Denial {
        match self {
            Self::ApiKey(error) => api_key::denial(Some(error)),
            Self::Jwt(error) => jwt::denial(error, check),
            Self::Oidc(error) => oidc::denial(error),
        }
    }
}

/// Tells the client that it proved who it is not; shared by the methods.
fn unauthorized(challenge: String, body: &str, reason: String) -> Denial {
    Denial { challenges: vec![challenge], ..answer(StatusCode::UNAUTHORIZED, body, reason) }
}

/// Tells the client to try again after so many seconds; its credential was not looked at.
fn too_many(seconds: u64, reason: String) -> Denial {
    let headers = vec![(RETRY_AFTER, seconds.to_string())];
    Denial { headers, ..answer(StatusCode::TOO_MANY_REQUESTS, "Too many failed attempts.", reason) }
}

/// Tells the client that nobody can say at the moment who it is.
fn unavailable(reason: String) -> Denial {
    let headers = vec![(RETRY_AFTER, "1".to_owned())];
    Denial { headers, ..answer(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable", reason) }
}

fn answer(status: StatusCode, body: &str, reason: String) -> Denial {
    Denial { status, challenges: Vec::new(), headers: Vec::new(), body: body.to_owned(), reason }
}

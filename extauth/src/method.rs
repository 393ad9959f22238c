//! The ways of proving an identity; one file each.

pub mod api_key;
pub mod basic;
pub mod client_certificate;
pub mod introspection;
pub mod jwt;
pub mod kubernetes;
pub mod oidc;

use std::sync::Arc;

use http::header::RETRY_AFTER;
use http::{HeaderName, StatusCode};

use crate::authority;
use crate::check::Check;
use crate::policy::forbidden;
use crate::resources::Resources;
use crate::verdict::{Denial, Grant, LocalResponse, Removal};

/// One way of proving an identity, ready to use.
#[derive(Debug)]
pub enum Method {
    /// A key that was given to a client.
    ApiKey(Box<api_key::ApiKey>),
    /// A user name and a password.
    Basic(Box<basic::Basic>),
    /// A signed token of an issuer.
    Jwt(Box<jwt::Jwt>),
    /// A browser's session.
    Oidc(Box<oidc::Oidc>),
    /// A token that its issuer is asked about.
    Introspection(introspection::Introspection),
    /// A certificate of the client.
    ClientCertificate(Box<client_certificate::ClientCertificate>),
    /// A token of a Kubernetes service account.
    Kubernetes(kubernetes::Kubernetes),
}

/// Why a credential that is there proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See [`api_key::Error`].
    #[error(transparent)]
    ApiKey(#[from] api_key::Error),
    /// See [`basic::Error`].
    #[error("{source}")]
    Basic {
        /// What is wrong.
        source: basic::Error,
        /// How the client is asked for something better.
        challenge: Arc<str>,
    },
    /// See [`jwt::Error`].
    #[error(transparent)]
    Jwt(#[from] jwt::Error),
    /// See [`oidc::Error`].
    #[error(transparent)]
    Oidc(#[from] oidc::Error),
    /// See [`authority::Error`].
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// See [`client_certificate::Error`].
    #[error(transparent)]
    ClientCertificate(#[from] client_certificate::Error),
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
            proto::extauth::Method::Basic(config) => {
                basic::Basic::compile(config, resources).map(|users| Self::Basic(Box::new(users)))
            }
            proto::extauth::Method::Jwt(config) => {
                jwt::Jwt::compile(config, resources).map(|jwt| Self::Jwt(Box::new(jwt)))
            }
            proto::extauth::Method::Oidc(config) => {
                oidc::Oidc::compile(config, resources).map(|oidc| Self::Oidc(Box::new(oidc)))
            }
            proto::extauth::Method::Introspection(config) => {
                introspection::Introspection::compile(config, resources).map(Self::Introspection)
            }
            proto::extauth::Method::ClientCertificate(config) => {
                let compiled = client_certificate::ClientCertificate::compile(config)?;
                Ok(Self::ClientCertificate(Box::new(compiled)))
            }
            proto::extauth::Method::Kubernetes(config) => {
                kubernetes::Kubernetes::compile(config, resources).map(Self::Kubernetes)
            }
        }
    }

    /// Looks for the method's credential: `None` when the request has none, an error when it does not prove anything.
    pub async fn check(&self, check: &Check<'_>) -> Result<Option<Grant>, Error> {
        match self {
            Self::ApiKey(method) => Ok(method.check(check)?),
            Self::Basic(method) => Box::pin(method.check(check))
                .await
                .map_err(|source| Error::Basic { source, challenge: Arc::clone(method.challenge()) }),
            Self::Jwt(method) => Ok(method.check(check).await?),
            Self::Oidc(method) => Ok(method.check(check).await?),
            // Boxed, so that the others do not carry what these wait for.
            Self::Introspection(method) => Ok(Box::pin(method.check(check)).await?),
            Self::ClientCertificate(method) => Ok(method.check(check)?),
            Self::Kubernetes(method) => Ok(Box::pin(method.check(check)).await?),
        }
    }

    /// The method's own answer to a request that is meant for itself, such as a browser that comes back from a login.
    pub async fn respond(&self, check: &Check<'_>) -> Option<LocalResponse> {
        match self {
            Self::Oidc(method) if method.answers(check) => Some(method.respond(check).await),
            _ => None,
        }
    }

    /// The way to a credential, for a client that can be sent there.
    pub async fn login(&self, check: &Check<'_>) -> Option<LocalResponse> {
        match self {
            Self::Oidc(method) => method.login(check).await,
            _ => None,
        }
    }

    /// Whether the method, when it lets a request in, has verified what stands in `Authorization`.
    pub fn vouches_for_authorization(&self) -> bool {
        match self {
            Self::ApiKey(_) | Self::Oidc(_) | Self::ClientCertificate(_) => false,
            Self::Basic(_) | Self::Jwt(_) | Self::Introspection(_) | Self::Kubernetes(_) => true,
        }
    }

    /// The method's name in metadata and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ApiKey(_) => "api_key",
            Self::Basic(_) => "basic",
            Self::Jwt(_) => "jwt",
            Self::Oidc(_) => "oidc",
            Self::Introspection(_) => "introspection",
            Self::ClientCertificate(_) => "client_certificate",
            Self::Kubernetes(_) => "kubernetes",
        }
    }

    /// The keys of the metadata under which there may be claims.
    pub fn providers(&self) -> Vec<&str> {
        match self {
            Self::ApiKey(_) | Self::Basic(_) | Self::ClientCertificate(_) => Vec::new(),
            Self::Jwt(method) => vec![method.provider()],
            Self::Oidc(method) => method.providers(),
            Self::Introspection(method) => vec![method.provider()],
            Self::Kubernetes(method) => vec![method.provider()],
        }
    }

    /// Every header that the method may set.
    pub fn identity(&self) -> Vec<HeaderName> {
        match self {
            Self::ApiKey(method) => method.identity(),
            Self::Basic(method) => method.identity(),
            Self::Jwt(method) => method.identity(),
            Self::Oidc(method) => method.identity(),
            Self::Introspection(method) => method.identity(),
            Self::ClientCertificate(method) => method.identity(),
            Self::Kubernetes(method) => method.identity(),
        }
    }

    /// Notes the credentials that must not reach the upstream, whichever method decides.
    pub fn strip(&self, check: &Check<'_>, removal: &mut Removal) {
        match self {
            Self::ApiKey(method) => method.strip(check, removal),
            Self::Basic(method) => method.strip(check, removal),
            Self::Jwt(method) => method.strip(check, removal),
            Self::Oidc(method) => method.strip(check, removal),
            Self::Introspection(method) => method.strip(check, removal),
            // It belongs to the connection.
            Self::ClientCertificate(_) => {}
            Self::Kubernetes(method) => method.strip(check, removal),
        }
    }

    /// What a client is told that sent no credential at all.
    pub fn missing(&self, check: &Check<'_>) -> Denial {
        match self {
            Self::ApiKey(_) => api_key::denial(None),
            Self::Basic(method) => basic::denial(method.challenge(), None),
            Self::Jwt(_) => jwt::denial(&jwt::Error::Missing, check),
            Self::Oidc(method) => method.missing(),
            Self::Introspection(_) | Self::Kubernetes(_) => authority::denial(&authority::Error::Missing, check),
            Self::ClientCertificate(_) => forbidden("no client certificate was shown"),
        }
    }
}

impl Error {
    /// Whether the credential is some other method's business, such as a token of another issuer or an opaque one.
    pub fn foreign(&self) -> bool {
        match self {
            Self::Oidc(error) => error.over(),
            Self::ApiKey(_) | Self::Basic { .. } => false,
            Self::Jwt(error) => matches!(error, jwt::Error::Form | jwt::Error::Issuer | jwt::Error::Audience),
            Self::Authority(error) => matches!(error, authority::Error::Inactive | authority::Error::Forbidden(_)),
            // Whoever has another certificate may still have a token.
            Self::ClientCertificate(error) => *error == client_certificate::Error::Forbidden,
        }
    }

    /// What the client is told.
    pub fn denial(&self, check: &Check<'_>) -> Denial {
        match self {
            Self::ApiKey(error) => api_key::denial(Some(error)),
            Self::Basic { source, challenge } => basic::denial(challenge, Some(source)),
            Self::Jwt(error) => jwt::denial(error, check),
            Self::Oidc(error) => oidc::denial(error),
            Self::Authority(error) => authority::denial(error, check),
            Self::ClientCertificate(error) => client_certificate::denial(*error),
        }
    }
}

/// How to send a bearer token (RFC 6750, section 3), and whether the one that was sent is none.
pub(crate) fn bearer_challenge(check: &Check<'_>, invalid: bool) -> String {
    let realm = check.uri().map(|uri| format!("realm=\"{uri}\""));
    let invalid = invalid.then(|| "error=\"invalid_token\"".to_owned());
    let parameters = realm.into_iter().chain(invalid).collect::<Vec<_>>().join(", ");
    format!("Bearer {parameters}").trim_end().to_owned()
}

/// Tells the client that it proved who it is not; shared by the methods.
pub(crate) fn unauthorized(challenge: String, body: &str, reason: String) -> Denial {
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

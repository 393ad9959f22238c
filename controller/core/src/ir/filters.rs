//! What the filters of a route's rule ask of Envoy's HTTP filters.

use std::fmt;

use controller_api::security_policy::{cors::Cors, ext_auth::ExtAuth as ExtAuthSpec};

use super::{ExtAuth, ObjectRef};

/// The filters of one rule that act in Envoy's chain of HTTP filters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpFilters {
    /// `CORS`; wins over a SecurityPolicy's.
    pub cors: Option<Box<Cors>>,
    /// `ExternalAuth`; asked beside a SecurityPolicy's.
    pub external_auth: Option<Box<ExternalAuth>>,
    /// `credentialInjection` of an `HTTPRouteFilter`.
    pub credential: Option<Box<Credential>>,
    /// The rule's `sessionPersistence`.
    pub session: Option<Session>,
}

/// An `ExternalAuth` filter.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalAuth {
    /// The route it belongs to.
    pub route: ObjectRef,
    /// What is sent and taken over, in the words of a SecurityPolicy.
    pub spec: ExtAuthSpec,
    /// Its backend, with cluster name `<destination of the rule>/extauth/0`.
    pub backend: ExtAuth,
}

/// A credential that goes to the backend.
#[derive(Clone, PartialEq)]
pub struct Credential {
    /// The `HTTPRouteFilter`.
    pub owner: ObjectRef,
    /// `Authorization` when unset.
    pub header: Option<String>,
    /// Replaces what the client sent.
    pub overwrite: bool,
    /// The header's value.
    pub value: Vec<u8>,
}

/// Names the header only.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("owner", &self.owner).field("header", &self.header).finish_non_exhaustive()
    }
}

/// How a client is led back to the endpoint that answered it first.
#[derive(Clone, Debug, PartialEq)]
pub enum Session {
    /// By a cookie.
    Cookie {
        /// Its name.
        name: String,
        /// Lifetime in milliseconds; the browser's session when unset.
        ttl_ms: Option<u64>,
    },
    /// By a header, which the client has to send back.
    Header {
        /// Its name.
        name: String,
    },
}

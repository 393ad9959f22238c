//! The policies that `extauth` serves: one schema for its YAML files and for what the controller hands it.

mod api_key;
mod backends;
mod basic;
mod client_certificate;
mod failed_attempts;
mod introspection;
mod jwt;
mod kubernetes;
mod oidc;
mod resource;
mod results;
mod retry;
mod rule;
mod secret;
mod started_logins;

use serde::{Deserialize, Serialize};

pub use self::api_key::{ApiKey, Key};
pub use self::backends::{BackendTls, Backends};
pub use self::basic::Basic;
pub use self::client_certificate::{CertificateSource, ClientCertificate, Spiffe};
pub use self::failed_attempts::FailedAttempts;
pub use self::introspection::{Introspection, SecretAuth};
pub use self::jwt::{ClaimToHeader, Format, Jwt, RequiredClaim};
pub use self::kubernetes::Kubernetes;
pub use self::oidc::{
    Allow, ClientAuth, CookieNames, DenyRedirect, ForwardIdToken, HeaderMatch, Oidc, OidcProvider, SameSite,
    SessionCookie, SessionKind, StringMatch,
};
pub use self::resource::AuthPolicy;
pub use self::results::{Denied, DeniedResponse, NamedValue, Results, RouteMatch};
pub use self::retry::Retry;
pub use self::rule::{Action, ClaimCondition, Conditions, HeaderCondition, PathMatch, Rule};
pub use self::secret::Secret;
pub use self::started_logins::StartedLogins;

/// A set of policies; the root of one file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policies {
    /// Each with a name of its own, over all files.
    #[serde(default)]
    pub policies: Vec<Policy>,
}

/// How the requests of a route prove who they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// What Envoy's context extension `policy` says for a route that this policy guards.
    pub name: String,
    /// Tried in order; the first whose credential is present decides. At least one.
    pub methods: Vec<Method>,
    /// Let requests without any credential pass as anonymous.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// What those may do whom a method let in; the first rule that fits decides. Without rules they may do anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What becomes of requests that no rule fits: they are denied unless this says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Action>,
    /// Proxies before Envoy that append to `X-Forwarded-For` and are to be believed: the client's address in the rules is what
    /// the first of them says. None by default: it is then the address that is connected to Envoy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub trusted_hops: u8,
    /// What goes out with a request that may pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Results>,
    /// What clients read whose request may not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denied>,
    /// The requests that this policy guards where Envoy's context extensions name no policy.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<RouteMatch>,
    /// Only count and log what would be denied, and let it pass without any identity.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

/// One way of proving an identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Method {
    /// A key that was given to a client.
    ApiKey(ApiKey),
    /// A user name and a password.
    Basic(Basic),
    /// A signed token of an issuer.
    Jwt(Jwt),
    /// A browser's session, after a login at an OpenID provider.
    Oidc(Box<Oidc>),
    /// A token that its issuer is asked about.
    Introspection(Introspection),
    /// A certificate of the client.
    ClientCertificate(ClientCertificate),
    /// A token of a Kubernetes service account.
    Kubernetes(Kubernetes),
}

/// Where a credential is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Source {
    /// A request header; `prefix` (such as `Bearer `) is required and cut off when set.
    Header {
        /// Case-insensitive header name.
        name: String,
        /// Compared case-insensitively.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        prefix: String,
    },
    /// A query parameter.
    Query {
        /// Parameter name, compared as it stands.
        name: String,
    },
    /// A cookie.
    Cookie {
        /// Cookie name, compared as it stands.
        name: String,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

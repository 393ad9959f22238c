//! Logging people in with OpenID Connect.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Duration,
    backend_ref::{BackendRef, SecretRef},
    cluster_settings::ClusterSettings,
};

/// Browsers log in at a provider and get a session; other requests without one are refused.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Oidc {
    /// Where people log in.
    pub provider: OidcProvider,
    /// Our name at the provider; exactly one of this and `clientIDRef`.
    #[serde(rename = "clientID", default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The Secret that holds our name under `client-id`.
    #[serde(rename = "clientIDRef", default, skip_serializing_if = "Option::is_none")]
    pub client_id_ref: Option<SecretRef>,
    /// The Secret that holds our secret under `client-secret`.
    pub client_secret: SecretRef,
    /// Names of the cookies in which tokens reach the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie_names: Option<OidcCookieNames>,
    /// How the session's cookie is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie_config: Option<OidcCookieConfig>,
    /// The domain whose hosts share a session; the request's own host when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie_domain: Option<String>,
    /// Besides `openid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// What the access token is for (RFC 8707).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Where the provider sends browsers back to; `/oauth2/callback` of the request's own host when unset.
    #[serde(rename = "redirectURL", default, skip_serializing_if = "Option::is_none")]
    pub redirect_url: Option<String>,
    /// Requests that are answered with 401 instead of a redirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny_redirect: Option<OidcDenyRedirect>,
    /// The path that ends a session; `/logout` when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logout_path: Option<String>,
    /// Send the access token to the backend as `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_access_token: Option<bool>,
    /// Send the ID token to the backend.
    #[serde(rename = "forwardIDToken", default, skip_serializing_if = "Option::is_none")]
    pub forward_id_token: Option<OidcForwardIdToken>,
    /// Lifetime of an access token whose provider names none.
    #[serde(rename = "defaultTokenTTL", default, skip_serializing_if = "Option::is_none")]
    pub default_token_ttl: Option<Duration>,
    /// Refresh tokens before they expire, which is what happens when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<bool>,
    /// Lifetime of a refresh token that does not say its own; a week when unset.
    #[serde(rename = "defaultRefreshTokenTTL", default, skip_serializing_if = "Option::is_none")]
    pub default_refresh_token_ttl: Option<Duration>,
    /// How long a login may take; ten minutes when unset.
    #[serde(rename = "csrfTokenTTL", default, skip_serializing_if = "Option::is_none")]
    pub csrf_token_ttl: Option<Duration>,
    /// Without effect: browsers get the session's id and no tokens, which are kept on the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_token_encryption: Option<bool>,
    /// Requests with `Authorization: Bearer` need no session but a token of one of `jwt.providers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_through_auth_header: Option<bool>,
}

/// An OpenID provider.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcProvider {
    /// Its URL; what is not set below is discovered there.
    #[schemars(length(min = 1))]
    pub issuer: String,
    /// Where browsers are sent to log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_endpoint: Option<String>,
    /// Where codes are exchanged for tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// Where browsers are sent to log out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_session_endpoint: Option<String>,
    /// Where the provider is reached instead of at the hosts of its URLs: without TLS, whatever those say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
    /// The older spelling of `backendRefs`, which is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<BackendRef>,
    /// How the provider's hosts are dealt with. Not translated yet and without effect, which the status says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_settings: Option<Box<ClusterSettings>>,
}

/// Cookies in which tokens reach the backend, and filters behind the login such as `jwt`. Browsers never get them.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcCookieNames {
    /// Of the cookie with the access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// Of the cookie with the ID token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_token: Option<String>,
}

/// How a cookie is set.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcCookieConfig {
    /// Whether other sites' requests carry it; `Lax` when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_site: Option<SameSite>,
}

/// Whether other sites' requests carry a cookie.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[allow(missing_docs, reason = "each is the cookie attribute's value that it is named after")]
pub enum SameSite {
    Lax,
    Strict,
    None,
}

/// Requests that are answered with 401 instead of a redirect.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcDenyRedirect {
    /// One that matches is enough.
    #[schemars(length(min = 1, max = 16))]
    pub headers: Vec<OidcDenyRedirectHeader>,
}

/// A header and what it says.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcDenyRedirectHeader {
    /// Its name.
    pub name: String,
    /// How the value is compared; `Exact` when unset.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<StringMatchType>,
    /// What it is compared with.
    pub value: String,
}

/// How a text is compared.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[allow(missing_docs, reason = "each says what is compared")]
pub enum StringMatchType {
    #[default]
    Exact,
    Prefix,
    Suffix,
    RegularExpression,
}

/// Where the backend gets the ID token.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcForwardIdToken {
    /// Header name; `Authorization` gets a `Bearer` before the token.
    pub header: String,
}

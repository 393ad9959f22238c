//! Logging people in with OpenID Connect.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Backends, ClaimToHeader, Retry, Secret, StartedLogins};

/// Browsers that log in at a provider, and the sessions that they get. Everything that is no page of a browser is asked for
/// a session with 401 and never redirected.
///
/// A route that lets requests with a bearer token pass has a `jwt` method before this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Oidc {
    /// At least one; of several, the user chooses.
    pub providers: Vec<OidcProvider>,
    /// Where a provider sends the browser back to, `/oauth2/callback` on the request's own host by default. Scheme and
    /// authority may be `%REQ(x-forwarded-proto)%` and `%REQ(:authority)%`. A fixed host serves many: see `hosts`.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "redirectURL")]
    pub redirect_url: Option<String>,
    /// Hosts, such as `app.example.com` or `*.example.com`, whose logins come back over the fixed host of `redirect_url`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Path that starts a login, also where `optional` lets anonymous requests pass: `?provider=NAME&rd=/path`.
    #[serde(default = "default_login_path")]
    pub login_path: String,
    /// Path that ends the session.
    #[serde(default = "default_logout_path")]
    pub logout_path: String,
    /// Path to which a provider posts logout tokens (OpenID Connect Back-Channel Logout 1.0). Envoy has to send the body along.
    #[serde(default = "default_back_channel_logout_path")]
    pub back_channel_logout_path: String,
    /// Where a browser ends up after a logout: a path of its host, or a URL that the provider knows; a page that says so by
    /// default.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "postLogoutRedirectURL")]
    pub post_logout_redirect_url: Option<String>,
    /// Requests that get 401 although they look like a browser's.
    #[serde(default, skip_serializing_if = "DenyRedirect::is_empty")]
    pub deny_redirect: DenyRedirect,
    /// The cookie with the session's id.
    #[serde(default, skip_serializing_if = "SessionCookie::is_default")]
    pub cookie: SessionCookie,
    /// Where sessions and started logins are kept.
    #[serde(default, skip_serializing_if = "SessionKind::is_stored")]
    pub session: SessionKind,
    /// For [`SessionKind::Sealed`]: 32 bytes in base64 a line. The first key seals, all of them open, so that a new first line
    /// replaces the key while the sessions of the old one go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing_keys: Option<Secret>,
    /// The same, in a file beside the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing_keys_file: Option<String>,
    /// How long a login may take, in seconds.
    #[serde(default = "default_csrf_token_ttl", rename = "csrfTokenTTLSeconds")]
    pub csrf_token_ttl_seconds: u64,
    /// How many logins may be under way.
    #[serde(default, skip_serializing_if = "StartedLogins::is_default")]
    pub started_logins: StartedLogins,
    /// How long a session lives at most, in seconds, however often it is refreshed; without a limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_session_seconds: Option<u64>,
    /// Send the access token to the upstream as `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forward_access_token: bool,
    /// Send the ID token to the upstream in this header; `Authorization` gets a `Bearer` before it.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "forwardIDToken")]
    pub forward_id_token: Option<ForwardIdToken>,
    /// Send tokens to the upstream in cookies of these names, which the browser itself never gets.
    #[serde(default, skip_serializing_if = "CookieNames::is_empty")]
    pub cookie_names: CookieNames,
    /// Claims that go out as headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims_to_headers: Vec<ClaimToHeader>,
    /// Who of the provider's users may come in; all by default.
    #[serde(default, skip_serializing_if = "Allow::is_empty")]
    pub allow: Allow,
}

/// An OpenID provider, and what it knows us by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OidcProvider {
    /// Name of the provider, which is also the key of its claims in the dynamic metadata.
    pub name: String,
    /// What people read where they choose; the name by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// URL of the provider: `https`, or `http` on a loopback address or with `allow_http`.
    pub issuer: String,
    /// Instead of what discovery says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_endpoint: Option<String>,
    /// Instead of what discovery says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint: Option<String>,
    /// Instead of what discovery says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_session_endpoint: Option<String>,
    /// Who answers all of our requests to the provider, instead of the hosts in its URLs. Browsers are sent to the URLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backends: Option<Backends>,
    /// Milliseconds that a request to the provider may take with all its attempts, 10,000 at most; 5,000 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_timeout_ms: Option<u64>,
    /// When requests to the provider are sent once more; never by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Let the provider be reached without TLS; whoever can change what it says can then log in as anybody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_http: bool,
    /// Our name at the provider.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// Our secret at the provider; exactly one of this and `client_secret_file`, unless `client_auth` needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// Our secret, in a file beside the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<String>,
    /// How we prove to the provider who we are.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// Our private key (PKCS #8 in PEM) for [`ClientAuth::PrivateKeyJwt`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key: Option<Secret>,
    /// Our private key, in a file beside the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_file: Option<String>,
    /// The key's `kid` at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "clientKeyID")]
    pub client_key_id: Option<String>,
    /// JOSE name of the algorithm to sign with; RS256 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_algorithm: Option<String>,
    /// Besides `openid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// What the access token is for (RFC 8707).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// More parameters of the authorization request, such as `prompt` or `acr_values`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub authorization_params: BTreeMap<String, String>,
    /// Add what the provider's `userinfo` endpoint says to the claims, at login.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub user_info: bool,
    /// Refresh tokens before they expire.
    #[serde(default = "default_true")]
    pub refresh_token: bool,
    /// Lifetime of an access token when the provider says none, in seconds; 0 makes such a login fail.
    #[serde(default, rename = "defaultTokenTTLSeconds")]
    pub default_token_ttl_seconds: u64,
    /// Lifetime of a refresh token that does not say its own, in seconds; 0 is the default, a week.
    #[serde(default = "default_refresh_token_ttl", rename = "defaultRefreshTokenTTLSeconds")]
    pub default_refresh_token_ttl_seconds: u64,
    /// How far the provider's clock may be off, in seconds.
    #[serde(default = "default_leeway")]
    pub leeway_seconds: u64,
}

/// How a client proves to the token endpoint who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClientAuth {
    /// The secret in the header `Authorization: Basic`.
    #[default]
    SecretBasic,
    /// The secret in the body.
    SecretPost,
    /// A token signed with our key (RFC 7523).
    PrivateKeyJwt,
    /// Nothing: a public client, which has PKCE only.
    None,
}

/// Requests that are not redirected to a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DenyRedirect {
    /// One that matches is enough.
    #[serde(default)]
    pub headers: Vec<HeaderMatch>,
}

/// A header of a request and what it has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderMatch {
    /// Case-insensitive name.
    pub name: String,
    /// How the value is compared.
    #[serde(default, rename = "type")]
    pub kind: StringMatch,
    /// What it is compared with.
    pub value: String,
}

/// How a text is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StringMatch {
    /// It is the value.
    #[default]
    Exact,
    /// It starts with the value.
    Prefix,
    /// It ends with the value.
    Suffix,
    /// The value is a regular expression that matches all of it.
    RegularExpression,
}

/// The one cookie that a browser gets. It is always `Secure`, `HttpOnly` and for `Path=/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionCookie {
    /// Its name: by default one of the providers' own, with the prefix `__Host-` (`__Secure-` with a domain).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The domain whose hosts share the session; by default only the host that the browser asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Whether other sites' requests carry it.
    #[serde(default)]
    pub same_site: SameSite,
}

/// Where sessions and started logins are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SessionKind {
    /// In the store; the browser has a random id.
    #[default]
    Stored,
    /// In cookies, sealed with `sealing_keys`. Nobody can end such a session from outside.
    Sealed,
}

/// Whether other sites' requests carry a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SameSite {
    /// Only when somebody follows a link.
    #[default]
    Lax,
    /// Never.
    Strict,
    /// Always.
    None,
}

/// Where the upstream gets the ID token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForwardIdToken {
    /// Header name.
    pub header: String,
}

/// Cookies in which the upstream, or Envoy's own JWT filter before it, gets the tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CookieNames {
    /// Name of the cookie with the access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// Name of the cookie with the ID token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_token: Option<String>,
}

/// Users that may come in. Each list that is set must admit the user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allow {
    /// Domains of e-mail addresses that the provider has verified, without subdomains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_domains: Option<Vec<String>>,
    /// Groups, of which the user must have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// Dotted path of the claim that lists the user's groups; `groups` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_claim: Option<String>,
}

impl Default for Oidc {
    fn default() -> Self {
        Self {
            providers: Vec::new(),
            redirect_url: None,
            hosts: Vec::new(),
            login_path: default_login_path(),
            logout_path: default_logout_path(),
            back_channel_logout_path: default_back_channel_logout_path(),
            post_logout_redirect_url: None,
            deny_redirect: DenyRedirect::default(),
            cookie: SessionCookie::default(),
            session: SessionKind::default(),
            sealing_keys: None,
            sealing_keys_file: None,
            csrf_token_ttl_seconds: default_csrf_token_ttl(),
            started_logins: StartedLogins::default(),
            max_session_seconds: None,
            forward_access_token: false,
            forward_id_token: None,
            cookie_names: CookieNames::default(),
            claims_to_headers: Vec::new(),
            allow: Allow::default(),
        }
    }
}

impl Default for OidcProvider {
    fn default() -> Self {
        Self {
            name: String::new(),
            display_name: None,
            issuer: String::new(),
            authorization_endpoint: None,
            token_endpoint: None,
            end_session_endpoint: None,
            backends: None,
            request_timeout_ms: None,
            retry: None,
            allow_http: false,
            client_id: String::new(),
            client_secret: None,
            client_secret_file: None,
            client_auth: ClientAuth::default(),
            client_key: None,
            client_key_file: None,
            client_key_id: None,
            client_key_algorithm: None,
            scopes: Vec::new(),
            resources: Vec::new(),
            authorization_params: BTreeMap::new(),
            user_info: false,
            refresh_token: true,
            default_token_ttl_seconds: 0,
            default_refresh_token_ttl_seconds: default_refresh_token_ttl(),
            leeway_seconds: default_leeway(),
        }
    }
}

impl DenyRedirect {
    fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }
}

impl SessionCookie {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl SessionKind {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_stored(&self) -> bool {
        *self == Self::Stored
    }
}

impl CookieNames {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Allow {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn default_login_path() -> String {
    "/oauth2/login".to_owned()
}

fn default_logout_path() -> String {
    "/logout".to_owned()
}

fn default_back_channel_logout_path() -> String {
    "/oauth2/backchannel-logout".to_owned()
}

fn default_csrf_token_ttl() -> u64 {
    600
}

fn default_refresh_token_ttl() -> u64 {
    604_800
}

fn default_leeway() -> u64 {
    60
}

fn default_true() -> bool {
    true
}

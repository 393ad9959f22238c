//! `HTTPRouteFilter`: what a route's `ExtensionRef` filter can do beyond Gateway API's own filters.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backend_ref::{LocalObjectRef, SecretRef};

/// Rewrites, answers at once, adds a credential, or matches cookies.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "gateway.envoyproxy.io",
    version = "v1alpha1",
    kind = "HTTPRouteFilter",
    root = "HttpRouteFilter",
    plural = "httproutefilters",
    namespaced,
    shortname = "hrf",
    category = "envoy-gateway",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteFilterSpec {
    /// Changes host and path on the way to the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_rewrite: Option<UrlRewrite>,
    /// Answers instead of a backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_response: Option<DirectResponse>,
    /// Adds a credential for the backend to the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_injection: Option<CredentialInjection>,
    /// Further conditions of the rule, any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub matches: Vec<CookieMatches>,
}

/// How host and path change.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UrlRewrite {
    /// Where the new host comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<HostnameRewrite>,
    /// The new path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    /// Whether the old host goes into `X-Forwarded-Host`; so it does when unset.
    #[serde(default, rename = "appendXForwardedHost", skip_serializing_if = "Option::is_none")]
    pub append_x_forwarded_host: Option<bool>,
}

/// Where a request's new host comes from.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostnameRewrite {
    /// Which of the fields counts.
    #[serde(rename = "type")]
    pub kind: HostnameRewriteType,
    /// Name of the header with the host, for [`HostnameRewriteType::Header`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// What becomes of the path, for [`HostnameRewriteType::PathRegex`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<RegexReplacement>,
}

/// Sources of a host.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum HostnameRewriteType {
    /// A header of the request.
    Header,
    /// The DNS name of the backend.
    Backend,
    /// The request's path, after a replacement.
    PathRegex,
}

/// How a path is written anew.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathRewrite {
    /// Which of the fields counts.
    #[serde(rename = "type")]
    pub kind: PathRewriteType,
    /// For [`PathRewriteType::ReplaceRegexMatch`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_regex_match: Option<RegexReplacement>,
}

/// Ways to write a path anew.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum PathRewriteType {
    /// By a pattern.
    ReplaceRegexMatch,
}

/// A pattern and what takes the place of what it matches.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegexReplacement {
    /// RE2.
    pub pattern: String,
    /// `\1` is the pattern's first group.
    pub substitution: String,
}

/// An answer.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectResponse {
    /// `Content-Type` of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Text of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<ResponseBody>,
    /// HTTP status, 200 when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// Headers of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<ResponseHeaders>,
}

/// Text of an answer.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResponseBody {
    /// Which of the fields counts.
    #[serde(rename = "type", default)]
    pub kind: ResponseBodyType,
    /// The text itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
    /// A ConfigMap with the text under the key `response.body`, or under its first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_ref: Option<LocalObjectRef>,
}

/// Where an answer's text is.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum ResponseBodyType {
    /// In the filter.
    #[default]
    Inline,
    /// In a ConfigMap.
    ValueRef,
}

/// Changes to an answer's headers.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResponseHeaders {
    /// Added to what is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub add: Vec<ResponseHeader>,
    /// In place of what is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub set: Vec<ResponseHeader>,
    /// Nothing of the answer is there to be removed: a filter that wants it is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub remove: Vec<String>,
}

/// A header.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResponseHeader {
    /// Its name; case does not matter.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A credential of the Gateway's own for a backend.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialInjection {
    /// `Authorization` when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// Whether it takes the place of a credential that the client sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overwrite: Option<bool>,
    /// The credential.
    pub credential: InjectedCredential,
}

/// Where an injected credential is.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InjectedCredential {
    /// A Secret with the header's value under the key `credential`.
    pub value_ref: SecretRef,
}

/// Cookies that a request must have, all of them.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CookieMatches {
    /// The cookies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub cookies: Vec<CookieMatch>,
}

/// A cookie that a request must have.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CookieMatch {
    /// How the value is compared.
    #[serde(rename = "type", default)]
    pub kind: CookieMatchType,
    /// Case matters.
    pub name: String,
    /// Text or pattern.
    pub value: String,
}

/// How a cookie's value is compared.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum CookieMatchType {
    /// For equality.
    #[default]
    Exact,
    /// With RE2, over the whole value.
    RegularExpression,
}

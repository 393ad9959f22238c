//! What goes out with a request that may pass, and what a client reads whose request may not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What goes out with a request that may pass. Values are texts with `{client}`, `{tier}`, `{tenant}`, `{method}`, `{scopes}`,
/// `{labels.NAME}` and `{claims.PATH}` in them; one with something in it that is not known does not go out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Results {
    /// Headers for the upstream. The client's own, in every spelling, are removed from every request. A name that stands
    /// twice gets both values, with a comma between them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<NamedValue>,
    /// Headers that the upstream does not see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_headers: Vec<String>,
    /// Query parameters for the upstream, encoded as needed; the client's own are replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<NamedValue>,
    /// Query parameters that the upstream does not see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_query: Vec<String>,
    /// Headers for the client, in the upstream's answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<NamedValue>,
    /// Dynamic metadata, for rate limits, access logs and later filters. A value that is one `{…}` and nothing else keeps
    /// its type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A name and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamedValue {
    /// Of a header or a parameter.
    pub name: String,
    /// Text, perhaps with `{…}` in it.
    pub value: String,
}

/// What clients read whose request may not pass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Denied {
    /// Instead of 401: nobody knows who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unauthenticated: Option<DeniedResponse>,
    /// Instead of 403: they may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unauthorized: Option<DeniedResponse>,
}

/// One such answer. What is not set stays as it is without it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeniedResponse {
    /// HTTP status from 300 to 599. gRPC clients always get theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// More headers, such as `location`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<NamedValue>,
    /// Body for those who ask for nothing in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Body for those who ask for HTML, which are people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// Body for those who ask for JSON, which are programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
}

/// Requests that a policy guards where Envoy names none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteMatch {
    /// Host names without a port, `*.example.com` for all below one; every host by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Paths and what lies below them; every path by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path_prefixes: Vec<String>,
}

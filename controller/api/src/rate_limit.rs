//! Rate limits: in each Envoy by itself (local) or counted by the rate limit service (global).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Global and local limits of a route; both apply when both are set.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitSpec {
    /// Deprecated: when set, the other half is ignored.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<RateLimitType>,
    /// Counted by the rate limit service over all Envoys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global: Option<GlobalRateLimit>,
    /// Counted by each Envoy by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalRateLimit>,
}

impl RateLimitSpec {
    /// The global half, unless `type` says that only the local one counts.
    pub fn global(&self) -> Option<&GlobalRateLimit> {
        self.global.as_ref().filter(|_| self.kind != Some(RateLimitType::Local))
    }

    /// The local half, unless `type` says that only the global one counts.
    pub fn local(&self) -> Option<&LocalRateLimit> {
        self.local.as_ref().filter(|_| self.kind != Some(RateLimitType::Global))
    }
}

/// Which half of a [`RateLimitSpec`] counts.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[allow(missing_docs, reason = "each is the half that it is named after")]
pub enum RateLimitType {
    Global,
    Local,
}

/// Limits that the rate limit service counts.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GlobalRateLimit {
    /// Every rule that a request matches is charged; the request is limited when one of them is used up.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub rules: Vec<RateLimitRule>,
}

/// Limits that each Envoy counts by itself.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRateLimit {
    /// At most one without selectors: the default, which counts what no other rule matches.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub rules: Vec<RateLimitRule>,
}

/// A limit and the requests that it counts.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitRule {
    /// All of them must match; every request when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub client_selectors: Vec<RateLimitSelectCondition>,
    /// How many requests in how long.
    pub limit: RateLimitValue,
    /// What a request and its response take from the limit; 1 for the request when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<RateLimitCost>,
    /// One counter for all routes that have the policy, rather than one for each of them. Global limits only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<bool>,
    /// Count, but let every request pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_mode: Option<bool>,
    /// Whether responses carry `x-ratelimit-*` headers for this rule.
    #[serde(rename = "xRateLimitHeaders", default, skip_serializing_if = "Option::is_none")]
    pub x_rate_limit_headers: Option<XRateLimitHeaders>,
}

/// Whether responses say how much of a limit is left.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum XRateLimitHeaders {
    /// They do not.
    Off,
    /// As draft-ietf-httpapi-ratelimit-headers-03 has it.
    DraftVersion03,
}

/// Everything that is set must match.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitSelectCondition {
    /// All of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub headers: Vec<KeyedMatch>,
    /// One of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<MethodMatch>,
    /// The request's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// The client's address.
    #[serde(rename = "sourceCIDR", default, skip_serializing_if = "Option::is_none")]
    pub source_cidr: Option<SourceMatch>,
    /// All of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub query_params: Vec<KeyedMatch>,
}

impl RateLimitSelectCondition {
    /// Nothing is set.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// A header or query parameter and its value.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyedMatch {
    /// How the value is compared.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<KeyedMatchType>,
    /// Of the header or parameter.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Text or RE2; none for `Distinct`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub value: Option<String>,
    /// Match when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invert: Option<bool>,
}

/// How a header or query parameter is compared.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum KeyedMatchType {
    /// Equality.
    #[default]
    Exact,
    /// RE2 over the whole value.
    RegularExpression,
    /// Anything; each value has a counter of its own.
    Distinct,
}

/// A request method.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MethodMatch {
    /// In upper case.
    pub value: HttpMethod,
    /// Match when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invert: Option<bool>,
}

/// Gateway API's request methods.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "each is the method that it is named after")]
pub enum HttpMethod {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

impl HttpMethod {
    /// In upper case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
        }
    }
}

/// A request path and how it is compared.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathMatch {
    /// `PathPrefix` when unset.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<PathMatchType>,
    /// Path, prefix or RE2.
    #[serde(default = "root")]
    #[schemars(length(max = 1024))]
    pub value: String,
    /// Match when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invert: Option<bool>,
}

fn root() -> String {
    "/".into()
}

/// How a path is compared.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum PathMatchType {
    /// Equality.
    Exact,
    /// Whole segments from the left.
    #[default]
    PathPrefix,
    /// RE2 over the whole path.
    RegularExpression,
}

/// A range of client addresses.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceMatch {
    /// How addresses within the range are counted.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SourceMatchType>,
    /// A CIDR.
    #[schemars(length(min = 1, max = 256))]
    pub value: String,
    /// Match addresses outside the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invert: Option<bool>,
}

/// How addresses within a range are counted.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum SourceMatchType {
    /// Together.
    #[default]
    Exact,
    /// Each by itself.
    Distinct,
}

/// How many requests in how long.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitValue {
    /// Zero admits none.
    pub requests: u32,
    /// Length of the window.
    pub unit: RateLimitUnit,
    /// A limit that an earlier filter has put into the dynamic metadata wins over this one. Global limits only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_metadata: Option<RateLimitMetadata>,
}

/// Length of a rate limit's window.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[allow(missing_docs, reason = "each is the unit that it is named after")]
pub enum RateLimitUnit {
    #[default]
    Second,
    Minute,
    Hour,
    Day,
    Week,
    /// 30 days in a local limit.
    Month,
    /// 365 days in a local limit.
    Year,
}

impl RateLimitUnit {
    /// In seconds, with months of 30 and years of 365 days.
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
            Self::Month => 30 * 86_400,
            Self::Year => 365 * 86_400,
        }
    }
}

/// A value in the dynamic metadata of a request.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitMetadata {
    /// Usually a filter's name.
    #[schemars(length(min = 1))]
    pub namespace: String,
    /// Key within the namespace.
    #[schemars(length(min = 1))]
    pub key: String,
}

/// What a request and its response take from a limit.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitCost {
    /// Taken before the request is sent on; 1 when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RateLimitCostSpecifier>,
    /// Taken when the response has ended; nothing when unset. Global limits only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<RateLimitCostSpecifier>,
}

/// A cost and where it comes from.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitCostSpecifier {
    /// Which of the two others counts.
    pub from: RateLimitCostFrom,
    /// Zero only looks whether the limit is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// A number in the dynamic metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RateLimitMetadata>,
}

/// Where a cost comes from.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[allow(missing_docs, reason = "each is the field that it is named after")]
pub enum RateLimitCostFrom {
    Number,
    Metadata,
}

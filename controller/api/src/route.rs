//! What all kinds of routes have in common; `HTTPRoute`'s types serve for each of them.

pub use gateway_api::apis::experimental::httproutes::{
    HttpRouteParentRefs as ParentRef, HttpRouteRulesBackendRefs as BackendRef, HttpRouteStatus as Status,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rule of a route that looks into no request: every connection or datagram goes to one of its backends.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The name that policies know it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where to, by weight; such a route has no filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_refs: Option<Vec<BackendRef>>,
}

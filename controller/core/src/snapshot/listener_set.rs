//! `ListenerSet`, with the listeners as the same type that a Gateway has them in.

use gateway_api::apis::experimental::{gateways::GatewayListeners, listenersets::ListenerSetParentRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

/// More listeners for a Gateway, perhaps from another namespace.
#[derive(Clone, Debug, Deserialize)]
pub struct ListenerSet {
    /// As of any object.
    pub metadata: ObjectMeta,
    /// What it asks for.
    pub spec: Spec,
}

/// What a ListenerSet asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The Gateway.
    pub parent_ref: ListenerSetParentRef,
    /// Names need to be unique within the set only.
    pub listeners: Vec<GatewayListeners>,
}

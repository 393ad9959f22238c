//! GatewayClasses: which of them are ours.

use std::{collections::BTreeMap, sync::Arc};

use controller_api::envoy_proxy::EnvoyProxySpec;
use gateway_api::apis::experimental::gatewayclasses::GatewayClass as Object;
use serde_json::json;

use super::{
    inputs::Inputs,
    parameters::Parameters,
    status::{Conditions, Report, sentence},
};
use crate::ir::ObjectRef;

/// A GatewayClass of ours.
#[derive(Debug)]
pub(super) struct GatewayClass<'s> {
    /// As the operator wrote it.
    pub(super) object: &'s Object,
    /// How its fleets are run, or why that cannot be.
    pub(super) parameters: Result<Arc<EnvoyProxySpec>, String>,
}

/// Accepts the classes with our controller's name and returns theirs. Other classes are left alone.
pub(super) fn accept<'s>(
    inputs: &Inputs<'s>,
    parameters: &mut Parameters,
    report: &mut Report,
) -> BTreeMap<&'s str, GatewayClass<'s>> {
    let mut ours = BTreeMap::new();
    for ((_, name), object) in &inputs.snapshot.gateway_classes {
        if object.spec.controller_name != inputs.settings.controller_name {
            continue;
        }
        let class = GatewayClass { object, parameters: parameters.of_class(inputs, object) };
        let mut conditions = Conditions::default();
        match &class.parameters {
            Ok(_) => conditions.set("Accepted", true, "Accepted", "Valid GatewayClass"),
            Err(cause) => {
                let message = format!("Invalid parametersRef: {}", sentence(cause));
                conditions.set("Accepted", false, "InvalidParameters", message);
            }
        }
        let of = ObjectRef { kind: "GatewayClass", namespace: String::new(), name: name.clone() };
        report.push(&of, json!({"conditions": conditions.to_json(object.metadata.generation)}));
        ours.insert(name.as_str(), class);
    }
    ours
}

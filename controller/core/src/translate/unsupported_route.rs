//! Routes of kinds that are not translated yet: refused, so that nobody takes silence for success.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    attachment,
    fault::Fault,
    gateway::Gateway,
    inputs::Inputs,
    status::{Conditions, Report, sentence},
};
use crate::snapshot::{Key, Route};

/// Writes the statuses of all routes that name one of `gateways`.
pub(super) fn refuse(inputs: &Inputs<'_>, gateways: &mut BTreeMap<Key, Gateway<'_>>, report: &mut Report) {
    for Route { object, metadata, parent_refs, .. } in inputs.snapshot.routes() {
        if ["HTTPRoute", "GRPCRoute"].contains(&object.kind) {
            continue;
        }
        let mut parents: Vec<Value> = Vec::new();
        for parent in parent_refs {
            let Some(gateway) = attachment::gateway(gateways, parent, &object.namespace) else { continue };
            let refusal = || Fault::accepted("UnsupportedValue", format!("{} is not supported yet", object.kind));
            let fault = match attachment::listeners(inputs, gateway, parent, object.kind, &object.namespace) {
                Ok(_) => refusal(),
                Err(fault) => fault,
            };
            let mut conditions = Conditions::default();
            conditions.set(fault.condition, false, fault.reason, sentence(&fault.message));
            parents.push(json!({
                "parentRef": parent,
                "controllerName": inputs.settings.controller_name,
                "conditions": conditions.to_json(metadata.generation),
            }));
        }
        if !parents.is_empty() {
            report.push(&object, json!({"parents": parents}));
        }
    }
}

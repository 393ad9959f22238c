//! GatewayClasses: which of them are ours.

use std::collections::BTreeSet;

use serde_json::json;

use super::{
    inputs::Inputs,
    status::{Conditions, Report},
};
use crate::ir::ObjectRef;

/// Accepts the classes with our controller's name and returns theirs. Other classes are left alone.
pub(super) fn accept<'s>(inputs: &Inputs<'s>, report: &mut Report) -> BTreeSet<&'s str> {
    let mut ours = BTreeSet::new();
    for ((_, name), class) in &inputs.snapshot.gateway_classes {
        if class.spec.controller_name != inputs.settings.controller_name {
            continue;
        }
        ours.insert(name.as_str());
        let mut conditions = Conditions::default();
        conditions.set("Accepted", true, "Accepted", "Valid GatewayClass");
        let object = ObjectRef { kind: "GatewayClass", namespace: String::new(), name: name.clone() };
        report.push(&object, json!({"conditions": conditions.to_json(class.metadata.generation)}));
    }
    ours
}

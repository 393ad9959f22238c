//! The status of `Backend` objects.

use serde_json::json;

use super::{
    backend,
    inputs::Inputs,
    status::{Conditions, Report},
};
use crate::ir::ObjectRef;

/// Says of every Backend whether it can be used.
pub(super) fn report(inputs: &Inputs<'_>, report: &mut Report) {
    for (key, object) in &inputs.snapshot.backends {
        let reference = ObjectRef { kind: "Backend", namespace: key.0.clone(), name: key.1.clone() };
        let mut conditions = Conditions::default();
        if !inputs.settings.backend {
            let message = "The Backend was not accepted since Backend is not enabled in Envoy Gateway Config";
            conditions.set("Accepted", false, "Invalid", message);
        } else if let Err(fault) = backend::validate(inputs, &reference, object) {
            let message = format!("The Backend was not accepted: {}", fault.message);
            conditions.set("Accepted", false, "Invalid", message);
        } else {
            conditions.set("Accepted", true, "Accepted", "The Backend was accepted");
        }
        report.push(&reference, json!({"conditions": conditions.to_json(object.metadata.generation)}));
    }
}

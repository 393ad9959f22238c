//! The status of `Backend` objects.

use std::sync::Arc;

use controller_api::backend::Backend;
use serde_json::json;

use super::{
    backend,
    inputs::Inputs,
    kept::Kept,
    status::{Conditions, ObjectStatus, Report},
};
use crate::ir::ObjectRef;

/// Says of every Backend whether it can be used.
pub(super) fn report(inputs: &Inputs<'_>, kept: &mut Kept<Arc<ObjectStatus>>, report: &mut Report) {
    for ((namespace, name), object) in inputs.snapshot.backends.iter() {
        let status = kept.of(inputs, object, || {
            let reference = ObjectRef { kind: "Backend", namespace: namespace.clone(), name: name.clone() };
            let conditions = conditions(inputs, &reference, object);
            ObjectStatus::new(&reference, json!({"conditions": conditions.to_json(object.metadata.generation)}))
        });
        report.add(&status);
    }
}

fn conditions(inputs: &Inputs<'_>, reference: &ObjectRef, object: &Backend) -> Conditions {
    let mut conditions = Conditions::default();
    if !inputs.settings.backend {
        let message = "The Backend was not accepted since Backend is not enabled in Envoy Gateway Config";
        conditions.set("Accepted", false, "Invalid", message);
    } else if let Err(fault) = backend::validate(inputs, reference, object) {
        let message = format!("The Backend was not accepted: {}", fault.message);
        conditions.set("Accepted", false, "Invalid", message);
    } else {
        conditions.set("Accepted", true, "Accepted", "The Backend was accepted");
    }
    conditions
}

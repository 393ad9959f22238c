//! GatewayClasses: which of them are ours, and what Gateways of them can do.

use std::collections::BTreeMap;

use gateway_api::apis::experimental::gatewayclasses::GatewayClass as Object;
use serde_json::{Value, json};

use super::{
    inputs::Inputs,
    parameters::{InForce, Parameters},
    status::{Conditions, Report, sentence},
};
use crate::{infra, ir::ObjectRef};

/// The features of Gateway API's conformance tests that work, by name.
const FEATURES: &[&str] = &[
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteRetryBackendTimeout",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
    "UDPRoute",
];

/// A GatewayClass of ours.
#[derive(Debug)]
pub(super) struct GatewayClass<'s> {
    /// As the operator wrote it.
    pub(super) object: &'s Object,
    /// All its Gateways share one fleet.
    pub(super) merges: bool,
    /// How its fleets are run, or why that cannot be.
    pub(super) parameters: Result<InForce, String>,
}

/// Accepts the classes with our controller's name and returns theirs. Other classes are left alone.
pub(super) fn accept<'s>(
    inputs: &Inputs<'s>,
    parameters: &mut Parameters,
    report: &mut Report,
) -> BTreeMap<&'s str, GatewayClass<'s>> {
    let mut ours = BTreeMap::new();
    for ((_, name), object) in inputs.snapshot.gateway_classes.iter() {
        if object.spec.controller_name != inputs.settings.controller_name {
            continue;
        }
        let parameters = parameters.of_class(inputs, object);
        let class = GatewayClass { object, merges: merges(inputs, name, &parameters), parameters };
        let mut conditions = Conditions::default();
        match &class.parameters {
            Ok(_) => conditions.set("Accepted", true, "Accepted", "Valid GatewayClass"),
            Err(cause) => {
                let message = format!("Invalid parametersRef: {}", sentence(cause));
                conditions.set("Accepted", false, "InvalidParameters", message);
            }
        }
        let of = ObjectRef { kind: "GatewayClass", namespace: String::new(), name: name.clone() };
        let features: Value = FEATURES.iter().map(|name| json!({"name": name})).collect();
        let conditions = conditions.to_json(object.metadata.generation);
        report.push(&of, json!({"conditions": conditions, "supportedFeatures": features}));
        ours.insert(name.as_str(), class);
    }
    ours
}

/// Whether all Gateways of a class share one fleet. While its EnvoyProxy is broken or gone, it stays as it was.
fn merges(inputs: &Inputs<'_>, class: &str, parameters: &Result<InForce, String>) -> bool {
    match parameters {
        Ok(parameters) => parameters.spec.merge_gateways == Some(true),
        Err(_) => inputs.snapshot.services.contains_key(&infra::place(inputs.settings, class)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_in_the_order_that_the_api_demands() {
        assert!(FEATURES.is_sorted_by(|a, b| a < b));
    }
}

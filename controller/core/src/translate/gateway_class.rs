//! GatewayClasses: which of them are ours, and what Gateways of them can do.

use std::{collections::BTreeMap, sync::Arc};

use controller_api::envoy_proxy::EnvoyProxySpec;
use gateway_api::apis::experimental::gatewayclasses::GatewayClass as Object;
use serde_json::{Value, json};

use super::{
    inputs::Inputs,
    parameters::Parameters,
    status::{Conditions, Report, sentence},
};
use crate::ir::ObjectRef;

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
    for ((_, name), object) in inputs.snapshot.gateway_classes.iter() {
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
        let features: Value = FEATURES.iter().map(|name| json!({"name": name})).collect();
        let conditions = conditions.to_json(object.metadata.generation);
        report.push(&of, json!({"conditions": conditions, "supportedFeatures": features}));
        ours.insert(name.as_str(), class);
    }
    ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_in_the_order_that_the_api_demands() {
        assert!(FEATURES.is_sorted_by(|a, b| a < b));
    }
}

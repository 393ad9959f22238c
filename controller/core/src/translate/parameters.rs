//! Which EnvoyProxy is in force for a Gateway, and what is wrong with it.

use std::{collections::BTreeMap, sync::Arc};

use controller_api::envoy_proxy::{EnvoyProxy, EnvoyProxyProviderType, EnvoyProxySpec, ProxyMergeType};
use gateway_api::apis::experimental::{gatewayclasses::GatewayClass, gateways::Gateway};
use serde_json::{Value, json};

use super::{
    inputs::Inputs,
    status::{Conditions, Report, sentence},
};
use crate::{infra, ir::ObjectRef, snapshot::Key};

mod telemetry;

const GROUP: &str = "gateway.envoyproxy.io";
const KIND: &str = "EnvoyProxy";

/// The EnvoyProxy that is in force.
#[derive(Clone, Debug, Default)]
pub(super) struct InForce {
    /// What it says.
    pub(super) spec: Arc<EnvoyProxySpec>,
    /// What its telemetry refers to and is not there.
    pub(super) dangling: Option<String>,
}

impl InForce {
    fn new(inputs: &Inputs<'_>, namespace: &str, spec: EnvoyProxySpec) -> Self {
        let telemetry = spec.telemetry.as_ref();
        let dangling = telemetry.and_then(|telemetry| telemetry::dangling(inputs, namespace, telemetry));
        Self { spec: Arc::new(spec), dangling }
    }
}

/// The EnvoyProxies that classes and Gateways name, with what each of them hears about it.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    ancestors: BTreeMap<Key, Vec<Value>>,
}

impl Parameters {
    /// What the class says, or why that cannot be.
    pub(super) fn of_class(&mut self, inputs: &Inputs<'_>, class: &GatewayClass) -> Result<InForce, String> {
        let Some(reference) = &class.spec.parameters_ref else { return Ok(InForce::default()) };
        let namespace = reference.namespace.as_deref().unwrap_or_default();
        let proxy = find(inputs, &reference.group, &reference.kind, namespace, &reference.name)?;
        let outcome = check(inputs, &proxy.spec);
        let name = class.metadata.name.as_deref().unwrap_or_default();
        let ancestor = json!({"group": "gateway.networking.k8s.io", "kind": "GatewayClass", "name": name});
        self.note(proxy, (namespace, &reference.name), &ancestor, &outcome);
        outcome.map(|()| InForce::new(inputs, namespace, proxy.spec.clone()))
    }

    /// What the Gateway says, over what its class says, or why that cannot be.
    pub(super) fn of_gateway(
        &mut self,
        inputs: &Inputs<'_>,
        (namespace, name): &Key,
        gateway: &Gateway,
        class: &Result<InForce, String>,
    ) -> Result<InForce, String> {
        let reference = gateway.spec.infrastructure.as_ref().and_then(|infra| infra.parameters_ref.as_ref());
        let Some(reference) = reference else { return class.clone() };
        let proxy = find(inputs, &reference.group, &reference.kind, namespace, &reference.name)?;
        let spec = match (class, proxy.spec.merge_type) {
            (Ok(class), Some(kind @ (ProxyMergeType::StrategicMerge | ProxyMergeType::JSONMerge))) => {
                merged(&class.spec, &proxy.spec, kind)?
            }
            (Err(cause), Some(ProxyMergeType::StrategicMerge | ProxyMergeType::JSONMerge)) => {
                return Err(cause.clone());
            }
            _ => proxy.spec.clone(),
        };
        let outcome = check(inputs, &spec);
        let ancestor = json!({
            "group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": namespace, "name": name,
        });
        self.note(proxy, (namespace, &reference.name), &ancestor, &outcome);
        outcome.map(|()| InForce::new(inputs, namespace, spec))
    }

    fn note(
        &mut self,
        proxy: &EnvoyProxy,
        (namespace, name): (&str, &str),
        ancestor: &Value,
        outcome: &Result<(), String>,
    ) {
        let mut conditions = Conditions::default();
        match outcome {
            Ok(()) => conditions.set("Accepted", true, "Accepted", "EnvoyProxy has been accepted."),
            Err(cause) => conditions.set("Accepted", false, "InvalidParameters", sentence(cause)),
        }
        // Of all kinds with ancestors, only this one's entries name no controller.
        let entry = json!({"ancestorRef": ancestor, "conditions": conditions.to_json(proxy.metadata.generation)});
        self.ancestors.entry((namespace.to_owned(), name.to_owned())).or_default().push(entry);
    }

    /// Writes the statuses of the EnvoyProxies that are in use.
    pub(super) fn report(self, report: &mut Report) {
        for ((namespace, name), ancestors) in self.ancestors {
            report.push(&ObjectRef { kind: KIND, namespace, name }, json!({"ancestors": ancestors}));
        }
    }
}

fn find<'s>(
    inputs: &Inputs<'s>,
    group: &str,
    kind: &str,
    namespace: &str,
    name: &str,
) -> Result<&'s EnvoyProxy, String> {
    if (group, kind) != (GROUP, KIND) {
        return Err(format!("parametersRef names a {kind} of group {group:?}, expected an {KIND} of {GROUP}"));
    }
    let found = inputs.snapshot.envoy_proxies.get(&(namespace.to_owned(), name.to_owned()));
    found.map(AsRef::as_ref).ok_or_else(|| format!("{KIND} {namespace}/{name} does not exist or cannot be read"))
}

fn merged(class: &EnvoyProxySpec, own: &EnvoyProxySpec, kind: ProxyMergeType) -> Result<EnvoyProxySpec, String> {
    let value = |spec: &EnvoyProxySpec| serde_json::to_value(spec).map_err(|error| error.to_string());
    let mut all = value(class)?;
    infra::merge(&mut all, &value(own)?, kind == ProxyMergeType::StrategicMerge);
    serde_json::from_value(all).map_err(|error| format!("merged with that of the class, it cannot be read: {error}"))
}

/// Whether a fleet can be made of it.
fn check(inputs: &Inputs<'_>, spec: &EnvoyProxySpec) -> Result<(), String> {
    if spec.merge_gateways == Some(true) && inputs.settings.gateway_namespace_mode {
        return Err("mergeGateways: Gateways cannot share a fleet where fleets run in the Gateways' namespaces".into());
    }
    spec.telemetry.as_ref().map_or(Ok(()), telemetry::check)?;
    let Some(provider) = &spec.provider else { return infra::check(spec, inputs.settings) };
    if provider.kind == EnvoyProxyProviderType::Host {
        let why = "provider Host is for proxies on the controller's own machine";
        return if inputs.settings.running_on_host { Ok(()) } else { Err(why.into()) };
    }
    let Some(kubernetes) = &provider.kubernetes else { return infra::check(spec, inputs.settings) };
    let daemon_set = kubernetes.envoy_daemon_set.is_some();
    let budget = kubernetes.envoy_pdb.as_ref();
    let wrong = [
        (daemon_set && kubernetes.envoy_deployment.is_some(), "envoyDeployment and envoyDaemonSet exclude each other"),
        (daemon_set && kubernetes.envoy_hpa.is_some(), "envoyHpa and envoyDaemonSet exclude each other"),
        (
            budget.is_some_and(|budget| budget.min_available.is_some() && budget.max_unavailable.is_some()),
            "minAvailable and maxUnavailable of envoyPDB exclude each other",
        ),
    ];
    match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
        Some((_, cause)) => Err(format!("provider.kubernetes: {cause}")),
        None => infra::check(spec, inputs.settings),
    }
}

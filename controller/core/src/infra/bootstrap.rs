//! What the Envoys of a fleet are started with, and how an EnvoyProxy changes it.

use controller_api::envoy_proxy::{BootstrapType, EnvoyProxySpec, ProxyBootstrap};
use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use prost::Message;
use serde_json::{Value, json};

use super::{Error, Fleet};
use crate::{
    ServiceAddress, Settings,
    ir::Endpoint,
    xds::bootstrap::{self, Options},
};

/// The admin interface, within the pod only.
const ADMIN_PORT: u16 = 19000;
/// The control plane's port.
const XDS_PORT: u16 = 18000;
/// Share of the memory limit that the heap may take, in percent.
const HEAP_PERCENT: u64 = 80;

/// Whether the fleet tells Prometheus its statistics.
pub(super) fn scraped(config: &EnvoyProxySpec) -> bool {
    let metrics = config.telemetry.as_ref().and_then(|telemetry| telemetry.metrics.as_ref());
    !metrics.and_then(|metrics| metrics.prometheus.as_ref()).is_some_and(|prometheus| prometheus.disable)
}

/// The bootstrap as JSON, which is YAML too.
pub(super) fn json(fleet: &Fleet, settings: &Settings, memory_limit: Option<u64>) -> Result<String, Error> {
    let config = &fleet.placement.config;
    let options = Options {
        statistics: scraped(config),
        max_heap_bytes: memory_limit.map(|limit| limit / 100 * HEAP_PERCENT),
        credentials: settings.credentials(),
    };
    let xds = ServiceAddress::Dns { host: format!("{}.", settings.controller_host()), port: XDS_PORT };
    let admin = Endpoint::Ip([127, 0, 0, 1].into(), ADMIN_PORT);
    let ours = bootstrap::in_pod(&xds, &admin, &options);
    let bootstrap = match &config.bootstrap {
        Some(change) => changed(&ours, change)?,
        None => proto::json::to_json_as_declared(&ours).map_err(error)?,
    };
    Ok(bootstrap.to_string())
}

/// What is wrong, and why.
fn error(cause: impl Into<Box<dyn std::error::Error>>) -> Error {
    let cause = cause.into();
    let chain = std::iter::successors(Some(&*cause), |error| error.source()).map(ToString::to_string);
    Error::Bootstrap(chain.collect::<Vec<_>>().join(": "))
}

/// `ours` as the EnvoyProxy wants it. Envoy must still find its control plane, or it would never get a configuration.
fn changed(ours: &Bootstrap, change: &ProxyBootstrap) -> Result<Value, Error> {
    let bootstrap = match change.kind.unwrap_or_default() {
        BootstrapType::Replace => parse(change)?,
        BootstrapType::Merge => {
            // Two encodings in a row are the merged message, by definition of the encoding.
            let both = [ours.encode_to_vec(), parse(change)?.encode_to_vec()].concat();
            Bootstrap::decode(both.as_slice()).map_err(error)?
        }
        BootstrapType::JSONPatch => patched(ours, change)?,
    };
    let control_plane = |bootstrap: &Bootstrap| {
        let clusters = bootstrap.static_resources.iter().flat_map(|resources| &resources.clusters);
        clusters.filter(|cluster| cluster.name == bootstrap::XDS_CLUSTER).count()
    };
    if control_plane(&bootstrap) != 1 {
        return Err(error("exactly one static cluster must be xds_cluster"));
    }
    if bootstrap.dynamic_resources != ours.dynamic_resources {
        return Err(error("dynamic_resources must stay as they are"));
    }
    proto::json::to_json_as_declared(&bootstrap).map_err(error)
}

fn parse(change: &ProxyBootstrap) -> Result<Bootstrap, Error> {
    let text = change.value.as_deref().ok_or_else(|| error("value is missing"))?;
    let value: Value = serde_saphyr::from_str(text).map_err(error)?;
    proto::json::from_json(value).map_err(error)
}

fn patched(ours: &Bootstrap, change: &ProxyBootstrap) -> Result<Bootstrap, Error> {
    let mut operations = Vec::new();
    for operation in &change.json_patches {
        if operation.json_path.is_some() {
            return Err(error("jsonPath is not supported, only path"));
        }
        let mut fields = json!({"op": operation.op, "path": operation.path.clone().unwrap_or_default()});
        let optional = [("from", operation.from.clone().map(Value::from)), ("value", operation.value.clone())];
        for (name, value) in optional.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            fields[name] = value;
        }
        operations.push(fields);
    }
    let patch: json_patch::Patch = serde_json::from_value(operations.into()).map_err(error)?;
    let mut value = proto::json::to_json_as_declared(ours).map_err(error)?;
    json_patch::patch(&mut value, &patch).map_err(error)?;
    proto::json::from_json(value).map_err(error)
}

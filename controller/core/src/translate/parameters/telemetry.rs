//! What is wrong with `telemetry` of an EnvoyProxy: what it says, and what it refers to.

use controller_api::{
    backend_ref::BackendRef,
    envoy_proxy::{
        ProxyAccessLog, ProxyAccessLogFormatType as Format, ProxyAccessLogSetting, ProxyAccessLogSinkType as Sink,
        ProxyMetrics, ProxyTelemetry, TelemetryReceiver,
    },
};

use crate::{
    cel,
    translate::{backend, grant::Referrer, inputs::Inputs},
};

/// What names that Envoy gives to the statistics of a cluster can be made of.
const STAT_NAME_PARTS: [&str; 6] =
    ["%ROUTE_NAME%", "%ROUTE_NAMESPACE%", "%ROUTE_KIND%", "%ROUTE_RULE_NAME%", "%ROUTE_RULE_NUMBER%", "%BACKEND_REFS%"];

/// Whether it says all that it must.
pub(super) fn check(telemetry: &ProxyTelemetry) -> Result<(), String> {
    let log = telemetry.access_log.as_ref().filter(|log| !log.disable);
    log.map_or(Ok(()), check_access_log)?;
    telemetry.metrics.as_ref().map_or(Ok(()), check_metrics)
}

fn check_access_log(log: &ProxyAccessLog) -> Result<(), String> {
    for setting in &log.settings {
        let format = setting.format.as_ref();
        let lacks = match format.and_then(|format| format.kind) {
            Some(Format::Text) if format.is_none_or(|format| format.text.is_none()) => Some("text"),
            Some(Format::JSON) if format.is_none_or(|format| format.json.is_none()) => Some("json"),
            _ => None,
        };
        if let Some(field) = lacks {
            return Err(format!("telemetry.accessLog: a format lacks the field {field} that its type demands"));
        }
        for sink in &setting.sinks {
            let lacks = match sink.kind {
                Sink::File if sink.file.is_none() => "file",
                Sink::ALS if sink.als.is_none() => "als",
                Sink::OpenTelemetry if sink.open_telemetry.is_none() => "openTelemetry",
                _ => continue,
            };
            return Err(format!("telemetry.accessLog: a sink lacks the field {lacks} that its type demands"));
        }
    }
    Ok(())
}

fn check_metrics(metrics: &ProxyMetrics) -> Result<(), String> {
    if metrics.sinks.iter().any(|sink| sink.open_telemetry.is_none()) {
        return Err("telemetry.metrics: a sink lacks the field openTelemetry that its type demands".into());
    }
    let name = metrics.unsupported.get("clusterStatName").and_then(|name| name.as_str()).unwrap_or_default();
    match unknown_part(name) {
        Some(part) => Err(format!("telemetry.metrics.clusterStatName: {part} is unknown")),
        None => Ok(()),
    }
}

/// The first `%PART%` that nothing stands for.
fn unknown_part(name: &str) -> Option<String> {
    let mut pieces = name.split('%').skip(1);
    while let (Some(inside), Some(_)) = (pieces.next(), pieces.next()) {
        let part = format!("%{inside}%");
        if !STAT_NAME_PARTS.contains(&part.as_str()) {
            return Some(part);
        }
    }
    None
}

/// What an EnvoyProxy in `namespace` refers to and is not there. Traffic does not depend on it.
pub(super) fn dangling(inputs: &Inputs<'_>, namespace: &str, telemetry: &ProxyTelemetry) -> Option<String> {
    let log = telemetry.access_log.as_ref().filter(|log| !log.disable);
    let settings = log.map_or(&[][..], |log| log.settings.as_slice());
    let provider = telemetry.tracing.as_ref().and_then(|tracing| tracing.provider.as_ref());
    let sinks = telemetry.metrics.as_ref().map_or(&[][..], |metrics| metrics.sinks.as_slice());
    let found = settings
        .iter()
        .try_for_each(|setting| find_logs(inputs, namespace, setting))
        .map_err(|cause| format!("access log: {cause}"))
        .and_then(|()| {
            let found = provider.into_iter().try_for_each(|receiver| find(inputs, namespace, receiver));
            found.map_err(|cause| format!("tracing: {cause}"))
        })
        .and_then(|()| {
            let mut receivers = sinks.iter().filter_map(|sink| sink.open_telemetry.as_ref());
            let found = receivers.try_for_each(|receiver| find(inputs, namespace, receiver));
            found.map_err(|cause| format!("metrics: {cause}"))
        });
    found.err()
}

fn find_logs(inputs: &Inputs<'_>, namespace: &str, setting: &ProxyAccessLogSetting) -> Result<(), String> {
    for expression in &setting.matches {
        cel::parse(expression).map_err(|cause| format!("the expression {expression:?} is invalid: {cause}"))?;
    }
    let mut receivers = setting.sinks.iter().filter_map(|sink| match sink.kind {
        Sink::File => None,
        Sink::ALS => sink.als.as_ref(),
        Sink::OpenTelemetry => sink.open_telemetry.as_ref(),
    });
    receivers.try_for_each(|receiver| find(inputs, namespace, receiver))
}

fn find(inputs: &Inputs<'_>, namespace: &str, receiver: &TelemetryReceiver) -> Result<(), String> {
    let mut references = receiver.backend_refs.iter().chain(&receiver.backend_ref);
    references.try_for_each(|reference| find_one(inputs, namespace, reference))
}

/// An operator may name Services of any namespace.
fn find_one(inputs: &Inputs<'_>, namespace: &str, reference: &BackendRef) -> Result<(), String> {
    let namespace = reference.namespace.as_deref().unwrap_or(namespace);
    let from = Referrer { group: "gateway.envoyproxy.io", kind: super::KIND, namespace };
    let reference = backend::Reference {
        group: Some(&reference.group),
        kind: Some(&reference.kind),
        namespace: Some(namespace),
        name: &reference.name,
        port: reference.port.map(i32::from),
    };
    backend::resolve(inputs, from, reference).map(drop).map_err(|fault| fault.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_names_are_known_by_their_names() {
        assert_eq!(unknown_part(""), None);
        assert_eq!(unknown_part("%ROUTE_NAME%/%BACKEND_REFS%"), None);
        assert_eq!(unknown_part("%ROUTE_NAME%-%FOO%"), Some("%FOO%".into()));
        assert_eq!(unknown_part("%%"), Some("%%".into()));
        assert_eq!(unknown_part("50%"), None);
        assert_eq!(unknown_part("a%ROUTE_KIND%50%"), None);
    }
}

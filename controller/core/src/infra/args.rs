//! Envoy's command line.

use std::collections::BTreeMap;

use controller_api::envoy_proxy::{EnvoyProxySpec, LogLevel};

use super::{Error, Fleet, bootstrap};
use crate::Settings;

/// Seconds that connections have to end when the EnvoyProxy does not say.
pub(super) const DRAIN_SECONDS: u64 = 60;

/// How long draining may take, in seconds.
pub(super) fn drain_seconds(config: &EnvoyProxySpec) -> u64 {
    let timeout = config.shutdown.as_ref().and_then(|shutdown| shutdown.drain_timeout);
    timeout.map_or(DRAIN_SECONDS, |timeout| timeout.as_millis().div_ceil(1000))
}

/// The arguments of Envoy's container; Kubernetes puts the pod's name in. Each option is one argument with its value.
pub(super) fn envoy(fleet: &Fleet, settings: &Settings, memory_limit: Option<u64>) -> Result<Vec<String>, Error> {
    let config = &fleet.placement.config;
    let no_levels = BTreeMap::new();
    let levels = config.logging.as_ref().map_or(&no_levels, |logging| &logging.level);
    let mut args = vec![
        format!("--service-cluster {}", fleet.placement.key),
        "--service-node $(ENVOY_POD_NAME)".to_owned(),
        format!("--config-yaml {}", bootstrap::json(fleet, settings, memory_limit)?),
        format!("--log-level {}", levels.get("default").copied().unwrap_or(LogLevel::Warn).as_str()),
        "--cpuset-threads".to_owned(),
        "--drain-strategy immediate".to_owned(),
    ];
    if let Some(concurrency) = config.concurrency {
        args.push(format!("--concurrency {concurrency}"));
    }
    let components = levels.iter().filter(|(component, _)| *component != "default");
    let components: Vec<_> = components.map(|(component, level)| format!("{component}:{}", level.as_str())).collect();
    if !components.is_empty() {
        args.push(format!("--component-log-level {}", components.join(",")));
    }
    args.push(format!("--drain-time-s {}", drain_seconds(config)));
    args.extend(config.extra_args.iter().cloned());
    Ok(args)
}

/// The arguments of the container beside it, which ends Envoy gracefully.
pub(super) fn shutdown_manager(config: &EnvoyProxySpec) -> Vec<String> {
    let mut args = vec!["envoy".to_owned(), "shutdown-manager".to_owned()];
    let Some(shutdown) = &config.shutdown else { return args };
    let options = [
        ("drain-timeout", shutdown.drain_timeout),
        ("min-drain-duration", shutdown.min_drain_duration),
        ("health-check-failure-delay", shutdown.health_check_failure_delay),
    ];
    let set = options.into_iter().filter_map(|(name, value)| Some((name, value?)));
    args.extend(set.map(|(name, value)| format!("--{name}={}ms", value.as_millis())));
    args
}

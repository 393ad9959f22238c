//! `BackendTrafficPolicy`: merged, checked, ready for a route.

mod rate_limit;

use std::sync::Arc;

use controller_api::{
    backend_traffic_policy::{BackendTrafficPolicy, BackendTrafficPolicySpec},
    cluster_settings::{CircuitBreaker, Retry},
    fault_injection::FaultInjection,
    policy::PolicyTargets,
};

use self::rate_limit::Limits;
use super::{
    in_force::InForce,
    kind::{self, Named, Parent, Resolution},
    merge,
};
use crate::{Settings, Snapshot, ir::Traffic, snapshot::Objects};

/// The kind `BackendTrafficPolicy`.
pub(super) struct Kind<'a> {
    pub(super) settings: &'a Settings,
}

impl kind::Kind for Kind<'_> {
    type Object = BackendTrafficPolicy;
    type Spec = BackendTrafficPolicySpec;
    type Effective = Traffic;

    const NAME: &'static str = "BackendTrafficPolicy";
    const PLURAL: &'static str = "backendTrafficPolicies";
    const RULE_PLURAL: &'static str = "backendTrafficPolicy";

    fn objects(snapshot: &Snapshot) -> &Objects<BackendTrafficPolicy> {
        &snapshot.backend_traffic_policies
    }

    fn spec(object: &BackendTrafficPolicy) -> &BackendTrafficPolicySpec {
        &object.spec
    }

    fn targets(spec: &BackendTrafficPolicySpec) -> &PolicyTargets {
        &spec.targets
    }

    fn deprecated(_: &BackendTrafficPolicySpec) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    fn ignored(spec: &BackendTrafficPolicySpec) -> Vec<String> {
        spec.unsupported.keys().cloned().collect()
    }

    fn resolve(
        &self,
        policy: Named<'_, BackendTrafficPolicySpec>,
        parent: Option<Parent<'_, BackendTrafficPolicySpec>>,
    ) -> Resolution<Traffic> {
        let (spec, global_rule_names) = match effective(policy, parent) {
            Ok(effective) => effective,
            Err(message) => return Resolution::broken(message),
        };
        let mut errors = Vec::new();
        if let Some(limits) = &spec.rate_limit {
            rate_limit::check(limits, self.settings, &mut errors);
        }
        if let Some(retry) = &spec.retry {
            check_retry(retry, &mut errors);
        }
        if let Some(circuit_breaker) = &spec.circuit_breaker {
            check_circuit_breaker(circuit_breaker, &mut errors);
        }
        if let Some(fault_injection) = &spec.fault_injection {
            check_fault_injection(fault_injection, &mut errors);
        }
        Resolution::strict(Traffic { policy: policy.object.clone(), spec, global_rule_names }, errors)
    }

    fn slot(in_force: &mut InForce) -> &mut Option<Arc<Traffic>> {
        &mut in_force.traffic
    }
}

/// The spec with that of the parent merged in, and the names of its global rules.
fn effective(
    policy: Named<'_, BackendTrafficPolicySpec>,
    parent: Option<Parent<'_, BackendTrafficPolicySpec>>,
) -> Result<(BackendTrafficPolicySpec, Vec<String>), String> {
    if let Some(malformed) = &policy.spec.malformed {
        return Err(kind::unreadable(malformed));
    }
    let mut limits = Limits::of(policy);
    let mut spec = policy.spec.clone();
    if let Some(parent) = parent {
        if let Some(malformed) = &parent.policy.spec.malformed {
            return Err(kind::unreadable_parent(parent.policy.object, malformed));
        }
        spec = merge::specs(parent.policy.spec, policy.spec, parent.merge_type).map_err(|error| error.to_string())?;
        if let Some(malformed) = &spec.malformed {
            return Err(kind::unreadable(malformed));
        }
        limits = Limits::of(parent.policy).merge(limits, parent.merge_type);
    }
    let (rate_limit, names) = limits.into_spec()?;
    spec.rate_limit = rate_limit;
    Ok((spec, names))
}

fn check_retry(retry: &Retry, errors: &mut Vec<String>) {
    let back_off = retry.per_retry.as_ref().and_then(|per_retry| per_retry.back_off.as_ref());
    if let Some(base) = back_off.and_then(|back_off| back_off.base_interval) {
        if base.is_zero() {
            errors.push("Retry: baseInterval cannot be set to 0s".into());
        }
        if back_off.and_then(|back_off| back_off.max_interval).is_some_and(|max| max < base) {
            errors.push("Retry: maxInterval cannot be less than baseInterval".into());
        }
    }
    let codes = retry.retry_on.iter().flat_map(|retry_on| &retry_on.http_status_codes);
    for code in codes.filter(|code| !(100..600).contains(*code)) {
        errors.push(format!("Retry: spec.retry.retryOn.httpStatusCodes has {code}, expected 100 to 599"));
    }
}

fn check_circuit_breaker(circuit_breaker: &CircuitBreaker, errors: &mut Vec<String>) {
    let percent = circuit_breaker.retry_budget.as_ref().map(|budget| budget.percent);
    if percent.is_some_and(|percent| percent.numerator > percent.denominator.unwrap_or(100)) {
        errors.push("CircuitBreaker: spec.circuitBreaker.retryBudget.percent is more than one".into());
    }
    if percent.is_some_and(|percent| percent.denominator == Some(0)) {
        errors.push("CircuitBreaker: spec.circuitBreaker.retryBudget.percent.denominator must not be 0".into());
    }
}

fn check_fault_injection(faults: &FaultInjection, errors: &mut Vec<String>) {
    if faults.delay.is_none() && faults.abort.is_none() {
        errors.push("FaultInjection: delay or abort must be set".into());
    }
    let percentages = [
        ("delay", faults.delay.as_ref().and_then(|delay| delay.percentage)),
        ("abort", faults.abort.as_ref().and_then(|abort| abort.percentage)),
    ];
    for (name, percentage) in percentages {
        if percentage.is_some_and(|percentage| !(0.0..=100.0).contains(&percentage)) {
            errors.push(format!("FaultInjection: spec.faultInjection.{name}.percentage must be 0 to 100"));
        }
    }
    let Some(abort) = &faults.abort else { return };
    if abort.http_status.is_some() == abort.grpc_status.is_some() {
        errors.push("FaultInjection: abort must have exactly one of httpStatus and grpcStatus".into());
    }
    if abort.http_status.is_some_and(|status| !(200..600).contains(&status)) {
        errors.push("FaultInjection: spec.faultInjection.abort.httpStatus must be 200 to 599".into());
    }
    if abort.grpc_status.is_some_and(|status| status > 16) {
        errors.push("FaultInjection: spec.faultInjection.abort.grpcStatus must be 0 to 16".into());
    }
}

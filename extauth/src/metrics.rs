//! Names and labels of what is counted. Label values come from the configuration only, never from a request.

use std::sync::Arc;

use metrics::{SharedString, counter, gauge};

/// Answers by policy, deciding method and verdict (`allow` or `deny`).
pub const CHECKS: &str = "extauth_checks_total";
/// Attempts to load a configuration by result (`success` or `failure`).
pub const RELOADS: &str = "extauth_config_reloads_total";
/// Policies in force.
pub const POLICIES: &str = "extauth_policies";

/// Label value where there is no policy or method to name.
pub const NONE: &str = "none";

/// Counts an answer.
pub(crate) fn checked(policy: Option<&Arc<str>>, method: &'static str, verdict: &'static str) {
    let policy = policy.map_or(SharedString::const_str(NONE), |name| SharedString::from_shared(Arc::clone(name)));
    counter!(CHECKS, "policy" => policy, "method" => method, "verdict" => verdict).increment(1);
}

/// Counts an attempt to load a configuration.
pub(crate) fn reloaded(success: bool) {
    counter!(RELOADS, "result" => if success { "success" } else { "failure" }).increment(1);
}

/// Says how many policies are in force.
pub(crate) fn in_force(policies: usize) {
    // Nobody has more policies than a double can count.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
    gauge!(POLICIES).set(policies as f64);
}

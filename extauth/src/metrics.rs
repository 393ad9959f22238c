//! Names and labels of what is counted. Label values come from the configuration only, never from a request.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, SharedString, counter, gauge};

use crate::verdict::Verdict;

/// Answers by policy, deciding method and verdict (`allow`, `deny`, `respond`, or `shadow_deny` for what is only counted).
pub const CHECKS: &str = "extauth_checks_total";
/// Attempts to load a configuration by result (`success` or `failure`).
pub const RELOADS: &str = "extauth_config_reloads_total";
/// Policies in force.
pub const POLICIES: &str = "extauth_policies";

/// Fetches of a published key set by its address and result (`success` or `failure`).
pub const KEY_SET_FETCHES: &str = "extauth_jwks_fetches_total";
/// Seconds since 1970 at which a published key set was fetched last, by its address.
pub const KEY_SET_FETCHED: &str = "extauth_jwks_last_fetched_seconds";
/// Usable keys of a published key set, by its address; 0 until it was fetched once.
pub const KEY_SET_KEYS: &str = "extauth_jwks_keys";

/// Label value where there is no policy or method to name.
pub const NONE: &str = "none";
/// Label value, and method in the metadata, of requests without a credential that may pass.
pub const ANONYMOUS: &str = "anonymous";

/// The counters of one policy's answers, looked up when it is compiled and not at each check.
#[derive(Debug)]
pub(crate) struct Answers(Vec<Deciding>);

#[derive(Debug)]
struct Deciding {
    method: &'static str,
    allowed: Counter,
    denied: Counter,
    shadow: Counter,
    responded: Counter,
}

impl Answers {
    /// Starts to count for a policy; `methods` are all that may decide besides [`NONE`].
    pub(crate) fn new(policy: &Arc<str>, methods: impl IntoIterator<Item = &'static str>) -> Self {
        let counter = |method, verdict| {
            let policy = SharedString::from_shared(Arc::clone(policy));
            counter!(CHECKS, "policy" => policy, "method" => method, "verdict" => verdict)
        };
        let deciding = |method| Deciding {
            method,
            allowed: counter(method, "allow"),
            denied: counter(method, "deny"),
            shadow: counter(method, "shadow_deny"),
            responded: counter(method, "respond"),
        };
        Self(methods.into_iter().chain([NONE]).map(deciding).collect())
    }

    /// Counts an answer that `method` decided.
    pub(crate) fn count(&self, method: &str, verdict: &Verdict, shadow: bool) {
        let Some(deciding) = self.0.iter().find(|deciding| deciding.method == method) else { return };
        match verdict {
            _ if shadow => deciding.shadow.increment(1),
            Verdict::Allow(_) => deciding.allowed.increment(1),
            Verdict::Deny(_) => deciding.denied.increment(1),
            Verdict::Respond(_) => deciding.responded.increment(1),
        }
    }
}

/// The status of one published key set.
#[derive(Debug)]
pub(crate) struct KeySet {
    succeeded: Counter,
    failed: Counter,
    fetched: Gauge,
    keys: Gauge,
}

impl KeySet {
    pub(crate) fn new(address: &str) -> Self {
        let address = SharedString::from_shared(address.into());
        let counter = |result| counter!(KEY_SET_FETCHES, "uri" => address.clone(), "result" => result);
        Self {
            succeeded: counter("success"),
            failed: counter("failure"),
            fetched: gauge!(KEY_SET_FETCHED, "uri" => address.clone()),
            keys: gauge!(KEY_SET_KEYS, "uri" => address.clone()),
        }
    }

    pub(crate) fn fetched(&self, keys: usize) {
        self.succeeded.increment(1);
        self.fetched.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        // There are a hundred at most.
        self.keys.set(u32::try_from(keys).unwrap_or(u32::MAX));
    }

    pub(crate) fn failed(&self) {
        self.failed.increment(1);
    }
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

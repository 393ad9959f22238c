//! Names that proxies, dashboards and patches see.

/// Cluster of the rate limit service.
pub const RATE_LIMIT_CLUSTER: &str = "ratelimit_cluster";
/// Cluster of `extauth`.
pub const EXTAUTH_CLUSTER: &str = "extauth_cluster";
/// A cluster that does not exist: the share of a rule's traffic that its broken backends would get.
pub const INVALID_BACKEND_CLUSTER: &str = "invalid-backend-cluster";
/// Namespace of our metadata on routes, clusters and endpoints.
pub const METADATA: &str = "envoy-gateway";

/// The virtual host of one hostname of a listener.
pub fn virtual_host(listener: &str, hostname: &str) -> String {
    format!("{listener}/{}", hostname.replace('.', "_"))
}

/// `stat_prefix` of the connection manager on a port.
pub fn http_stat_prefix(port: u16, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}-{port}")
}

/// A policy in names of filters and clusters: `securitypolicy/<namespace>/<name>`.
pub fn policy(policy: &crate::ir::ObjectRef) -> String {
    format!("{}/{}/{}", policy.kind.to_lowercase(), policy.namespace, policy.name)
}

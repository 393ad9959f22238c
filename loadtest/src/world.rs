//! Worlds of Gateway API objects: one Gateway, and many routes, each with a backend and policies of its own.

use serde_json::{Value, json};

/// Namespace of everything in a world.
pub const NAMESPACE: &str = "scale";
/// The Gateway, and its key in xDS (`node.cluster`).
pub const PROXY: &str = "scale/scale";
/// Routes share so many hostnames.
const HOSTNAMES: usize = 200;

/// Where the requests of a route go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backends {
    /// A `Backend` with an address
    Backend,
    /// A `Service` with an `EndpointSlice`
    Service,
}

/// What a world is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    /// Number of routes.
    pub routes: usize,
    /// What each of them has beside its BackendTrafficPolicy and SecurityPolicy.
    pub backends: Backends,
}

impl World {
    /// The GatewayClass and the Gateway.
    pub fn shared() -> Vec<Value> {
        let controller = controller_core::Settings::default().controller_name;
        vec![
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": NAMESPACE},
                "spec": {"controllerName": controller}}),
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "metadata": {"name": NAMESPACE, "namespace": NAMESPACE, "generation": 1},
                "spec": {"gatewayClassName": NAMESPACE, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}),
        ]
    }

    /// The objects of all routes.
    pub fn objects(&self) -> impl Iterator<Item = Value> {
        (0..self.routes).flat_map(|index| self.of_route(index))
    }

    /// A route with what belongs to it.
    fn of_route(&self, index: usize) -> Vec<Value> {
        let mut objects = vec![self.route(index, 0)];
        match self.backends {
            Backends::Backend => objects.push(backend(index, 0)),
            Backends::Service => objects.extend([service(index), slice(index, 0)]),
        }
        objects.extend([traffic_policy(index), security_policy(index)]);
        objects
    }

    /// A route; each revision of it adds another value to a header.
    pub fn route(&self, index: usize, revision: u64) -> Value {
        let name = name(index);
        let backend = match self.backends {
            Backends::Backend => json!({"group": "gateway.envoyproxy.io", "kind": "Backend", "name": name}),
            Backends::Service => json!({"name": name, "port": 80}),
        };
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata(&name, revision),
        "spec": {
            "parentRefs": [{"name": NAMESPACE}],
            "hostnames": [format!("host-{}.example.com", index % HOSTNAMES)],
            "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": format!("/{name}")}}],
                "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier":
                    {"set": [{"name": "x-revision", "value": mark(revision)}]}}],
                "backendRefs": [backend],
            }],
        }})
    }
}

/// The name of a route and of all that belongs to it.
fn name(index: usize) -> String {
    format!("route-{index:05}")
}

/// The one slice of a route's Service; each revision of it has another address.
pub fn slice(index: usize, revision: u64) -> Value {
    let name = name(index);
    let mut metadata = metadata(&name, revision);
    metadata["labels"] = json!({"kubernetes.io/service-name": name});
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4",
        "endpoints": [{"addresses": [endpoint(index, revision)], "conditions": {"ready": true}}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]})
}

fn metadata(name: &str, revision: u64) -> Value {
    json!({"name": name, "namespace": NAMESPACE, "generation": revision + 1,
        "creationTimestamp": "2026-01-01T00:00:00Z", "resourceVersion": (revision + 1).to_string()})
}

/// What a revision of a route puts into a header: no mark is the beginning of another.
pub fn mark(revision: u64) -> String {
    format!("<{revision}>")
}

/// The address of a revision of a route's endpoint, one of 10.0.0.0/8; no address is the beginning of another.
pub fn endpoint(index: usize, revision: u64) -> String {
    let number = index as u64 + revision * 7919;
    let octet = |unit: u64| 100 + number / unit % 100;
    format!("10.{}.{}.{}", octet(10_000), octet(100), octet(1))
}

/// The Backend of a route; each revision of it has another address.
pub fn backend(index: usize, revision: u64) -> Value {
    json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "Backend", "metadata": metadata(&name(index), revision),
        "spec": {"endpoints": [{"ip": {"address": endpoint(index, revision), "port": 8080}}]}})
}

fn service(index: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(&name(index), 0),
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}})
}

/// A limit for each user and each address: upstream's figures were measured with the same.
fn traffic_policy(index: usize) -> Value {
    json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "BackendTrafficPolicy",
    "metadata": metadata(&name(index), 0),
    "spec": {"targetRefs": [target(index)], "rateLimit": {"type": "Global", "global": {"rules": [
        {"clientSelectors": [{"headers": [{"type": "Distinct", "name": "x-user-id"}]}],
            "limit": {"requests": 10, "unit": "Second"}},
        {"clientSelectors": [{"sourceCIDR": {"type": "Distinct", "value": "0.0.0.0/0"}}],
            "limit": {"requests": 100, "unit": "Minute"}},
    ]}}}})
}

fn security_policy(index: usize) -> Value {
    json!({"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "SecurityPolicy", "metadata": metadata(&name(index), 0),
    "spec": {"targetRefs": [target(index)], "jwt": {"providers": [{
        "name": "example",
        "issuer": format!("https://issuer.example.com/{index}"),
        "audiences": ["https://api.example.com"],
        "remoteJWKS": {"uri": "https://issuer.example.com/jwks"},
        "claimToHeaders": [{"claim": "sub", "header": "x-user-id"}],
    }]}}})
}

fn target(index: usize) -> Value {
    json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name(index)})
}

//! What an explanation is asked for.

use std::str::FromStr;

use controller_core::{
    Snapshot,
    ir::ObjectRef,
    snapshot::{Key, Kind},
};

/// The kinds that can be explained.
const EXPLAINED: [&str; 7] =
    ["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "BackendTrafficPolicy", "SecurityPolicy"];

/// A route or policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    kind: &'static str,
    namespace: String,
    name: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let target = |kind, namespace: &str, name: &str| Self { kind, namespace: namespace.into(), name: name.into() };
        match text.split('/').collect::<Vec<_>>()[..] {
            [name] => Ok(target("HTTPRoute", "default", name)),
            [first, name] => Ok(match kind(first) {
                Some(kind) => target(kind, "default", name),
                None => target("HTTPRoute", first, name),
            }),
            [first, namespace, name] => match kind(first) {
                Some(kind) => Ok(target(kind, namespace, name)),
                None => Err(format!("{first} is not among {}", EXPLAINED.join(", "))),
            },
            _ => Err("must be [KIND/][NAMESPACE/]NAME".into()),
        }
    }
}

/// As kubectl does, in any case, singular or plural.
fn kind(text: &str) -> Option<&'static str> {
    let text = text.to_lowercase();
    EXPLAINED
        .into_iter()
        .find(|name| name.to_lowercase() == text || Kind::named(name).is_some_and(|kind| kind.plural == text))
}

impl Target {
    /// The object.
    pub(super) fn reference(&self) -> ObjectRef {
        ObjectRef { kind: self.kind, namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// What `snapshot` has of this kind, `<namespace>/<name>`.
    pub(super) fn names(&self, snapshot: &Snapshot) -> Vec<String> {
        fn text<'k>(keys: impl Iterator<Item = &'k Key>) -> Vec<String> {
            keys.map(|(namespace, name)| format!("{namespace}/{name}")).collect()
        }
        match self.kind {
            "HTTPRoute" => text(snapshot.http_routes.keys()),
            "GRPCRoute" => text(snapshot.grpc_routes.keys()),
            "TLSRoute" => text(snapshot.tls_routes.keys()),
            "TCPRoute" => text(snapshot.tcp_routes.keys()),
            "UDPRoute" => text(snapshot.udp_routes.keys()),
            "BackendTrafficPolicy" => text(snapshot.backend_traffic_policies.keys()),
            _ => text(snapshot.security_policies.keys()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn kind_and_namespace_may_be_left_out() {
        let expected = [
            ("app", "HTTPRoute default/app"),
            ("web/app", "HTTPRoute web/app"),
            ("tcproute/db", "TCPRoute default/db"),
            ("SecurityPolicies/web/keys", "SecurityPolicy web/keys"),
            ("BackendTrafficPolicy/web/limits", "BackendTrafficPolicy web/limits"),
        ];
        for (text, object) in expected {
            assert_eq!(text.parse::<Target>().unwrap().reference().to_string(), object);
        }
        assert!("Gateway/web/eg".parse::<Target>().unwrap_err().contains("Gateway is not among HTTPRoute"));
        assert!("a/b/c/d".parse::<Target>().is_err());
    }
}

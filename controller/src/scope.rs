//! Where the controller looks and writes: what its watches follow, its client asks for and its roles permit.

use std::{collections::BTreeSet, sync::Arc};

use controller_core::snapshot::Kind;

/// The namespaces of one installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The controller's own.
    pub own: String,
    /// Those whose Gateways and routes are served; all when empty.
    pub watched: BTreeSet<String>,
    /// Fleets run in the namespaces of their Gateways instead of the controller's.
    pub gateway_namespace_mode: bool,
}

/// A kind of places, each of which has rights of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The cluster as a whole, for kinds without namespaces.
    Cluster,
    /// The namespaces that are served.
    Watched,
    /// The controller's own namespace.
    Own,
}

/// Where objects of a kind matter.
pub(crate) fn places(kind: &Kind, gateway_namespace_mode: bool) -> &'static [Place] {
    match kind.name {
        _ if !kind.namespaced => &[Place::Cluster],
        // Of these, only fleets' are read.
        "Deployment" | "DaemonSet" => fleets(gateway_namespace_mode),
        // Those of fleets, the controller's certificates, and what a GatewayClass may refer to.
        "Service" | "Secret" | "ConfigMap" | "EnvoyProxy" => &[Place::Watched, Place::Own],
        _ => &[Place::Watched],
    }
}

/// Where fleets run.
pub(crate) fn fleets(gateway_namespace_mode: bool) -> &'static [Place] {
    if gateway_namespace_mode { &[Place::Watched] } else { &[Place::Own] }
}

impl Scope {
    /// The namespaces to look for objects of a kind, `None` for all at once.
    pub(crate) fn of(&self, kind: &Kind) -> BTreeSet<Option<Arc<str>>> {
        self.namespaces(places(kind, self.gateway_namespace_mode))
    }

    /// The namespaces to look for objects of fleets, `None` for all at once.
    pub(crate) fn of_fleets(&self) -> BTreeSet<Option<Arc<str>>> {
        self.namespaces(fleets(self.gateway_namespace_mode))
    }

    fn namespaces(&self, places: &[Place]) -> BTreeSet<Option<Arc<str>>> {
        let is_all = |place: &Place| match place {
            Place::Cluster => true,
            Place::Watched => self.watched.is_empty(),
            Place::Own => false,
        };
        if places.iter().any(is_all) {
            return BTreeSet::from([None]);
        }
        let mut namespaces = BTreeSet::new();
        for place in places {
            match place {
                Place::Own => namespaces.extend([Some(self.own.as_str().into())]),
                _ => namespaces.extend(self.watched.iter().map(|namespace| Some(namespace.as_str().into()))),
            }
        }
        namespaces
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(scope: &Scope, kind: &str) -> Vec<String> {
        let found = scope.of(Kind::named(kind).unwrap());
        found.into_iter().map(|namespace| namespace.map_or("*".to_owned(), |name| name.to_string())).collect()
    }

    #[test]
    fn every_kind_is_looked_for_where_it_matters() {
        let watched = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let all = Scope { own: "system".into(), ..Scope::default() };
        let some = Scope { watched, ..all.clone() };
        let apart = Scope { gateway_namespace_mode: true, ..some.clone() };
        let expected: [(&str, [&[&str]; 3]); 4] = [
            ("GatewayClass", [&["*"], &["*"], &["*"]]),
            ("HTTPRoute", [&["*"], &["a", "b"], &["a", "b"]]),
            ("Secret", [&["*"], &["a", "b", "system"], &["a", "b", "system"]]),
            ("Deployment", [&["system"], &["system"], &["a", "b"]]),
        ];
        for (kind, namespaces) in expected {
            assert_eq!([&all, &some, &apart].map(|scope| of(scope, kind)), namespaces, "{kind}");
        }
        // A namespace that is both is looked at once.
        let own = Scope { watched: BTreeSet::from(["system".to_owned()]), ..some };
        assert_eq!(of(&own, "Secret"), ["system"]);
    }
}

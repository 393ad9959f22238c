//! What could not be done, and for whom.

use std::collections::BTreeMap;

use controller_core::infra;

use super::plan::Id;
use crate::{
    ads::holds::{Owner, Refusals},
    cluster::reason,
};

/// Why an object is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{attempt} {id}")]
    Api { attempt: &'static str, id: Id, source: Box<kube::Error> },
    #[error("{0} exists and is not ours: rename it, or the Gateway")]
    Foreign(Id),
    #[error(transparent)]
    Render(#[from] infra::Error),
    #[error("listing the {kind}s of fleets")]
    List { kind: &'static str, source: Box<kube::Error> },
}

/// Gateways by the class whose fleet they share.
pub(super) type Sharing = BTreeMap<String, Vec<Owner>>;

/// An error, and whose fleet it is about.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    whose: Whose,
}

/// Whom a fleet serves.
#[derive(Debug)]
enum Whose {
    Gateway(Owner),
    Class(String),
    Unknown,
}

impl Failure {
    /// About an object or a fleet with these labels.
    pub(super) fn of<'l>(error: Error, label: impl Fn(&'static str) -> Option<&'l str>) -> Self {
        let part = |name| label(name).map(str::to_owned);
        let [namespace, name] = infra::OWNING_GATEWAY.map(part);
        let whose = match (namespace, name, part(infra::OWNING_CLASS)) {
            (Some(namespace), Some(name), _) => Whose::Gateway(Owner { kind: "Gateway".into(), namespace, name }),
            (_, _, Some(class)) => Whose::Class(class),
            _ => Whose::Unknown,
        };
        Self { error, whose }
    }

    /// Whether trying again does not help.
    fn is_lasting(&self) -> bool {
        match &self.error {
            Error::Foreign(_) | Error::Render(_) => true,
            Error::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => (400..500).contains(&status.code) && ![409, 429].contains(&status.code),
                _ => false,
            },
            Error::List { .. } => false,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, whose: Whose::Unknown }
    }
}

/// What is to be told to the Gateways that it is about.
pub(super) fn told(failures: &[Failure], sharing: &Sharing) -> Refusals {
    let mut told: Refusals = BTreeMap::new();
    for failure in failures.iter().filter(|failure| failure.is_lasting()) {
        let gateways = match &failure.whose {
            Whose::Gateway(gateway) => std::slice::from_ref(gateway),
            Whose::Class(class) => sharing.get(class).map(Vec::as_slice).unwrap_or_default(),
            Whose::Unknown => &[],
        };
        for gateway in gateways {
            let reason = reason(&failure.error);
            told.entry(gateway.clone()).and_modify(|text| *text = format!("{text}; {reason}")).or_insert(reason);
        }
    }
    told
}

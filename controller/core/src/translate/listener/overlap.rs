//! HTTPS listeners on one port whose names or certificates overlap: a client may send a request that is for one of them on
//! a connection that it made to the other.

use std::collections::{BTreeMap, BTreeSet};

use super::Listener;
use crate::translate::{hostname::covers, tls};

/// Tells such listeners of one fleet. They work: Envoy answers a misdirected request with 421.
pub(in crate::translate) fn tell(listeners: &mut [&mut Listener<'_>]) {
    let mut ports: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    for (index, listener) in listeners.iter().enumerate() {
        if listener.is_sound() && listener.is_https() {
            ports.entry(listener.spec.port).or_default().push(index);
        }
    }
    for indexes in ports.into_values().filter(|indexes| indexes.len() > 1) {
        let port: Vec<&Listener<'_>> =
            indexes.iter().filter_map(|index| listeners.get(*index).map(|one| &**one)).collect();
        let found: Vec<_> = port.iter().map(|listener| hostnames(listener, &port)).collect();
        let found = if found.iter().all(Option::is_none) { certificates(&port) } else { found };
        for (index, overlap) in indexes.iter().zip(found) {
            if let (Some(listener), Some((reason, message))) = (listeners.get_mut(*index), overlap) {
                listener.conditions.set("OverlappingTLSConfig", true, reason, message);
            }
        }
    }
}

type Overlap = Option<(&'static str, String)>;

fn overlaps(a: &str, b: &str) -> bool {
    covers(a, b) || covers(b, a)
}

fn hostnames(listener: &Listener<'_>, port: &[&Listener<'_>]) -> Overlap {
    let own = listener.hostname();
    // Between Gateways, what counts is what their certificates vouch for.
    let mut siblings = port.iter().filter(|other| other.gateway == listener.gateway && other.name != listener.name);
    let other = siblings.find(|other| overlaps(own, other.hostname()))?;
    let message =
        format!("The hostname {own} overlaps with the hostname {} in listener {}.", other.hostname(), other.spec.name);
    Some(("OverlappingHostnames", message))
}

/// What the certificates vouch for.
fn certificates(port: &[&Listener<'_>]) -> Vec<Overlap> {
    let names: Vec<BTreeSet<String>> = port.iter().map(|listener| names(listener)).collect();
    let overlap = |index: usize| {
        let own = names.get(index)?;
        let others = names.iter().zip(port).enumerate().filter(|(other, _)| *other != index);
        let mut pairs = others.flat_map(|(_, (theirs, listener))| theirs.iter().map(move |name| (name, listener)));
        let (mine, theirs, other) = pairs.find_map(|(theirs, listener)| {
            let mine = own.iter().find(|mine| overlaps(mine, theirs))?;
            Some((mine, theirs, listener))
        })?;
        let message = format!(
            "The certificate SAN {mine} overlaps with the certificate SAN {theirs} in listener {}.",
            other.spec.name
        );
        Some(("OverlappingCertificates", message))
    };
    (0..port.len()).map(overlap).collect()
}

fn names(listener: &Listener<'_>) -> BTreeSet<String> {
    let certificates = listener.termination.iter().flat_map(|termination| &termination.certificates);
    certificates.flat_map(|certificate| tls::dns_names(&certificate.chain)).collect()
}

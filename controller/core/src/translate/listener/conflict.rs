//! Listeners that cannot share their port.

use std::collections::BTreeMap;

use super::{Listener, Protocol};

/// Marks the listeners of one fleet that are in each other's way: those of a Gateway and its ListenerSets, or, with merged
/// Gateways, of all of them.
///
/// The first owner (a Gateway, then its sets in order, then the next Gateway) keeps the port and the hostname, unless two of its own listeners
/// want the same: then nobody has it.
pub(in crate::translate) fn mark(listeners: &mut [&mut Listener<'_>]) {
    let mut ports: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    for (index, listener) in listeners.iter().enumerate().filter(|(_, listener)| listener.is_sound()) {
        ports.entry(listener.spec.port).or_default().push(index);
    }
    for indexes in ports.values() {
        let is_udp = |index: &usize| transport(listeners, *index) == Some("UDP");
        let (datagrams, streams): (Vec<usize>, Vec<usize>) = indexes.iter().copied().partition(is_udp);
        let found =
            [protocols(listeners, &streams), single(listeners, "TCP", &streams), hostnames(listeners, &streams)];
        for conflict in found.into_iter().flatten().chain(single(listeners, "UDP", &datagrams)) {
            conflict.tell(listeners);
        }
    }
}

struct Conflict {
    reason: &'static str,
    message: &'static str,
    /// Everyone who wants the same.
    members: Vec<usize>,
    /// Those of them who do not get it.
    losers: Vec<usize>,
}

impl Conflict {
    fn tell(&self, listeners: &mut [&mut Listener<'_>]) {
        let names: Vec<String> =
            self.members.iter().filter_map(|index| listeners.get(*index)).map(|listener| full_name(listener)).collect();
        let message = format!("{}, conflicting listeners: {}", self.message, names.join(", "));
        for index in &self.losers {
            let listener = listeners.get_mut(*index).filter(|listener| listener.is_sound());
            if let Some(listener) = listener {
                listener.conflict(self.reason, &message);
            }
        }
    }
}

fn full_name(listener: &Listener<'_>) -> String {
    format!("{}/{}/{}", listener.owner.namespace, listener.owner.name, listener.spec.name)
}

fn transport(listeners: &[&mut Listener<'_>], index: usize) -> Option<&'static str> {
    listeners.get(index)?.protocol.map(Protocol::transport)
}

/// All on a port must have the transport of the first owner.
fn protocols(listeners: &[&mut Listener<'_>], port: &[usize]) -> Vec<Conflict> {
    let first: Vec<usize> = of_first_owner(listeners, port);
    let Some(kept) = first.first().and_then(|index| transport(listeners, *index)) else { return Vec::new() };
    let agreed = first.iter().all(|index| transport(listeners, *index) == Some(kept));
    let losers: Vec<usize> =
        port.iter().copied().filter(|index| !agreed || transport(listeners, *index) != Some(kept)).collect();
    if losers.is_empty() {
        return Vec::new();
    }
    let message = "All listeners for a given port must use a compatible protocol";
    vec![Conflict { reason: "ProtocolConflict", message, members: port.to_vec(), losers }]
}

/// Without names there can only be one.
fn single(listeners: &[&mut Listener<'_>], name: &'static str, port: &[usize]) -> Vec<Conflict> {
    let same: Vec<usize> = port.iter().copied().filter(|index| transport(listeners, *index) == Some(name)).collect();
    let message = "Only one listener without hostnames is allowed in a given port";
    contest(listeners, same, "ProtocolConflict", message).into_iter().collect()
}

/// Names must be unique among the listeners that agree on the transport.
fn hostnames(listeners: &[&mut Listener<'_>], port: &[usize]) -> Vec<Conflict> {
    let kept = of_first_owner(listeners, port).first().and_then(|index| transport(listeners, *index));
    let mut named: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for index in port.iter().copied().filter(|index| transport(listeners, *index) == kept) {
        if let Some(listener) = listeners.get(index).filter(|one| one.protocol.is_some_and(Protocol::has_hostnames)) {
            named.entry(listener.hostname()).or_default().push(index);
        }
    }
    let message = "All listeners for a given port must use a unique hostname";
    named.into_values().filter_map(|same| contest(listeners, same, "HostnameConflict", message)).collect()
}

fn contest(
    listeners: &[&mut Listener<'_>],
    members: Vec<usize>,
    reason: &'static str,
    message: &'static str,
) -> Option<Conflict> {
    let first = of_first_owner(listeners, &members);
    let losers = match first.as_slice() {
        [winner] => members.iter().copied().filter(|index| index != winner).collect(),
        _ => members.clone(),
    };
    (members.len() > 1).then_some(Conflict { reason, message, members, losers })
}

fn of_first_owner(listeners: &[&mut Listener<'_>], indexes: &[usize]) -> Vec<usize> {
    let owner = |index: &usize| listeners.get(*index).map(|listener| &listener.owner);
    let first = indexes.first().and_then(owner);
    indexes.iter().copied().filter(|index| owner(index) == first).collect()
}

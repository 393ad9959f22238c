//! Gateways that share a fleet, and with it the ports: those of a class whose EnvoyProxy says `mergeGateways`.

use std::collections::{BTreeMap, HashMap};

use super::Gateway;
use crate::{
    infra::Fleet,
    ir,
    snapshot::Key,
    translate::{
        inputs::Inputs,
        listener::{Listener, conflict, overlap},
    },
};

/// Settles in each fleet who has which port and hostname: what an older Gateway has, a younger one cannot get.
pub(super) fn settle<'s>(inputs: &Inputs<'s>, gateways: &mut BTreeMap<Key, Gateway<'s>>) {
    let mut fleets: BTreeMap<String, Vec<&mut Gateway<'s>>> = BTreeMap::new();
    for gateway in gateways.values_mut().filter(|gateway| gateway.excluded.is_none()) {
        fleets.entry(gateway.proxy.key.clone()).or_default().push(gateway);
    }
    for mut gateways in fleets.into_values() {
        gateways.sort_by_key(|gateway| gateway.object.metadata.creation_timestamp.clone());
        let mut listeners: Vec<&mut Listener<'s>> =
            gateways.iter_mut().flat_map(|gateway| &mut gateway.listeners).collect();
        conflict::mark(&mut listeners);
        for listener in &mut listeners {
            listener.read_certificates(inputs);
        }
        overlap::tell(&mut listeners);
        if gateways.len() > 1 {
            introduce(&mut gateways);
        }
        for (rank, gateway) in gateways.into_iter().enumerate() {
            gateway.rank = rank;
            gateway.conclude(inputs);
        }
    }
}

/// Tells each of the Gateways what the others listen to.
fn introduce(gateways: &mut [&mut Gateway<'_>]) {
    let taken: Vec<Vec<_>> = gateways
        .iter()
        .map(|gateway| {
            let listeners = gateway.listeners.iter().filter(|listener| !listener.conditions.is_true("Conflicted"));
            listeners.map(|listener| (listener.spec.port, listener.hostname())).collect()
        })
        .collect();
    for (index, gateway) in gateways.iter_mut().enumerate() {
        let others = taken.iter().enumerate().filter(|(other, _)| *other != index);
        gateway.rivals = others.flat_map(|(_, listeners)| listeners.iter().copied()).collect();
    }
}

/// The proxies with their fleets: one for each Gateway, or for all that share one.
pub(in crate::translate) fn join(
    inputs: &Inputs<'_>,
    gateways: BTreeMap<Key, Gateway<'_>>,
) -> (Vec<ir::Proxy>, Vec<Fleet>) {
    let mut gateways: Vec<Gateway<'_>> = gateways.into_values().collect();
    gateways.sort_by_key(|gateway| (gateway.excluded.is_some(), gateway.rank));
    let (mut proxies, mut fleets): (Vec<ir::Proxy>, Vec<Fleet>) = (Vec::new(), Vec::new());
    let mut known: HashMap<String, usize> = HashMap::new();
    for gateway in gateways {
        if gateway.excluded.is_some() {
            let shared = known.get(&gateway.proxy.key).and_then(|first| proxies.get_mut(*first));
            if let Some(proxy) = shared {
                // Policies may still name it.
                proxy.gateways.push(gateway.reference);
            }
            continue;
        }
        let fleet = gateway.fleet(inputs);
        let first = *known.entry(gateway.proxy.key.clone()).or_insert(proxies.len());
        if let (Some(proxy), Some(joined)) = (proxies.get_mut(first), fleets.get_mut(first)) {
            proxy.join(gateway.proxy);
            joined.join(fleet);
        } else {
            proxies.push(gateway.proxy);
            fleets.push(fleet);
        }
    }
    (proxies, fleets)
}

//! From manifests to everything that follows from them, again and again.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use controller_core::{Memo, RateLimitService, ServiceAddress, Settings, Snapshot, snapshot::Key};
use tokio::sync::watch;

use super::{
    Options,
    address::Addresses,
    servers::Sockets,
    services::{RPC_TIMEOUT, Services},
    state::State,
};
use crate::{ads, pods, refusal, source::Manifests, status::Log, translation::translate};

/// Translates, and hands out the results.
#[derive(Debug)]
pub(super) struct Translator {
    settings: Settings,
    /// Of the last translation.
    memo: Memo,
    addresses: Addresses,
    /// Stands in for pods; `None` without an echo backend.
    echo: Option<SocketAddr>,
    /// The Services without pods that were told of already.
    without_pods: BTreeSet<Key>,
    log: Log,
    cache: ads::Cache,
    holds: ads::Holds,
    services: Services,
    states: watch::Sender<Arc<State>>,
}

impl Translator {
    pub(super) fn new(
        options: &Options,
        sockets: &Sockets,
        echo: Option<SocketAddr>,
        cache: ads::Cache,
        services: Services,
        states: watch::Sender<Arc<State>>,
    ) -> Self {
        let unix = |path: &std::path::Path| ServiceAddress::Unix(path.display().to_string());
        let settings = Settings {
            running_on_host: true,
            rate_limit: Some(RateLimitService {
                address: unix(&sockets.rate_limit),
                timeout: Some(RPC_TIMEOUT),
                fail_closed: false,
            }),
            extauth: Some(unix(&sockets.extauth)),
            access_log: options.access_log.as_ref().map(|path| path.display().to_string()),
            ..Settings::default()
        };
        let addresses = Addresses::new(options.address);
        let (log, without_pods) = (Log::default(), BTreeSet::new());
        let (memo, holds) = (Memo::default(), ads::Holds::new(cache.clone()));
        Self { settings, memo, addresses, echo, without_pods, log, cache, holds, services, states }
    }

    /// Follows the manifests until their source ends.
    pub(super) async fn follow(mut self, mut manifests: watch::Receiver<Arc<Manifests>>) {
        let mut clients = self.cache.clients();
        loop {
            let latest = manifests.borrow_and_update().clone();
            self.apply(&latest).await;
            // Until there is something to translate, or to say of what Envoys refuse.
            loop {
                tokio::select! {
                    changed = manifests.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    Ok(()) = clients.changed() => {
                        let clients = clients.borrow_and_update().clone();
                        if self.holds.judge(&clients) {
                            break;
                        }
                    }
                }
            }
        }
    }

    async fn apply(&mut self, manifests: &Arc<Manifests>) {
        self.settings.addresses = self.addresses.assign(&manifests.snapshot, &self.settings);
        let snapshot = self.with_pods(manifests.snapshot.clone());
        let settings = self.settings.clone();
        let translated = translate(&mut self.memo, Arc::new(snapshot), Arc::new(settings)).await;
        let Some(translation) = translated else { return };
        let mut state = State::new(&translation, manifests, &self.settings.addresses);
        // The services first: Envoy's new configuration asks them for what the old one did not.
        self.services.apply(&translation);
        let resources = translation.proxies.into_iter().map(|(key, proxy)| (key, proxy.resources));
        self.holds.publish(resources.collect());
        refusal::tell(&mut state.statuses, &self.holds.refusals(), refusal::BY_ENVOY);
        self.log.update(manifests, &state.statuses);
        self.states.send_replace(Arc::new(state));
    }

    fn with_pods(&mut self, mut snapshot: Snapshot) -> Snapshot {
        let Some(echo) = self.echo else { return snapshot };
        let without_pods = pods::stand_in(&mut snapshot, echo);
        for (namespace, name) in without_pods.difference(&self.without_pods) {
            tracing::info!(
                "Service {namespace}/{name} has no EndpointSlice, and there are no pods on this machine: the echo backend \
                 on {echo} answers for it"
            );
        }
        self.without_pods = without_pods;
        snapshot
    }
}

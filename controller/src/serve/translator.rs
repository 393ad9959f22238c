//! From snapshots to everything that follows from them, again and again.

use std::{sync::Arc, time::Duration};

use controller_core::{Memo, Settings, Snapshot, xds::Resources};
use envoy_types::pb::ratelimit::config::ratelimit::v3::RateLimitConfig;
use proto::{extauth::Policy, readiness::Block};
use tokio::{sync::watch, time::timeout};

use super::saved::{Served, State};
use crate::{
    ads::{self, holds::Refusals},
    apply::Wanted,
    cluster::Board,
    error::chain,
    refusal,
    translation::translate,
};

/// How long the API server has before what was kept is served instead.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause after what is served has been kept.
const PAUSE: Duration = Duration::from_secs(2);

/// Where the results go.
#[derive(Debug)]
pub(super) struct Outlets {
    pub(super) cache: ads::Cache,
    pub(super) limits: watch::Sender<Option<Arc<Vec<RateLimitConfig>>>>,
    pub(super) policies: watch::Sender<Option<Arc<Resources>>>,
    pub(super) board: Arc<Board>,
    pub(super) fleets: watch::Sender<Option<Arc<Wanted>>>,
}

/// Translates, and hands out the results.
#[derive(Debug)]
pub(super) struct Translator {
    settings: Arc<Settings>,
    /// Of the last translation.
    memo: Memo,
    outlets: Outlets,
    holds: ads::Holds,
    /// What the API server refuses of the Envoys' fleets.
    unmade: watch::Receiver<Refusals>,
    /// What the services refuse.
    refused: ads::Refused,
    /// What the policies that are served were made from.
    auth_policies: Option<Vec<Policy>>,
    /// Held until there is something to serve.
    synced: Option<Block>,
}

impl Translator {
    pub(super) fn new(
        settings: Arc<Settings>,
        outlets: Outlets,
        unmade: watch::Receiver<Refusals>,
        refused: ads::Refused,
        synced: Block,
    ) -> Self {
        let holds = ads::Holds::new(outlets.cache.clone());
        let (memo, auth_policies, synced) = (Memo::default(), None, Some(synced));
        Self { settings, memo, outlets, holds, unmade, refused, auth_policies, synced }
    }

    /// Follows the snapshots until their source ends. Until the first one, what was kept may have to do.
    pub(super) async fn follow(mut self, mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>, state: Option<State>) {
        if let Some(state) = state
            && timeout(PATIENCE, snapshots.wait_for(Option::is_some)).await.is_err()
        {
            self.resume(&state);
        }
        let mut clients = self.outlets.cache.clients();
        let mut refused = self.refused.follow();
        loop {
            let latest = snapshots.borrow_and_update().clone();
            if let Some(snapshot) = latest {
                self.apply(snapshot).await;
            }
            // Until there is something to translate, or to say in a status.
            loop {
                tokio::select! {
                    changed = snapshots.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    Ok(()) = clients.changed() => {
                        let clients = clients.borrow_and_update().clone();
                        if self.holds.judge(&clients) {
                            break;
                        }
                    }
                    Ok(()) = self.unmade.changed() => break,
                    Ok(()) = refused.changed() => break,
                }
            }
        }
    }

    fn resume(&mut self, state: &State) {
        match state.load() {
            Ok(Some(Served { proxies, limits, policies })) => {
                tracing::warn!(
                    "the API server does not answer: the kept configuration of {} proxies is in force until it does",
                    proxies.len()
                );
                self.outlets.limits.send_replace(Some(limits));
                self.outlets.policies.send_replace(Some(policies));
                self.outlets
                    .cache
                    .publish(proxies.iter().map(|(key, proxy)| (key.clone(), (**proxy).clone())).collect());
                self.synced = None;
            }
            Ok(None) => tracing::warn!("the API server does not answer, and no configuration has been kept"),
            Err(error) => tracing::error!("the kept configuration is ignored: {}", chain(&error)),
        }
    }

    async fn apply(&mut self, snapshot: Arc<Snapshot>) {
        let (settings, input) = (Arc::clone(&self.settings), Arc::clone(&snapshot));
        let Some(translation) = translate(&mut self.memo, input, settings).await else { return };
        self.outlets.fleets.send_replace(Some(Arc::new(Wanted::new(&translation, &snapshot))));
        // Limits and policies first: Envoy's new configuration asks for what the old one did not.
        self.outlets.limits.send_if_modified(|limits| {
            let wanted = &translation.rate_limits;
            let is_new = limits.as_ref().is_none_or(|limits| !Arc::ptr_eq(limits, wanted) && limits != wanted);
            if is_new {
                *limits = Some(Arc::clone(wanted));
            }
            is_new
        });
        if self.auth_policies.as_ref() != Some(&translation.auth_policies) {
            self.outlets.policies.send_replace(Some(Arc::new(ads::policies::resources(&translation.auth_policies))));
            self.auth_policies = Some(translation.auth_policies);
        }
        let resources = translation.proxies.into_iter().map(|(key, proxy)| (key, proxy.resources));
        self.holds.publish(resources.collect());
        let mut statuses = translation.statuses;
        refusal::tell(&mut statuses, &self.unmade.borrow_and_update(), refusal::BY_API_SERVER);
        refusal::tell(&mut statuses, &self.refused.all(), refusal::BY_SERVICE);
        refusal::tell(&mut statuses, &self.holds.refusals(), refusal::BY_ENVOY);
        self.outlets.board.want(statuses);
        self.synced = None;
    }
}

/// Keeps what is served in `state` whenever it changes, for as long as it is polled.
pub(super) async fn keep(
    state: State,
    cache: ads::Cache,
    mut limits: ads::limits::Limits,
    mut policies: ads::policies::Policies,
) {
    let mut proxies = cache.proxies();
    loop {
        tokio::select! {
            changed = proxies.changed() => if changed.is_err() { return },
            changed = limits.changed() => if changed.is_err() { return },
            changed = policies.changed() => if changed.is_err() { return },
        }
        let latest = (limits.borrow_and_update().clone(), policies.borrow_and_update().clone());
        let (Some(limits), Some(policies)) = latest else { continue };
        let served = Served { proxies: proxies.borrow_and_update().clone(), limits, policies };
        let state = state.clone();
        match tokio::task::spawn_blocking(move || state.store(&served)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("what is served is not kept: {}", chain(&error)),
            Err(panic) => tracing::error!("what is served is not kept: {panic}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

//! Keeps the fleets in the cluster as the translation wants them: server-side apply of what differs, deletion of what is ours
//! and no longer wanted. Only the leader does so.

use std::{sync::Arc, time::Duration};

use controller_core::{
    Settings, Snapshot, Translation,
    infra::{self, Fleet},
    ir::ObjectRef,
    translate::Proxy,
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use tokio::{sync::watch, time::Instant};

use crate::{
    ads::holds::{Owner, Refusals},
    cluster::is_leading,
    error::chain,
    scope::Scope,
};

mod failure;
mod kind;
mod plan;

use failure::{Error, Failure, Sharing, told};
pub use kind::{KINDS, Kind};
use plan::{Applied, Id, Live};

/// Names us among those who set fields of an object.
const MANAGER: &str = "envoy-gateway";
/// Everything is applied again after this time, in case that somebody changed it. It costs no write where nobody did.
const AGAIN: Duration = Duration::from_mins(5);
/// First pause after a failure; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What should run, and what does.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// All fleets.
    pub fleets: Vec<Fleet>,
    /// Objects of fleets that the API server has told of.
    present: Vec<Id>,
    /// The Gateways that share a fleet, by their class.
    sharing: Sharing,
}

impl Wanted {
    /// What `translation` of `snapshot` asks for.
    pub fn new(translation: &Translation, snapshot: &Snapshot) -> Self {
        let ids = |kind: &'static str, keys: Vec<&(String, String)>| {
            let ids = keys.into_iter().map(move |(namespace, name)| Id::new(kind, namespace, name));
            ids.collect::<Vec<_>>()
        };
        let present = [
            ids("Deployment", snapshot.deployments.keys().collect()),
            ids("DaemonSet", snapshot.daemon_sets.keys().collect()),
            ids("Service", snapshot.services.keys().collect()),
        ];
        Self {
            fleets: translation.proxies.values().map(|proxy| proxy.infra.clone()).collect(),
            present: present.concat(),
            sharing: sharing(translation),
        }
    }
}

fn sharing(translation: &Translation) -> Sharing {
    let merged = translation.proxies.iter().filter(|(key, _)| !key.contains('/'));
    let gateways = |proxy: &Proxy| {
        let owner = |gateway: &ObjectRef| Owner {
            kind: gateway.kind.to_string(),
            namespace: gateway.namespace.clone(),
            name: gateway.name.clone(),
        };
        proxy.ir.gateways.iter().map(owner).collect()
    };
    merged.map(|(class, proxy)| (class.clone(), gateways(proxy))).collect()
}

/// Applies fleets.
pub struct Applier {
    client: Client,
    settings: Arc<Settings>,
    scope: Scope,
    applied: Applied,
    /// When everything was applied last.
    complete: Option<Instant>,
    /// What Gateways are to be told.
    refusals: watch::Sender<Refusals>,
}

impl std::fmt::Debug for Applier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Applier").field("applied", &self.applied).finish_non_exhaustive()
    }
}

impl Applier {
    /// Reaches the cluster by `client`, and looks for objects of fleets in `scope` only. Why the API server refuses what a Gateway
    /// needs goes to `refusals`.
    pub fn new(client: Client, settings: Arc<Settings>, scope: Scope, refusals: watch::Sender<Refusals>) -> Self {
        Self { client, settings, scope, applied: Applied::default(), complete: None, refusals }
    }

    /// Follows `wanted` while this is the leader, which `leads` tells, until its source ends.
    pub async fn run(
        mut self,
        mut wanted: watch::Receiver<Option<Arc<Wanted>>>,
        mut leads: watch::Receiver<Option<std::time::Instant>>,
    ) {
        let mut pause = FIRST_PAUSE;
        let mut due = None;
        loop {
            let leading = is_leading(&leads.borrow_and_update());
            let latest = wanted.borrow_and_update().clone();
            if !leading {
                // Another replica may change what this one remembers.
                self.applied = Applied::default();
                self.complete = None;
                self.tell(&[], &Sharing::new());
                due = None;
            } else if let Some(latest) = latest {
                let failures = self.apply(&latest).await;
                for failure in &failures {
                    tracing::warn!("{}", chain(&failure.error));
                }
                self.tell(&failures, &latest.sharing);
                metrics::gauge!("controller_apply_failures").set(u32::try_from(failures.len()).unwrap_or(u32::MAX));
                due = Some(Instant::now() + if failures.is_empty() { AGAIN } else { pause });
                pause = if failures.is_empty() { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            }
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                changed = leads.wait_for(|until| is_leading(until) != leading) => if changed.is_err() { return },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    fn tell(&self, failures: &[Failure], sharing: &Sharing) {
        let latest = told(failures, sharing);
        self.refusals.send_if_modified(|refusals| {
            let is_new = *refusals != latest;
            *refusals = latest;
            is_new
        });
    }

    /// Does what is needed so that `wanted` runs; what failed is told, and tried again next time.
    async fn apply(&mut self, wanted: &Wanted) -> Vec<Failure> {
        let again = self.complete.is_none_or(|complete| complete.elapsed() >= AGAIN);
        let mut failures = Vec::new();
        if again {
            self.applied = Applied::default();
        }
        self.applied.forget_lost(&wanted.present);
        let mut objects = Vec::new();
        let mut untouchable = Vec::new();
        for fleet in &wanted.fleets {
            if fleet.placement.held {
                untouchable.push(fleet);
                continue;
            }
            match infra::objects(fleet, &self.settings) {
                Ok(rendered) => objects.extend(rendered),
                Err(error) => {
                    failures.push(Failure::of(error.into(), |label| fleet.labels.get(label).map(String::as_str)));
                    untouchable.push(fleet);
                }
            }
        }
        let (due, changed) = self.applied.due(&objects);
        for object in due {
            let id = Id::of(object);
            match self.put(object, &id).await {
                Ok(()) => self.applied.note(id, object),
                Err(error) => failures.push(Failure::of(error, |label| plan::label(&object.value, label))),
            }
        }
        if again || changed {
            failures.extend(self.delete_unwanted(&objects, &untouchable, &wanted.fleets).await);
        }
        if again && failures.is_empty() {
            self.complete = Some(Instant::now());
        }
        failures
    }

    async fn put(&self, object: &infra::Object, id: &Id) -> Result<(), Error> {
        let Some(kind) = Kind::named(object.kind) else { return Ok(()) };
        let api = self.api(kind, &object.namespace);
        let failed = |attempt| move |source| Error::Api { attempt, id: id.clone(), source: Box::new(source) };
        if !self.applied.knows(id)
            && let Some(there) = api.get_metadata_opt(&object.name).await.map_err(failed("reading"))?
            && !plan::is_ours(there.metadata.labels.as_ref(), &object.value)
        {
            return Err(Error::Foreign(id.clone()));
        }
        let params = PatchParams::apply(MANAGER).force();
        api.patch(&object.name, &params, &Patch::Apply(&object.value)).await.map_err(failed("applying"))?;
        tracing::debug!("{id} is applied");
        Ok(())
    }

    async fn delete_unwanted(
        &mut self,
        objects: &[infra::Object],
        untouchable: &[&Fleet],
        fleets: &[Fleet],
    ) -> Vec<Failure> {
        let mut failures = Vec::new();
        let (apart, namespaces) = (self.settings.gateway_namespace_mode, self.scope.of_fleets());
        for kind in &KINDS {
            for namespace in &namespaces {
                let live = match self.live(kind, namespace.as_deref()).await {
                    Ok(live) => live,
                    Err(error) => {
                        failures.push(error.into());
                        continue;
                    }
                };
                for id in plan::unwanted(&live, objects, untouchable, apart.then_some(fleets)) {
                    match self.api(kind, &id.namespace).delete(&id.name, &DeleteParams::background()).await {
                        Ok(_) => tracing::info!("{id} is deleted: nothing asks for it any more"),
                        Err(kube::Error::Api(status)) if status.code == 404 => {}
                        Err(source) => {
                            let error = Error::Api { attempt: "deleting", id: id.clone(), source: Box::new(source) };
                            failures.push(error.into());
                        }
                    }
                    self.applied.forget(&id);
                }
            }
        }
        failures
    }

    /// What there is of fleets, of one kind.
    async fn live(&self, kind: &Kind, namespace: Option<&str>) -> Result<Vec<Live>, Error> {
        let api = match namespace {
            Some(namespace) => self.api(kind, namespace),
            None => Api::all_with(self.client.clone(), &kind.resource()),
        };
        let list = match api.list_metadata(&ListParams::default().labels(&infra::selector())).await {
            Ok(list) => list,
            // A cluster without the kind has nothing of it.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
            Err(source) => return Err(Error::List { kind: kind.name, source: Box::new(source) }),
        };
        let live = list.items.into_iter().map(|item| Live {
            id: Id::new(
                kind.name,
                item.metadata.namespace.as_deref().unwrap_or_default(),
                item.metadata.name.as_deref().unwrap_or_default(),
            ),
            labels: item.metadata.labels.unwrap_or_default(),
            is_going: item.metadata.deletion_timestamp.is_some(),
        });
        Ok(live.collect())
    }

    fn api(&self, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }
}

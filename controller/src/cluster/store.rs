//! Keeps all objects, and hands out a snapshot when they have changed and are complete.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use controller_core::{
    Snapshot,
    ir::ObjectRef,
    snapshot::{Inserted, KINDS, Key, Kind},
};
use kube::Client;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout_at},
};

use super::{
    board::Board,
    guard::Guard,
    object::{Fingerprints, Object},
    part::Part,
    reason::{Failure, reason},
    resources::{self, Resources},
    watch::{self as part_watch, Change},
};
use crate::scope::Scope;

/// Changes that wait for the store; a watch that is faster waits too.
const QUEUE: usize = 1024;
/// A snapshot is taken when nothing has come for so long …
const QUIET: Duration = Duration::from_millis(10);
/// … or so long after the first change.
const MAX_DELAY: Duration = Duration::from_millis(100);
/// Endpoints do not wait for others, but while they change all the time, snapshots are so far apart.
const SPACING: Duration = Duration::from_millis(50);

/// What an operator decides about the watches.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where objects are looked for.
    pub scope: Scope,
    /// How long objects stay in force when a list suddenly lacks most of a kind; zero turns that off.
    pub hold: Duration,
    /// How often the API server is asked for kinds that it did not have.
    pub rediscover: Duration,
}

/// Snapshots of what `client` shows, from the moment when they are complete until the receiver is dropped. The board learns the
/// statuses that stand.
pub fn snapshots(client: Client, board: Arc<Board>, options: Options) -> watch::Receiver<Option<Arc<Snapshot>>> {
    let (changes, incoming) = mpsc::channel(QUEUE);
    let (expected, expectation) = watch::channel(None);
    let (snapshots, receiver) = watch::channel(None);
    let store = Store::new(Arc::clone(&board), options.hold);
    tokio::spawn(async move {
        tokio::select! {
            () = run(store, incoming, expectation, &snapshots) => {}
            () = discover(client, board, options, changes, expected) => {}
            () = snapshots.closed() => {}
        }
    });
    receiver
}

/// Starts a watch for each kind as soon as the API server has it.
async fn discover(
    client: Client,
    board: Arc<Board>,
    options: Options,
    changes: mpsc::Sender<Change>,
    expected: watch::Sender<Option<BTreeSet<Part>>>,
) {
    let mut watches = Watches {
        scope: options.scope,
        changes,
        running: JoinSet::new(),
        parts: BTreeSet::new(),
        stopped: BTreeSet::new(),
        newest: Arc::default(),
    };
    let mut missing = BTreeSet::new();
    let mut failure = Failure::default();
    loop {
        match watches.start(&client).await {
            Ok(found) => {
                failure.is_over();
                tell_missing(&found, &mut missing);
                board.serve(&found);
                expected.send_if_modified(|expected| {
                    let is_first = expected.is_none();
                    expected.get_or_insert_with(|| watches.parts.clone());
                    is_first
                });
            }
            Err(error) => {
                let reason = reason(&error);
                if failure.is_new(&reason) {
                    tracing::warn!("asking the API server for its resources: {reason}");
                }
            }
        }
        tokio::select! {
            () = sleep(options.rediscover) => {}
            Some(ended) = watches.running.join_next() => {
                match ended {
                    Ok(part) => watches.parts.remove(&part),
                    Err(panic) => return tracing::error!("the objects are followed no longer: {panic}"),
                };
                // A kind that has just gone is still listed for a moment.
                sleep(MAX_DELAY).await;
            }
        }
    }
}

/// One for each kind, or for each kind and namespace.
struct Watches {
    scope: Scope,
    changes: mpsc::Sender<Change>,
    running: JoinSet<Part>,
    parts: BTreeSet<Part>,
    /// Those that were followed before the data was lost.
    stopped: BTreeSet<Part>,
    /// The highest version that any of them has seen.
    newest: Arc<AtomicU64>,
}

impl Watches {
    /// Starts those that are missing, and yields what the API server serves.
    async fn start(&mut self, client: &Client) -> Result<Resources, kube::Error> {
        let seen = self.newest.load(Ordering::Relaxed);
        // The API server lets a watch wait for a version that it does not have yet, for as long as it takes.
        if resources::version(client).await? < seen {
            tracing::error!("the API server's data is older than what it has shown before: everything is listed anew");
            self.running.shutdown().await;
            self.stopped.append(&mut self.parts);
            self.newest = Arc::default();
        }
        let found = resources::discover(client).await?;
        // A watch that runs finds out by itself that its kind has gone.
        let stopped = std::mem::take(&mut self.stopped);
        for part in stopped.into_iter().filter(|part| !found.contains_key(part.kind.name)) {
            let _ = self.changes.send(Change::Unserved(part)).await;
        }
        for (name, resource) in &found {
            let Some(kind) = Kind::named(name) else { continue };
            for part in self.scope.of(kind).into_iter().map(|namespace| Part { kind, namespace }) {
                if self.parts.insert(part.clone()) {
                    let (changes, newest) = (self.changes.clone(), Arc::clone(&self.newest));
                    let followed = part_watch::follow(client.clone(), part.clone(), resource.clone(), changes, newest);
                    self.running.spawn(async move {
                        followed.await;
                        part
                    });
                }
            }
        }
        Ok(found)
    }
}

fn tell_missing(found: &Resources, missing: &mut BTreeSet<&'static str>) {
    let now: BTreeSet<_> = KINDS.iter().map(|kind| kind.name).filter(|kind| !found.contains_key(kind)).collect();
    for kind in now.difference(missing) {
        tracing::info!("the API server has no {kind}: what it does is off until it has");
    }
    for kind in missing.difference(&now) {
        tracing::info!("the API server has {kind} now");
    }
    *missing = now;
}

async fn run(
    mut store: Store,
    mut changes: mpsc::Receiver<Change>,
    mut expected: watch::Receiver<Option<BTreeSet<Part>>>,
    snapshots: &watch::Sender<Option<Arc<Snapshot>>>,
) {
    let mut spaced = tokio::time::Instant::now();
    loop {
        let deadline = store.guard.deadline().map(tokio::time::Instant::from_std);
        let expired = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = changes.recv() => match change {
                Some(change) => store.apply(change, Instant::now()),
                None => return,
            },
            Ok(()) = expected.changed() => store.expect(&expected.borrow_and_update().clone().unwrap_or_default()),
            () = expired => store.release(Instant::now()),
        }
        let latest = tokio::time::Instant::now() + MAX_DELAY;
        loop {
            let quiet = tokio::time::Instant::now() + QUIET;
            let end = if store.urgent { spaced } else { quiet.min(latest) };
            match timeout_at(end.min(latest), changes.recv()).await {
                Ok(Some(change)) => store.apply(change, Instant::now()),
                Ok(None) | Err(_) => break,
            }
        }
        if let Some(snapshot) = store.take() {
            spaced = tokio::time::Instant::now() + SPACING;
            snapshots.send_replace(Some(Arc::new(snapshot)));
        }
    }
}

/// All objects as they stand.
#[derive(Debug)]
struct Store {
    snapshot: Snapshot,
    /// What each object said last, also where that was malformed.
    known: BTreeMap<&'static str, BTreeMap<Key, u64>>,
    fingerprints: Fingerprints,
    malformed: BTreeSet<ObjectRef>,
    /// What has not been listed yet; `None` before it is known what there is.
    awaited: Option<BTreeSet<Part>>,
    listed: BTreeSet<Part>,
    changed: bool,
    /// Endpoints are among what has changed: requests may be on their way to one that is gone.
    urgent: bool,
    guard: Guard,
    board: Arc<Board>,
}

impl Store {
    fn new(board: Arc<Board>, hold: Duration) -> Self {
        Self {
            snapshot: Snapshot::default(),
            known: BTreeMap::new(),
            fingerprints: Fingerprints::default(),
            malformed: BTreeSet::new(),
            awaited: None,
            listed: BTreeSet::new(),
            changed: true,
            urgent: false,
            guard: Guard::new(hold),
            board,
        }
    }

    /// The first snapshot has to wait for these.
    fn expect(&mut self, parts: &BTreeSet<Part>) {
        self.awaited = Some(parts.difference(&self.listed).cloned().collect());
    }

    fn apply(&mut self, change: Change, now: Instant) {
        match change {
            Change::Applied(object) => self.put(object),
            Change::Deleted(object) => self.delete(&object.reference),
            Change::Listed(part, objects) => self.list(part, objects, now),
            Change::Unserved(part) => self.list(part, Vec::new(), now),
        }
    }

    fn put(&mut self, object: Object) {
        let Object { reference, version, generation, manifest, status } = object;
        self.board.stands(&reference, version, generation, status);
        let key = (reference.namespace.clone(), reference.name.clone());
        self.guard.forget(reference.kind, &key);
        let fingerprint = self.fingerprints.of(&manifest);
        if self.known.entry(reference.kind).or_default().insert(key, fingerprint) == Some(fingerprint) {
            return;
        }
        match self.snapshot.insert(manifest) {
            Ok(Inserted::Known { .. }) => {
                self.changed = true;
                self.urgent |= reference.kind == "EndpointSlice";
                self.malformed.remove(&reference);
            }
            // Such as a Deployment that has lost the labels of a fleet.
            Ok(Inserted::Ignored { .. }) => self.changed |= self.snapshot.remove(&reference),
            Err(error) => {
                tracing::warn!("{error}; what it said before, if anything, stays in force");
                self.malformed.insert(reference);
            }
        }
        self.count();
    }

    fn delete(&mut self, object: &ObjectRef) {
        let key = (object.namespace.clone(), object.name.clone());
        self.guard.forget(object.kind, &key);
        if let Some(known) = self.known.get_mut(object.kind) {
            known.remove(&key);
        }
        let was_there = self.snapshot.remove(object);
        self.changed |= was_there;
        self.urgent |= was_there && object.kind == "EndpointSlice";
        self.malformed.remove(object);
        self.board.gone(object);
        self.count();
    }

    fn list(&mut self, part: Part, objects: Vec<Object>, now: Instant) {
        let known = self.known.get(part.kind.name).into_iter().flat_map(BTreeMap::keys);
        let mut missing: BTreeSet<Key> = known.filter(|key| part.covers(key)).cloned().collect();
        let stood = missing.len();
        for object in objects {
            missing.remove(&(object.reference.namespace.clone(), object.reference.name.clone()));
            self.put(object);
        }
        for key in self.guard.missing(&part, missing, stood, now) {
            self.delete(&reference(part.kind.name, key));
        }
        if let Some(awaited) = &mut self.awaited {
            awaited.remove(&part);
        }
        self.listed.insert(part);
    }

    /// Lets go of what the guard has held long enough.
    fn release(&mut self, now: Instant) {
        for (part, keys) in self.guard.expired(now) {
            tracing::error!(%part, "{} objects have not come back and are gone now", keys.len());
            for key in keys {
                self.delete(&reference(part.kind.name, key));
            }
        }
    }

    /// A snapshot, if there is a new one and nothing is still to be listed.
    fn take(&mut self) -> Option<Snapshot> {
        let is_complete = self.awaited.as_ref().is_some_and(BTreeSet::is_empty);
        self.urgent = false;
        (is_complete && std::mem::take(&mut self.changed)).then(|| self.snapshot.clone())
    }

    fn count(&self) {
        metrics::gauge!("controller_malformed_objects").set(u32::try_from(self.malformed.len()).unwrap_or(u32::MAX));
    }
}

fn reference(kind: &'static str, (namespace, name): Key) -> ObjectRef {
    ObjectRef { kind, namespace, name }
}

#[cfg(test)]
mod tests;

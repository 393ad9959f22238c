//! Batches of requests: what comes while a call is under way goes with the next one.

use std::{
    collections::{HashMap, VecDeque},
    iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ::redis::{ErrorKind, RedisResult, ServerErrorKind, Value};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    Charge, StoreError,
    connection::{Connection, Shard},
    encoded::Encoded,
    script::{Replies, Reply, Script},
};

/// Calls under way to one shard. With one, batches are largest and a decision costs least.
const CALLS: usize = 1;
/// Charges in one call. Redis does nothing else meanwhile, about a millisecond and a half.
const MAX_BATCH: usize = 512;
/// Charges that wait for one shard. Beyond them requests fail at once.
const MAX_WAITING: usize = 16_384;

/// Sends requests to Redis in batches, one after the other to each shard.
///
/// There is no timer: a batch leaves as soon as the call before it has returned, and at once when there is none. So a
/// request that is alone does not wait, and the more there are, the more of them share a call.
#[derive(Clone, Debug)]
pub(super) struct Batches {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connection: Connection,
    script: Script,
    /// The epoch to charge in, for replicas that lease: zero while nothing may be charged.
    epoch: Option<Arc<AtomicU64>>,
    lanes: Mutex<HashMap<Shard, Lane>>,
}

/// What goes to one shard.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Request>,
    /// Charges of all that wait.
    charges: usize,
    /// Calls under way.
    calls: usize,
}

#[derive(Debug)]
struct Request {
    encoded: Encoded,
    deadline: Instant,
    /// Closed when nobody waits any more.
    answer: oneshot::Sender<Result<Reply, StoreError>>,
}

impl Batches {
    pub(super) fn new(connection: Connection, script: Script, epoch: Option<Arc<AtomicU64>>) -> Self {
        Self { shared: Arc::new(Shared { connection, script, epoch, lanes: Mutex::default() }) }
    }

    /// Sends a request. Nothing of it is charged when it is given up, by its deadline or by its caller,
    /// before it was sent; afterwards it may be.
    pub(super) async fn send(&self, shard: Shard, encoded: Encoded) -> Result<Reply, StoreError> {
        let timeout = self.shared.connection.timeout(shard);
        let deadline = Instant::now() + timeout;
        let (answer, answered) = oneshot::channel();
        self.shared.push(shard, Request { encoded, deadline, answer })?;
        match timeout_at(deadline, answered).await {
            Ok(Ok(reply)) => reply,
            // A call that is late is given up together with the requests it held.
            Ok(Err(_)) | Err(_) => Err(StoreError::Timeout(timeout)),
        }
    }

    /// Sends one charge by itself, to wherever its counter is in a cluster of which a part is moving.
    pub(super) async fn send_with_key(&self, shard: Shard, charge: &Charge) -> Result<Reply, StoreError> {
        let request = Encoded::new(&[*charge]);
        let call = self.shared.script.call_at(charge.key, &Encoded::batch(iter::once(&request)));
        let sent = std::time::Instant::now();
        let value = self.shared.connection.run(shard, &call).await.map_err(StoreError::of_redis)?;
        // There are no leases in a cluster, so no epoch either.
        Replies::new(value).ok_or(StoreError::Reply)?.next(&request, 0, sent)
    }
}

impl Shared {
    fn push(self: &Arc<Self>, shard: Shard, request: Request) -> Result<(), StoreError> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.entry(shard).or_default();
        if lane.charges + request.encoded.charges() > MAX_WAITING {
            lane.forget_those_given_up();
            if lane.charges + request.encoded.charges() > MAX_WAITING {
                return Err(StoreError::Busy(lane.charges));
            }
        }
        lane.charges += request.encoded.charges();
        lane.waiting.push_back(request);
        if lane.calls < CALLS {
            lane.calls += 1;
            // The task runs after those that are ready now, so what they charge goes with the first call.
            tokio::spawn(Arc::clone(self).send_all(shard));
        }
        Ok(())
    }

    /// Sends batch after batch until nothing waits.
    async fn send_all(self: Arc<Self>, shard: Shard) {
        while let Some(batch) = self.take(shard) {
            self.send_batch(shard, batch).await;
        }
    }

    fn take(&self, shard: Shard) -> Option<Vec<Request>> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.get_mut(&shard)?;
        let batch = lane.take(Instant::now());
        if batch.is_empty() {
            lane.calls -= 1;
            return None;
        }
        Some(batch)
    }

    async fn send_batch(&self, shard: Shard, batch: Vec<Request>) {
        let Some(deadline) = batch.iter().map(|request| request.deadline).max() else { return };
        let epoch = self.epoch.as_ref().map(|epoch| epoch.load(Ordering::SeqCst));
        if epoch == Some(0) {
            for request in batch {
                let _ = request.answer.send(Err(StoreError::Learning));
            }
            return;
        }
        let (epoch, sent) = (epoch.unwrap_or_default(), std::time::Instant::now());
        let encoded = Encoded::batch(batch.iter().map(|request| &request.encoded));
        let Ok(called) = timeout_at(deadline, self.call(shard, &encoded, epoch)).await else { return };
        let mut replies =
            called.map_err(StoreError::of_redis).and_then(|value| Replies::new(value).ok_or(StoreError::Reply));
        for request in batch {
            let reply = match &mut replies {
                Ok(replies) => replies.next(&request.encoded, epoch, sent),
                Err(error) => Err(again(error)),
            };
            // Who has given up needs no answer.
            let _ = request.answer.send(reply);
        }
    }

    async fn call(&self, shard: Shard, encoded: &[u8], epoch: u64) -> RedisResult<Value> {
        let called = self.connection.run(shard, &self.script.call(encoded, epoch)).await;
        match called {
            // Nothing has been charged, so this is no repetition.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.connection.run(shard, &self.script.call_in_full(encoded, epoch)).await
            }
            called => called,
        }
    }
}

impl Lane {
    /// The next batch, without those that nobody waits for.
    fn take(&mut self, now: Instant) -> Vec<Request> {
        let (mut batch, mut charges) = (Vec::new(), 0);
        while let Some(request) = self.waiting.front() {
            let wanted = request.is_wanted(now);
            if wanted && charges > 0 && charges + request.encoded.charges() > MAX_BATCH {
                break;
            }
            self.charges -= request.encoded.charges();
            charges += if wanted { request.encoded.charges() } else { 0 };
            batch.extend(self.waiting.pop_front().filter(|_| wanted));
        }
        batch
    }

    fn forget_those_given_up(&mut self) {
        let now = Instant::now();
        self.waiting.retain(|request| request.is_wanted(now));
        self.charges = self.waiting.iter().map(|request| request.encoded.charges()).sum();
    }
}

impl Request {
    fn is_wanted(&self, now: Instant) -> bool {
        !self.answer.is_closed() && now < self.deadline
    }
}

/// A call's error for one more of its requests.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Redis(error) => StoreError::Redis(error.clone()),
        StoreError::Learning => StoreError::Learning,
        _ => StoreError::Reply,
    }
}

//! Counters in Redis, shared by all replicas.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use ::redis::Value;
use tokio::time::timeout;

pub use self::connection::{Access, Connection, Connections, Gates, Kind, Secret, Shard, Startup, Tls, Url};
use self::{
    batch::Batches,
    encoded::Encoded,
    script::{Reply, Script},
};
pub(super) use self::{
    lease::{Answer, Charged, Counted, Question},
    script::Moment,
};
use super::{Charge, CounterStore, Outcome, StoreError};

mod batch;
mod connection;
pub mod doctor;
mod encoded;
mod lease;
mod script;
mod split;

/// Counts in scripts, so that each request is one step, at one moment of Redis' own clock. Requests that come together
/// share a call. Clones share everything.
#[derive(Clone)]
pub struct Redis {
    connection: Connection,
    batches: Batches,
    options: Arc<Options>,
}

/// How to use a Redis.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is.
    pub url: Url,
    /// Deadline of one request's charges; also how long a hung Redis holds a request up.
    pub timeout: Duration,
    /// Stands before every key.
    pub key_prefix: String,
    /// How one gets in.
    pub access: Access,
    /// Another Redis, where hits of windows of one second are counted.
    pub per_second: Option<Box<Options>>,
}

impl Options {
    /// Whether counters lie on more than one server.
    pub(super) fn is_in_parts(&self) -> bool {
        self.access.kind == Kind::Cluster || self.per_second.is_some()
    }

    /// The same with counters of its own, whose names begin with `name` behind the prefix.
    #[must_use]
    pub fn apart(&self, name: &str) -> Self {
        let second = self.per_second.as_ref().map(|second| Box::new(second.apart(name)));
        Self { key_prefix: format!("{}{name}", self.key_prefix), per_second: second, ..self.clone() }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Redis {
    /// Connects in the background, on the runtime it is called in; fails only when the URL is none.
    pub fn connect(options: Options) -> Result<Self, StoreError> {
        Self::open(options, None)
    }

    /// Charges only in the epoch that is told here, and not while it is zero.
    pub(super) fn connect_in(options: Options, epoch: Arc<AtomicU64>) -> Result<Self, StoreError> {
        Self::open(options, Some(epoch))
    }

    fn open(options: Options, epoch: Option<Arc<AtomicU64>>) -> Result<Self, StoreError> {
        let connection = Connection::open(&options)?;
        let batches = Batches::new(connection.clone(), Script::new(&options.key_prefix), epoch);
        Ok(Self { connection, batches, options: Arc::new(options) })
    }

    /// Waits until Redis answers a ping.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match timeout(self.options.timeout, self.connection.ping()).await {
            Ok(answer) => answer.map_err(StoreError::Redis),
            Err(_) => Err(StoreError::Timeout(self.options.timeout)),
        }
    }

    /// Runs a script on the key that is this hash tag and nothing else behind the prefix. Has no deadline.
    pub(super) async fn run_script(&self, source: &str, tag: &str, arguments: &[&str]) -> Result<Value, StoreError> {
        let mut script = redis::cmd("EVAL");
        script.arg(source).arg(1).arg(format!("{}{{{tag}}}", self.options.key_prefix)).arg(arguments);
        let shard = self.connection.shard(script::slot_of(tag.as_bytes()));
        self.connection.run(shard, &script).await.map_err(StoreError::Redis)
    }

    /// The way to the servers.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn shard_of(&self, charge: &Charge) -> Shard {
        let slot = script::slot(charge.key);
        if charge.window == 1 { self.connection.per_second_shard(slot) } else { self.connection.shard(slot) }
    }

    /// The shard of all charges if it is the same.
    fn only_shard(&self, charges: &[Charge]) -> Option<Shard> {
        let mut shards = charges.iter().map(|charge| self.shard_of(charge));
        let first = shards.next()?;
        shards.all(|shard| shard == first).then_some(first)
    }

    async fn charge_parts(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        match self.charge_split(charges).await {
            Err(error) if split::is_elsewhere(&error) => self.charge_one_by_one(charges).await,
            outcomes => outcomes,
        }
    }

    async fn send(&self, shard: Shard, charges: &[Charge]) -> Result<Reply, StoreError> {
        self.batches.send(shard, Encoded::new(charges)).await
    }
}

impl CounterStore for Redis {
    async fn charge(&self, charges: &[Charge]) -> Result<Vec<Outcome>, StoreError> {
        match self.only_shard(charges) {
            Some(shard) => match self.send(shard, charges).await {
                Err(error) if split::is_elsewhere(&error) => Box::pin(self.charge_one_by_one(charges)).await,
                reply => Ok(reply?.outcomes(charges)),
            },
            // What only clusters need would make each request's future larger.
            None => Box::pin(self.charge_parts(charges)).await,
        }
    }

    fn part(&self, charge: &Charge) -> usize {
        self.shard_of(charge).number()
    }
}

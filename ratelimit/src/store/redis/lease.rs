//! What replicas that lease say to Redis besides their charges.

use redis::{Cmd, ErrorKind, FromRedisValue, ServerErrorKind};
use tokio::time::timeout;

use super::{
    Redis,
    script::{FIELD_BYTES, Moment, bucket},
};
use crate::{
    key::Key,
    lease::{Epoch, Greeting, Millis, ReplicaId, Timing, Welcome},
    store::{Charge, StoreError},
};

const SOURCE: &str = concat!(
    include_str!("begin.lua"),
    include_str!("epoch.lua"),
    include_str!("fixed_window.lua"),
    include_str!("lease.lua"),
);

/// A counter, the length and number of its window, and hits.
pub(in crate::store) type Counted = (Key, u32, u64, u64);

/// A request's charges as they were counted.
#[derive(Debug)]
pub(in crate::store) struct Charged {
    pub(in crate::store) denied: bool,
    /// For each charge the count before any undo, and the seconds left.
    pub(in crate::store) counters: Vec<(u64, u32)>,
    pub(in crate::store) moment: Moment,
}

impl Redis {
    /// Charges that all lie on one server.
    pub(in crate::store) async fn charge_in_epoch(&self, charges: &[Charge]) -> Result<Charged, StoreError> {
        let shard = self.only_shard(charges).ok_or(StoreError::LeasesInCluster)?;
        let reply = self.send(shard, charges).await?;
        Ok(Charged { denied: reply.is_denied(), counters: reply.counters().collect(), moment: reply.moment })
    }

    /// Whether one script can reach all counters.
    pub(in crate::store) fn is_cluster(&self) -> bool {
        self.connection.is_cluster()
    }

    /// Says that the replica lives. The second is Redis' clock.
    pub(in crate::store) async fn greet(
        &self,
        greeting: &Greeting,
        timing: Timing,
    ) -> Result<(Welcome, Millis), StoreError> {
        let (epoch, open, now, members): (u64, u8, Millis, Vec<String>) = self
            .say("greet", greeting.replica, |command| {
                let asserted = greeting.asserted.map(|epoch| epoch.0.to_string()).unwrap_or_default();
                command.arg(asserted).arg(greeting.returned).arg(timing.membership).arg(timing.settle);
                for known in &greeting.knows {
                    command.arg(name(*known));
                }
            })
            .await?;
        let members = members.iter().filter_map(|id| u64::from_str_radix(id, 16).ok()).map(ReplicaId).collect();
        Ok((Welcome { epoch: Epoch(epoch), open: open == 1, members }, now))
    }

    /// Tells ledgers.
    pub(in crate::store) async fn assert(
        &self,
        replica: ReplicaId,
        epoch: Epoch,
        ledgers: &[Counted],
    ) -> Result<(), StoreError> {
        let _: u64 = self
            .say("assert", replica, |command| {
                command.arg(epoch.0).arg(packed(ledgers));
            })
            .await?;
        Ok(())
    }

    /// Gives back what was leased and not spent.
    pub(in crate::store) async fn take_back(
        &self,
        replica: ReplicaId,
        epoch: Epoch,
        sequence: u64,
        returns: &[Counted],
    ) -> Result<(), StoreError> {
        let arguments = |command: &mut Cmd| {
            command.arg(epoch.0).arg(sequence).arg(packed(returns));
        };
        let _: u64 = self.say("return", replica, arguments).await?;
        Ok(())
    }

    /// Sent once: each of these may be heard twice without harm, but never needs to be.
    async fn say<T: FromRedisValue>(
        &self,
        what: &str,
        replica: ReplicaId,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<T, StoreError> {
        let shard = self.connection.shard(0);
        let command = |eval: &str, script: &str| {
            let mut command = redis::cmd(eval);
            command.arg(script).arg(0).arg(&self.options.key_prefix).arg(what).arg(name(replica));
            arguments(&mut command);
            command
        };
        let script = redis::Script::new(SOURCE);
        let (by_hash, in_full) = (command("EVALSHA", script.get_hash()), command("EVAL", SOURCE));
        let called = async {
            match self.connection.run(shard, &by_hash).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    self.connection.run(shard, &in_full).await
                }
                called => called,
            }
        };
        let called = timeout(self.options.timeout, called).await;
        let value = called.map_err(|_| StoreError::Timeout(self.options.timeout))?.map_err(StoreError::of_redis)?;
        T::from_redis_value(value).map_err(|_| StoreError::Reply)
    }
}

fn name(replica: ReplicaId) -> String {
    format!("{:016x}", replica.0)
}

/// As the script reads them.
fn packed(counted: &[Counted]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, window, number, hits) in counted {
        bytes.extend(bucket(*key));
        bytes.extend(key.0.to_be_bytes().iter().skip(16 - FIELD_BYTES));
        bytes.extend(window.to_le_bytes());
        bytes.extend(number.to_le_bytes());
        bytes.extend(hits.to_le_bytes());
    }
    bytes
}

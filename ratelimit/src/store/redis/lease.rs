//! What replicas that lease say to Redis besides their charges.

use std::collections::HashMap;

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

/// A counter that somebody asks for, and the length of its window.
pub(in crate::store) type Question = (Key, u32);
const QUESTION_BYTES: usize = 20;

/// What a replica says of a counter.
#[derive(Debug)]
pub(in crate::store) struct Answer {
    /// Its number, as Redis knows it.
    pub(in crate::store) replica: String,
    /// What people call it.
    pub(in crate::store) name: String,
    /// Hits it has debited and not used.
    pub(in crate::store) hits: u64,
}

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
        Ok(Charged { denied: reply.is_denied(), counters: reply.counters(charges).collect(), moment: reply.moment })
    }

    /// Whether one script can reach all counters.
    pub(in crate::store) fn is_cluster(&self) -> bool {
        self.connection.is_cluster()
    }

    /// Says that the replica lives. The second is what somebody asks.
    pub(in crate::store) async fn greet(
        &self,
        greeting: &Greeting,
        timing: Timing,
    ) -> Result<(Welcome, Vec<Question>), StoreError> {
        type Said = (u64, u8, Millis, Vec<String>, Vec<Vec<u8>>);
        let (epoch, open, _, members, questions): Said = self
            .say("greet", greeting.replica, |command| {
                let asserted = greeting.asserted.map(|epoch| epoch.0.to_string()).unwrap_or_default();
                command.arg(asserted).arg(greeting.returned).arg(timing.membership).arg(timing.settle);
                for known in &greeting.knows {
                    command.arg(name(*known));
                }
            })
            .await?;
        let members = members.iter().filter_map(|id| u64::from_str_radix(id, 16).ok()).map(ReplicaId).collect();
        let questions = questions.iter().filter_map(|bytes| read_question(bytes)).collect();
        Ok((Welcome { epoch: Epoch(epoch), open: open == 1, members }, questions))
    }

    /// Asks all replicas what they hold, if this is the beginning. Returns the names of the other members and, for each question, who has answered so far.
    pub(in crate::store) async fn ask(
        &self,
        replica: ReplicaId,
        questions: &[Question],
        begin: bool,
    ) -> Result<(Vec<String>, Vec<Vec<Answer>>), StoreError> {
        type Said = (Vec<String>, Vec<HashMap<String, String>>);
        let arguments = |command: &mut Cmd| {
            command.arg(u8::from(begin));
            for question in questions {
                command.arg(&write_question(*question)[..]);
            }
        };
        let (mut members, said): Said = self.say("ask", replica, arguments).await?;
        members.retain(|member| *member != name(replica));
        let answer = |(replica, text): (String, String)| {
            let (hits, name) = text.split_once(' ')?;
            Some(Answer { replica, name: name.to_owned(), hits: hits.parse().ok()? })
        };
        Ok((members, said.into_iter().map(|said| said.into_iter().filter_map(answer).collect()).collect()))
    }

    /// Answers so many hits to each question.
    pub(in crate::store) async fn answer(
        &self,
        replica: ReplicaId,
        called: &str,
        held: &[(Question, u64)],
    ) -> Result<(), StoreError> {
        let arguments = |command: &mut Cmd| {
            for (question, hits) in held {
                command.arg(&write_question(*question)[..]).arg(format!("{hits} {called}"));
            }
        };
        let _: u64 = self.say("answer", replica, arguments).await?;
        Ok(())
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

fn write_question((key, window): Question) -> Vec<u8> {
    [&key.0.to_be_bytes()[..], &window.to_le_bytes()].concat()
}

fn read_question(bytes: &[u8]) -> Option<Question> {
    let bytes: &[u8; QUESTION_BYTES] = bytes.try_into().ok()?;
    let (key, window) = (bytes.first_chunk()?, bytes.last_chunk()?);
    Some((Key(u128::from_be_bytes(*key)), u32::from_le_bytes(*window)))
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

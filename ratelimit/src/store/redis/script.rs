//! The script that charges a batch: how it is called, and what goes into it and comes back.

use std::time::Instant;

use bytes::Bytes;
use redis::{Cmd, ErrorKind, RedisError, Value};

use super::encoded::Encoded;
use crate::{
    key::Key,
    store::{Charge, Outcome, StoreError},
};

/// All of it in the order in which the parts need each other. What most batches do without is only set up when it is needed.
const SOURCE: &str = concat!(
    include_str!("begin.lua"),
    "if ARGV[3] then\n",
    include_str!("epoch.lua"),
    include_str!("fence.lua"),
    "end\n",
    include_str!("fixed_window.lua"),
    include_str!("batch.lua"),
    include_str!("plain.lua"),
    "local function load_any()\n",
    include_str!("sliding_window.lua"),
    include_str!("concurrency.lua"),
    include_str!("gcra.lua"),
    include_str!("any.lua"),
    "return any\nend\n",
    include_str!("charge.lua"),
);

/// Bits of a key that choose its bucket. At two million counters in a window the hash of a bucket still has fewer fields
/// than Redis packs by default (`hash-max-listpack-entries`, 128).
const BUCKET_BITS: u32 = 14;
/// Low bytes of a key that tell a counter from others of its bucket. Two bits of the key are in neither.
pub(super) const FIELD_BYTES: usize = 14;
/// A number as the script writes it.
const NUMBER_BYTES: usize = 8;
/// In place of a verdict: the request failed.
const FAILED: u64 = 2;

/// The script, and what stands before every key.
#[derive(Clone, Debug)]
pub(super) struct Script {
    hash: String,
    prefix: String,
}

/// What a batch's call returned.
#[derive(Debug)]
pub(super) struct Replies {
    numbers: Bytes,
    failure: Option<RedisError>,
    now: u64,
}

/// The part of a call's reply that is about one request: the verdict, and for each charge the count and, but for a plain
/// request, the seconds left.
#[derive(Debug)]
pub(super) struct Reply {
    numbers: Bytes,
    is_plain: bool,
    pub(super) moment: Moment,
}

/// When a batch was charged.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Moment {
    /// The epoch it was made in; zero without leases.
    pub(in crate::store) epoch: u64,
    /// Before it was sent.
    pub(in crate::store) sent: Instant,
    /// Milliseconds since the Unix epoch on Redis' clock.
    pub(in crate::store) now: u64,
}

impl Script {
    pub(super) fn new(prefix: &str) -> Self {
        Self { hash: redis::Script::new(SOURCE).get_hash().to_owned(), prefix: prefix.to_owned() }
    }

    /// Calls the script that the server has.
    pub(super) fn call(&self, batch: &[u8], epoch: u64) -> Cmd {
        self.command("EVALSHA", &self.hash, &[], batch, epoch)
    }

    /// Calls it where this key's slot is, or where it is going if the slot's owner does not have the key. The key itself is
    /// never there.
    pub(super) fn call_at(&self, key: Key, batch: &[u8]) -> Cmd {
        let name = [self.prefix.as_bytes(), b"{", &bucket(key), b"}"].concat();
        self.command("EVAL", SOURCE, &[name], batch, 0)
    }

    /// Brings the script along; the server keeps it.
    pub(super) fn call_in_full(&self, batch: &[u8], epoch: u64) -> Cmd {
        self.command("EVAL", SOURCE, &[], batch, epoch)
    }

    /// A batch names no keys: it holds them, and in a cluster they lie in different slots of one node.
    fn command(&self, name: &str, script: &str, keys: &[Vec<u8>], batch: &[u8], epoch: u64) -> Cmd {
        let mut command = Cmd::with_capacity(5, script.len() + self.prefix.len() + batch.len() + 64);
        command.arg(name).arg(script).arg(keys.len()).arg(keys).arg(&self.prefix).arg(batch);
        if epoch > 0 {
            command.arg(epoch);
        }
        command
    }
}

/// The bucket's text, which is also the hash tag.
pub(super) fn bucket(key: Key) -> [u8; 4] {
    let bucket = key.0 >> (u128::BITS - BUCKET_BITS);
    [12, 8, 4, 0].map(|shift| b"0123456789abcdef"[(bucket >> shift & 0xf) as usize])
}

/// The cluster slot that a counter lies in.
pub(super) fn slot(key: Key) -> u16 {
    slot_of(&bucket(key))
}

/// The cluster slot of the keys with this hash tag.
pub(super) fn slot_of(tag: &[u8]) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(tag) % 16384
}

impl Replies {
    pub(super) fn new(value: Value) -> Option<Self> {
        let Value::Array(values) = value else { return None };
        let mut values = values.into_iter();
        let Value::BulkString(numbers) = values.next()? else { return None };
        let failure = match values.next() {
            Some(Value::BulkString(text)) => Some(failure(&text)),
            _ => None,
        };
        let Some(Value::Int(now)) = values.next() else { return None };
        Some(Self { numbers: numbers.into(), failure, now: now.try_into().unwrap_or_default() })
    }

    /// The reply to the next request.
    pub(super) fn next(&mut self, request: &Encoded, epoch: u64, sent: Instant) -> Result<Reply, StoreError> {
        let failed = number(&self.numbers, 0).ok_or(StoreError::Reply)? == FAILED;
        let is_plain = request.is_plain();
        let numbers = if failed { 1 } else { 1 + request.charges() * numbers(is_plain) };
        if self.numbers.len() < numbers * NUMBER_BYTES {
            return Err(StoreError::Reply);
        }
        let reply = self.numbers.split_to(numbers * NUMBER_BYTES);
        match &self.failure {
            Some(failure) if failed => Err(StoreError::Redis(failure.clone())),
            None if failed => Err(StoreError::Reply),
            _ => Ok(Reply { numbers: reply, is_plain, moment: Moment { epoch, sent, now: self.now } }),
        }
    }
}

fn failure(text: &[u8]) -> RedisError {
    let text = String::from_utf8_lossy(text).into_owned();
    RedisError::from((ErrorKind::Extension, "the script could not charge this request", text))
}

impl Reply {
    /// Whether the charges deny the request.
    pub(super) fn is_denied(&self) -> bool {
        number(&self.numbers, 0) == Some(1)
    }

    /// The count after each of the request's charges, before any undo, and the seconds until its counter is empty.
    pub(super) fn counters(&self, charges: &[Charge]) -> impl Iterator<Item = (u64, u32)> {
        charges.iter().enumerate().filter_map(|(position, charge)| {
            let at = 1 + position * numbers(self.is_plain);
            let left = if self.is_plain { self.moment.left(charge.window) } else { number(&self.numbers, at + 1)? };
            Some((number(&self.numbers, at)?, u32::try_from(left).unwrap_or(u32::MAX)))
        })
    }

    /// The outcomes of the request's charges.
    pub(super) fn outcomes(&self, charges: &[Charge]) -> Vec<Outcome> {
        let denied = self.is_denied();
        let counted = charges.iter().zip(self.counters(charges));
        counted.map(|(charge, (count, seconds_left))| charge.outcome(count, denied, seconds_left)).collect()
    }
}

impl Moment {
    /// Seconds until the fixed window ends.
    fn left(&self, window: u32) -> u64 {
        let window = u64::from(window.max(1));
        window - self.now / 1000 % window
    }
}

/// What the script tells about a charge.
fn numbers(is_plain: bool) -> usize {
    if is_plain { 1 } else { 2 }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at * NUMBER_BYTES..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

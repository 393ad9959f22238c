//! The scripts keep the same rules as `lease::Authority`.

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use ratelimit::{
    key::Key,
    lease::{Authority, Epoch, Greeting, ReplicaId, Timing, window_number},
};
use redis::{Connection, RedisResult, Value, cmd};

use super::{HOUR, strict};
use crate::redis_server::RedisServer;

const BEGIN: &str = include_str!("../../../src/store/redis/begin.lua");
const EPOCH: &str = include_str!("../../../src/store/redis/epoch.lua");
const FENCE: &str = include_str!("../../../src/store/redis/fence.lua");
const FIXED_WINDOW: &str = include_str!("../../../src/store/redis/fixed_window.lua");
const LEASE: &str = include_str!("../../../src/store/redis/lease.lua");

/// Nobody lapses while the test runs, and nobody has to wait.
const TIMING: Timing = Timing { membership: 1_000_000, settle: 0 };

#[derive(Clone, Debug)]
enum Step {
    Greet { replica: u64, asserts: bool, knows: bool },
    Assert { replica: u64, ledger: u64, late: bool, ended: bool },
    Charge { hits: i64, late: bool },
    Return { replica: u64, hits: u64, again: bool, late: bool },
    TakeOver,
    Lose,
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let late = || prop::bool::weighted(0.1);
    let greet = || (0..3_u64, prop::bool::weighted(0.8), any::<bool>());
    vec(
        prop_oneof![
            6 => greet().prop_map(|(replica, asserts, knows)| Step::Greet { replica, asserts, knows }),
            4 => (0..3_u64, 0..9_u64, late(), late())
                .prop_map(|(replica, ledger, late, ended)| Step::Assert { replica, ledger, late, ended }),
            6 => (1..9_i64, late()).prop_map(|(hits, late)| Step::Charge { hits, late }),
            3 => (0..3_u64, 1..4_u64, late(), late())
                .prop_map(|(replica, hits, again, late)| Step::Return { replica, hits, again, late }),
            1 => Just(Step::TakeOver),
            1 => Just(Step::Lose),
            1 => Just(Step::Flush),
        ],
        1..40,
    )
}

/// Both, side by side.
struct Pair {
    redis: Connection,
    rust: Authority,
    key: Key,
    runs: u64,
    /// Redis' names for epochs, and ours.
    epoch: (u64, Epoch),
    returned: u64,
    counts_before: u64,
    now: u64,
}

impl Pair {
    fn say(&mut self, arguments: &[&[u8]]) -> RedisResult<Value> {
        let script = [BEGIN, EPOCH, FIXED_WINDOW, LEASE].concat();
        let mut command = cmd("EVAL");
        command.arg(script).arg(0).arg("p:");
        for argument in arguments {
            command.arg(*argument);
        }
        command.query(&mut self.redis)
    }

    /// Redis' clock; ours goes on by one with each step, so that epochs differ.
    fn time(&mut self) -> u64 {
        let (seconds, _): (u64, u64) = cmd("TIME").query(&mut self.redis).unwrap();
        self.now = self.now.max(seconds * 1000) + 1;
        self.now
    }

    fn counter(&self, ended: bool, number: u64, hits: u64) -> Vec<u8> {
        let bits = self.key_bits();
        let bucket = format!("{:04x}", bits >> 114);
        let number = if ended { number - 1 } else { number };
        [bucket.as_bytes(), &bits.to_be_bytes()[2..], &HOUR.to_le_bytes(), &number.to_le_bytes(), &hits.to_le_bytes()]
            .concat()
    }

    fn key_bits(&self) -> u128 {
        u128::from_str_radix(&self.key.to_string(), 16).unwrap()
    }

    /// The counter's hash and field in Redis.
    fn place(&self, number: u64) -> (String, Vec<u8>) {
        let bits = self.key_bits();
        (format!("p:{{{:04x}}}v2:{HOUR}:{number}", bits >> 114), bits.to_be_bytes()[2..].to_vec())
    }

    fn step(&mut self, step: &Step) {
        let now = self.time();
        let number = window_number(now, HOUR);
        let (theirs, ours) = self.epoch;
        let named = |replica: u64| format!("{replica:016x}");
        match *step {
            Step::Greet { replica, asserts, knows } => {
                let asserted = if asserts { theirs.to_string() } else { String::new() };
                let known = if knows { vec![named(0), named(1)] } else { vec![] };
                let (returned, membership) = (self.returned.to_string(), TIMING.membership.to_string());
                let replica_name = named(replica);
                let mut arguments: Vec<&[u8]> = vec![b"greet", replica_name.as_bytes(), asserted.as_bytes()];
                arguments.extend([returned.as_bytes(), membership.as_bytes(), b"0"]);
                arguments.extend(known.iter().map(String::as_bytes));
                let welcome = self.say(&arguments).unwrap();
                let (epoch, open, _, mut members, _): (u64, u8, u64, Vec<String>, Vec<String>) =
                    redis::from_redis_value(welcome).unwrap();
                members.sort();
                let greeting = Greeting {
                    replica: ReplicaId(replica),
                    asserted: asserts.then_some(ours),
                    returned: self.returned,
                    knows: if knows { vec![ReplicaId(0), ReplicaId(1)] } else { vec![] },
                };
                let welcome = self.rust.greet(now, &greeting);
                assert_eq!(welcome.open, open == 1);
                assert_eq!(welcome.members.iter().map(|id| named(id.0)).collect::<Vec<_>>(), members);
                assert_eq!(welcome.epoch == ours, epoch == theirs, "a new epoch for both");
                self.epoch = (epoch, welcome.epoch);
            }
            Step::Assert { replica, ledger, late, ended } => {
                let epoch = if late { 1 } else { theirs };
                let (replica_name, epoch_name) = (named(replica), epoch.to_string());
                let counter = self.counter(ended, number, ledger);
                let said = self.say(&[b"assert", replica_name.as_bytes(), epoch_name.as_bytes(), &counter]);
                let told = if ended { number - 1 } else { number };
                let epoch = if late { Epoch(1) } else { ours };
                let asserted = self.rust.assert(now, ReplicaId(replica), epoch, &[(self.key, HOUR, told, ledger)]);
                assert_eq!(asserted.is_ok(), said.is_ok());
            }
            Step::Charge { hits, late } => {
                let epoch = if late { 1 } else { theirs };
                let script = [BEGIN, EPOCH, FENCE, "return 1"].concat();
                let admitted: RedisResult<u8> =
                    cmd("EVAL").arg(script).arg(0).arg("p:").arg("").arg(epoch).query(&mut self.redis);
                if admitted.is_ok() {
                    let (name, field) = self.place(number);
                    cmd("HINCRBY").arg(name).arg(field).arg(hits).exec(&mut self.redis).unwrap();
                }
                let charge = ratelimit::store::Charge { hits, ..strict("differential", u32::MAX) };
                let charged = self.rust.charge(now, if late { Epoch(1) } else { ours }, &[charge]);
                assert_eq!(charged.is_ok(), admitted.is_ok());
            }
            Step::Return { replica, hits, again, late } => {
                self.returned += u64::from(!again);
                let (replica_name, epoch) = (named(replica), if late { 1 } else { theirs }.to_string());
                let (sequence, counter) = (self.returned.to_string(), self.counter(false, number, hits));
                let arguments =
                    [&b"return"[..], replica_name.as_bytes(), epoch.as_bytes(), sequence.as_bytes(), &counter];
                let said = self.say(&arguments);
                let epoch = if late { Epoch(1) } else { ours };
                let returns = [(self.key, HOUR, number, hits)];
                let taken = self.rust.take_back(now, ReplicaId(replica), epoch, self.returned, &returns);
                assert_eq!(taken.is_ok(), said.is_ok());
            }
            Step::TakeOver => self.take_over(),
            Step::Lose => {
                let (name, field) = self.place(number);
                cmd("HSET").arg(name).arg(field).arg(self.counts_before).exec(&mut self.redis).unwrap();
                self.rust.lose(now, self.key, HOUR, self.counts_before);
                self.take_over();
            }
            Step::Flush => {
                cmd("FLUSHALL").exec(&mut self.redis).unwrap();
                self.runs += 1;
                self.rust = Authority::new(TIMING, self.runs);
            }
        }
        let (name, field) = self.place(number);
        let count: Option<u64> = cmd("HGET").arg(name).arg(field).query(&mut self.redis).unwrap();
        assert_eq!(self.rust.count(now, self.key, HOUR), count.unwrap_or_default(), "after {step:?}");
        self.counts_before = count.unwrap_or_default() / 2;
    }

    /// Gives Redis another replication id, and leaves its data.
    fn take_over(&mut self) {
        cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec(&mut self.redis).unwrap();
        cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut self.redis).unwrap();
        self.runs += 1;
        self.rust.take_over(self.runs);
    }
}

#[test]
fn scripts_and_model_keep_the_same_rules() {
    let server = RedisServer::start();
    let client = redis::Client::open(server.url()).unwrap();
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner =
        TestRunner::new_with_rng(Config { cases: 150, failure_persistence: None, ..Config::default() }, rng);
    let run = |steps: Vec<Step>| {
        let mut redis = client.get_connection().unwrap();
        cmd("FLUSHALL").exec(&mut redis).unwrap();
        let mut pair = Pair {
            redis,
            rust: Authority::new(TIMING, 0),
            key: strict("differential", 1).key,
            runs: 0,
            epoch: (0, Epoch(0)),
            returned: 0,
            counts_before: 0,
            now: 0,
        };
        for step in &steps {
            pair.step(step);
        }
        Ok(())
    };
    runner.run(&steps(), run).unwrap();
}

//! Every order in which replicas, messages and faults can interleave, on the protocol that the program runs.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use self::world::{Setup, Without, World};

mod world;

/// What a search found.
#[derive(Debug)]
struct Found {
    states: usize,
    /// Most hits admitted above what the setup allows.
    excess: Option<u64>,
}

/// Visits all states that can be reached, or stops at the first that breaks a promise.
fn search(setup: Setup) -> Found {
    // 128 bits stand for a state; two that collide are as likely as a broken machine.
    let (first, second) = (RandomState::new(), RandomState::new());
    let name = |world: &World| (first.hash_one(world), second.hash_one(world));
    let start = World::new(&setup);
    let mut seen = HashSet::from([name(&start)]);
    let mut next = vec![start];
    while let Some(world) = next.pop() {
        if let Some(excess) = world.excess(&setup) {
            return Found { states: seen.len(), excess: Some(excess) };
        }
        assert!(seen.len() < setup.max_states(), "more states than a test has time for");
        next.extend(world.successors(&setup).into_iter().filter(|after| seen.insert(name(after))));
    }
    Found { states: seen.len(), excess: None }
}

fn holds(setup: Setup) {
    let found = search(setup);
    println!("{} states of {setup:?}", found.states);
    assert_eq!(found.excess, None, "more admitted, found after {} states", found.states);
    assert!(found.states > 500, "only {} states: the model does not move", found.states);
}

fn breaks(setup: Setup) {
    let found = search(setup);
    println!("{} states of {setup:?}", found.states);
    assert!(found.excess.is_some(), "nothing wrong in {} states", found.states);
}

const FAILOVER: Setup = Setup { failovers: 1, limit: 2, returns: 0, ..Setup::CALM };

#[test]
fn nothing_is_admitted_above_the_limit_whatever_is_lost() {
    holds(Setup { limit: 4, crashes: 1, ..Setup::CALM });
}

#[test]
fn a_failover_that_all_replicas_survive_admits_nothing_more() {
    holds(FAILOVER);
}

#[test]
fn a_restart_without_counts_admits_nothing_more() {
    holds(Setup { failovers: 0, restarts: 1, ..FAILOVER });
}

#[test]
fn a_crash_with_a_failover_admits_at_most_what_the_crashed_replica_had_debited() {
    holds(Setup { failovers: 0, restarts: 1, limit: 1, crashes: 1, ..FAILOVER });
}

#[test]
fn what_is_admitted_alone_adds_no_more_than_was_debited_above_the_parts() {
    holds(Setup { restarts: 1, failovers: 0, alone: 1, ..FAILOVER });
}

#[test]
fn leases_end_with_their_window() {
    holds(Setup { replicas: 1, limit: 3, ..Setup::ROLLING });
}

#[test]
#[ignore = "as large as all others together"]
fn a_member_that_is_heard_in_time_is_waited_for() {
    holds(Setup { limit: 1, returns: 0, ticks: 1, restarts: 1, ..Setup::TIMED });
}

#[test]
fn without_re_assertion_a_failover_admits_more() {
    breaks(Setup { without: Without::Assertion, ..FAILOVER });
}

#[test]
fn without_learning_a_failover_admits_more() {
    breaks(Setup { without: Without::Learning, ..FAILOVER });
}

#[test]
fn without_the_fence_a_late_reply_admits_more() {
    breaks(Setup { without: Without::Fence, in_flight: 2, ..FAILOVER });
}

#[test]
fn without_shrinking_a_crash_strands_more() {
    breaks(Setup { without: Without::Shrinking, ..Setup::CALM });
}

#[test]
fn without_debit_before_use_more_is_admitted() {
    breaks(Setup { without: Without::Debit, ..Setup::CALM });
}

#[test]
fn without_numbers_a_duplicate_return_admits_more() {
    breaks(Setup { without: Without::Sequence, ..Setup::CALM });
}

#[test]
fn without_memory_of_what_was_admitted_alone_more_is_admitted() {
    breaks(Setup { without: Without::Memory, restarts: 1, failovers: 0, alone: 1, ..FAILOVER });
}

#[test]
fn without_the_seal_what_is_admitted_after_the_ledger_was_told_is_more() {
    breaks(Setup { without: Without::Seal, restarts: 1, failovers: 0, alone: 1, ..FAILOVER });
}

#[test]
fn without_the_send_instant_a_slow_reply_admits_more_in_the_next_window() {
    breaks(Setup { without: Without::SendInstant, replicas: 1, limit: 3, ..Setup::ROLLING });
}

/// Larger spaces, some minutes in all: `cargo test --release -p ratelimit --test suite lease_model -- --ignored`
#[test]
#[ignore = "takes minutes"]
fn larger_spaces_hold_too() {
    holds(Setup { exhaustive: true, ticks: 2, returns: 0, ..Setup::ROLLING });
    holds(Setup { exhaustive: true, limit: 2, crashes: 1, ..FAILOVER });
    holds(Setup { exhaustive: true, limit: 6, crashes: 1, replicas: 3, ..Setup::CALM });
    holds(Setup { exhaustive: true, limit: 6, ..FAILOVER });
    holds(Setup { exhaustive: true, limit: 3, replicas: 3, ..FAILOVER });
    holds(Setup { exhaustive: true, limit: 4, crashes: 1, ..FAILOVER });
    holds(Setup { exhaustive: true, limit: 3, restarts: 1, crashes: 1, ..Setup::TIMED });
    holds(Setup { exhaustive: true, limit: 4, restarts: 1, failovers: 0, alone: 3, ..FAILOVER });
    holds(Setup { exhaustive: true, limit: 2, alone: 2, ..FAILOVER });
    holds(Setup { exhaustive: true, limit: 2, restarts: 1, failovers: 0, alone: 2, crashes: 1, ..FAILOVER });
}

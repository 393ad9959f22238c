//! Keeps refused credentials from being sent again and again.

use std::{fmt, time::Duration};

use parking_lot::Mutex;
use redis::{ErrorKind, RedisError};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Pause after the first refusal; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two logins that are refused.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Until a login has been accepted, they come one at a time; after one was refused, none comes before a pause is over.
#[derive(Default)]
pub(super) struct Gate {
    door: Mutex<Door>,
    moved: Notify,
}

struct Door {
    state: State,
    /// Since the last login that was accepted.
    refusals: u32,
    reason: Option<RedisError>,
}

#[derive(Clone, Copy)]
enum State {
    Open,
    Busy,
    ShutUntil(Instant),
}

impl Default for Door {
    fn default() -> Self {
        Self { state: State::ShutUntil(Instant::now()), refusals: 0, reason: None }
    }
}

/// No login now: why, and when to ask again.
pub(super) struct Shut {
    pub(super) reason: RedisError,
    pub(super) until: Instant,
}

/// Leave to log in once.
pub(super) struct Pass<'g> {
    gate: &'g Gate,
    holds_door: bool,
}

impl Gate {
    /// Waits for its turn while nothing is known about the credentials; fails at once when they were refused lately.
    pub(super) async fn enter(&self) -> Result<Pass<'_>, Shut> {
        loop {
            let moved = self.moved.notified();
            let (until, reason) = {
                let mut door = self.door.lock();
                match door.state {
                    State::Open => return Ok(Pass { gate: self, holds_door: false }),
                    State::ShutUntil(until) if until <= Instant::now() => {
                        door.state = State::Busy;
                        return Ok(Pass { gate: self, holds_door: true });
                    }
                    State::ShutUntil(until) => (until, door.reason.clone()),
                    State::Busy => (Instant::now() + FIRST_PAUSE, door.reason.clone()),
                }
            };
            match reason {
                Some(reason) => return Err(Shut { reason, until }),
                None => drop(timeout_at(until, moved).await),
            }
        }
    }

    fn set(&self, change: impl FnOnce(&mut Door)) {
        change(&mut self.door.lock());
        self.moved.notify_waiters();
    }
}

impl Pass<'_> {
    /// The credentials are good.
    pub(super) fn accepted(mut self) {
        if self.holds_door {
            self.holds_door = false;
            self.gate.set(|door| *door = Door { state: State::Open, refusals: 0, reason: None });
        }
    }

    /// Looks whether `error` speaks about the credentials; if so, tells when the next login may be.
    pub(super) fn failed(mut self, error: &RedisError) -> Option<Instant> {
        if !is_refusal(error) {
            return None;
        }
        self.holds_door = false;
        let mut until = Instant::now();
        self.gate.set(|door| {
            until += FIRST_PAUSE.saturating_mul(1 << door.refusals.min(5)).min(LONGEST_PAUSE);
            let refusals = door.refusals.saturating_add(1);
            *door = Door { state: State::ShutUntil(until), refusals, reason: Some(error.clone()) };
        });
        Some(until)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.holds_door {
            self.gate.set(|door| door.state = State::ShutUntil(Instant::now()));
        }
    }
}

/// Whether the server refused the credentials, or wants some.
fn is_refusal(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("WRONGPASS" | "NOAUTH"))
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn wrong() -> RedisError {
        RedisError::from((ErrorKind::AuthenticationFailed, "no"))
    }

    #[tokio::test(start_paused = true)]
    async fn refused_logins_pause_longer_each_time() {
        let gate = Gate::default();
        let mut pauses = vec![];
        for _ in 0..7 {
            let until = gate.enter().await.ok().unwrap().failed(&wrong()).unwrap();
            assert!(gate.enter().await.is_err_and(|shut| shut.until == until));
            pauses.push((until - Instant::now()).as_secs());
            tokio::time::sleep_until(until).await;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        gate.enter().await.ok().unwrap().accepted();
        let first = gate.enter().await.ok().unwrap();
        gate.enter().await.ok().unwrap().accepted();
        assert_eq!(first.failed(&wrong()).unwrap() - Instant::now(), FIRST_PAUSE, "rotated");
    }

    #[tokio::test(start_paused = true)]
    async fn unproven_credentials_are_tried_one_login_at_a_time() {
        let gate = Gate::default();
        let first = gate.enter().await.ok().unwrap();
        let second = tokio::time::timeout(FIRST_PAUSE / 2, gate.enter()).await;
        assert!(second.is_err(), "it waits for the first");
        drop(first);
        gate.enter().await.ok().unwrap().accepted();
        let _many = (gate.enter().await.ok().unwrap(), gate.enter().await.ok().unwrap());
    }
}

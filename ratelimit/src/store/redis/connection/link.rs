//! Keeps one server connected.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, Gauge, counter, gauge};
use redis::{Cmd, ConnectionAddr, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    cluster::host,
    login::{Login, Refused},
    options::Startup,
    wire::{Role, Wire},
};

/// How often a connection is looked at: does it live, is the server still a primary?
const LOOK: Duration = Duration::from_millis(250);
/// A look without an answer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// So many looks without an answer are a lost connection.
const MUTE_LOOKS: u32 = 3;
/// Pause after the first attempt to reconnect that failed; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between attempts to reconnect.
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// One server, and the connections to it. Those who send wait while it connects, and get the reason at once while it
/// cannot.
pub(super) struct Link {
    aim: watch::Sender<Option<ConnectionAddr>>,
    state: watch::Sender<State>,
    /// Told when the server was lost, cannot be reached, or is no primary: who is, should be asked again.
    astray: Arc<watch::Sender<()>>,
    opened: AtomicU64,
    pool: PoolMetrics,
}

#[derive(Clone)]
enum State {
    Connecting,
    /// With a number that tells it from connections before.
    Up(u64, Wire),
    Down(RedisError),
}

/// Upstream's names for what a pool does.
struct PoolMetrics {
    active: Gauge,
    total: Counter,
    closed: Counter,
}

impl Link {
    /// To nowhere, until [`Link::aim`].
    pub(super) fn new(pool: &'static str, astray: Arc<watch::Sender<()>>) -> Self {
        let pool = PoolMetrics {
            active: gauge!(format!("ratelimit_{pool}_cx_active")),
            total: counter!(format!("ratelimit_{pool}_cx_total")),
            closed: counter!(format!("ratelimit_{pool}_cx_local_close")),
        };
        Self {
            aim: watch::Sender::new(None),
            state: watch::Sender::new(State::Connecting),
            astray,
            opened: AtomicU64::default(),
            pool,
        }
    }

    /// Leaves the server that it is connected to if that is another one.
    pub(super) fn aim(&self, address: Option<ConnectionAddr>) {
        self.aim.send_if_modified(|aim| {
            let changes = *aim != address;
            *aim = address;
            changes
        });
    }

    /// Tells those who wait why there is nothing to connect to.
    pub(super) fn fail(&self, error: RedisError) {
        self.state.send_if_modified(|state| {
            let waits = !matches!(state, State::Up(..));
            if waits {
                *state = State::Down(error);
            }
            waits
        });
    }

    /// The host that it leads to, if that is no socket.
    pub(super) fn host(&self) -> Option<String> {
        self.aim.borrow().as_ref().and_then(host).map(str::to_owned)
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up(..))
    }

    pub(super) fn open_connections(&self) -> usize {
        match &*self.state.borrow() {
            State::Up(_, wire) => wire.open_connections(),
            _ => 0,
        }
    }

    pub(super) async fn send(&self, command: &Cmd, asking: bool) -> RedisResult<Value> {
        let (number, wire) = self.wire().await?;
        let reply = if asking { wire.send_asking(command).await } else { wire.send(command).await };
        let reply = reply.and_then(Value::extract_error);
        if reply.as_ref().is_err_and(loses) {
            self.lose(number);
        }
        reply
    }

    async fn wire(&self) -> RedisResult<(u64, Wire)> {
        let mut state = self.state.subscribe();
        loop {
            match &*state.borrow_and_update() {
                State::Up(number, wire) => return Ok((*number, wire.clone())),
                State::Down(error) => return Err(error.clone()),
                State::Connecting => {}
            }
            // The sender is ours, so this cannot fail.
            let _ = state.changed().await;
        }
    }

    /// Drops these connections; what is on its way still gets its reply.
    fn lose(&self, number: u64) {
        let changed = self.state.send_if_modified(|state| {
            let same = matches!(state, State::Up(current, _) if *current == number);
            if same {
                *state = State::Connecting;
            }
            same
        });
        if changed {
            self.pool.active.decrement(1.0);
            self.pool.closed.increment(1);
            self.astray.send_replace(());
        }
    }

    /// Connects and reconnects until dropped. `primary` says that the server must be one.
    pub(super) async fn keep(self: Arc<Self>, login: Login, startup: Startup, primary: bool) {
        let mut aim = self.aim.subscribe();
        let (mut pause, mut longest) = (startup.initial, startup.max);
        loop {
            let Some(address) = aim.borrow_and_update().clone() else {
                if aim.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let attempt = tokio::select! {
                attempt = login.connect(&address) => attempt,
                _ = aim.changed() => continue,
            };
            match attempt.and_then(|(wire, role)| may_charge(wire, role, primary)) {
                Ok(wire) => {
                    let opened = Instant::now();
                    let number = self.up(wire.clone());
                    tokio::select! {
                        () = self.watch(number, &wire, primary) => {}
                        _ = aim.changed() => {}
                    }
                    self.lose(number);
                    (pause, longest) = (FIRST_PAUSE, LONGEST_PAUSE);
                    // A server that accepts and then refuses is not to be asked without end.
                    sleep_until(opened + FIRST_PAUSE).await;
                }
                Err(Refused { error, retry_at }) => {
                    tracing::warn!(%error, "cannot connect to Redis");
                    self.state.send_replace(State::Down(error));
                    self.astray.send_replace(());
                    tokio::select! {
                        () = sleep_until(retry_at.unwrap_or_else(|| Instant::now() + pause)) => {}
                        _ = aim.changed() => {}
                    }
                    pause = (pause * 2).min(longest);
                }
            }
        }
    }

    fn up(&self, wire: Wire) -> u64 {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        self.pool.active.increment(1.0);
        self.pool.total.increment(1);
        self.state.send_replace(State::Up(number, wire));
        number
    }

    /// Until these connections are lost, mute, or lead to a replica.
    async fn watch(&self, number: u64, wire: &Wire, primary: bool) {
        let mut state = self.state.subscribe();
        let mut mute = 0;
        loop {
            let lost = state.wait_for(|state| !matches!(state, State::Up(current, _) if *current == number));
            tokio::select! {
                _ = lost => return,
                () = sleep(LOOK) => {}
            }
            match timeout(LOOK_TIMEOUT, wire.role()).await {
                Ok(Ok(Role::Replica)) if primary => return,
                Ok(Err(error)) if loses(&error) => return,
                Ok(_) => mute = 0,
                Err(_) => mute += 1,
            }
            if mute == MUTE_LOOKS {
                return;
            }
        }
    }
}

fn may_charge(wire: Wire, role: Role, primary: bool) -> Result<Wire, Refused> {
    match role {
        Role::Replica if primary => {
            let why = "the server is a replica, and the primary is not known yet";
            Err(RedisError::from((ErrorKind::Client, why)).into())
        }
        _ => Ok(wire),
    }
}

/// Whether the connections are of no further use after this error.
fn loses(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) || error.is_unrecoverable_error()
}

//! Many Envoys and many changes: how long each change takes from the API server to every Envoy's acknowledgement, and how
//! many bytes it costs.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use self::cluster::Cluster;
use crate::process::{self, Usage};
use crate::report::count;
use crate::world::{self, Backends, World};

mod cluster;
mod envoy;

/// What is simulated.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// The xDS server of `controller serve --insecure`, `http://host:port`
    pub address: String,
    /// How to reach the API server; it must be one for tests, which the world is put into
    #[arg(long, value_name = "PATH")]
    pub kubeconfig: PathBuf,
    /// The controller's process, whose cost is reported
    #[arg(long)]
    pub pid: Option<u32>,
    /// Number of routes, each with a Service and policies of its own
    #[arg(long, default_value = "1000")]
    pub routes: NonZeroUsize,
    /// Envoys
    #[arg(long, default_value = "10")]
    pub envoys: NonZeroUsize,
    /// Changes a second
    #[arg(long, default_value = "2")]
    pub rate: NonZeroU32,
    /// What changes
    #[arg(long, value_enum, default_value = "both")]
    pub change: What,
    /// Seconds of changes
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    pub duration: u64,
}

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// One route's header
    Route,
    /// One endpoint's address
    Endpoint,
    /// In turn
    Both,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server does not do what it is asked.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// An Envoy has lost its stream.
    #[error(transparent)]
    Envoy(#[from] envoy::Error),
    /// A part of this process has panicked.
    #[error("a part of the load generator has failed")]
    Task(#[from] tokio::task::JoinError),
    /// Nothing to measure with.
    #[error("making a histogram")]
    Histogram(#[from] hdrhistogram::CreationError),
    /// No CPU time without `/proc`.
    #[error("measuring the controller")]
    Process(#[from] process::Error),
    /// The world is never served.
    #[error("after {0} s the Envoys do not have the whole world: {1} of {2} clusters")]
    Incomplete(u64, usize, usize),
}

/// Longest time until all Envoys have the world.
const PATIENCE: Duration = Duration::from_mins(15);
/// A latency of more than an hour counts as an hour.
const MOST_MICROS: u64 = 3_600_000_000;
/// How long the last changes have.
const LINGER: Duration = Duration::from_secs(10);

/// A change that is on its way.
struct Change {
    kind: Kind,
    at: Instant,
    /// Numbers of the Envoys that have not acknowledged it yet.
    missing: HashSet<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Route,
    Endpoint,
}

/// Where the Envoys find which changes are on their way, and tell which they have.
struct Ledger {
    changes: Mutex<HashMap<String, Change>>,
    times: Mutex<Times>,
}

struct Times {
    /// Of the API server, until it has taken a change.
    write: Histogram<u64>,
    route: Histogram<u64>,
    endpoint: Histogram<u64>,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Ledger {
    /// Marks that an Envoy may find in what it is sent.
    fn awaited(&self, envoy: usize) -> Vec<String> {
        let changes = self.changes.lock();
        let missing = changes.iter().filter(|(_, change)| change.missing.contains(&envoy));
        missing.map(|(mark, _)| mark.clone()).collect()
    }

    /// An Envoy has acknowledged what a mark stands in.
    fn seen(&self, mark: &str, envoy: usize, at: Instant) {
        let mut changes = self.changes.lock();
        let Some(change) = changes.get_mut(mark) else { return };
        let micros = micros(at.saturating_duration_since(change.at));
        let mut times = self.times.lock();
        match change.kind {
            Kind::Route => times.route.saturating_record(micros),
            Kind::Endpoint => times.endpoint.saturating_record(micros),
        }
        change.missing.remove(&envoy);
        if change.missing.is_empty() {
            changes.remove(mark);
        }
    }
}

/// Latencies, over all Envoys, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Half of them came within this time.
    pub p50: f64,
    /// 99 of 100 came within this time.
    pub p99: f64,
    /// All of them.
    pub max: f64,
}

impl Latency {
    fn of(times: &Histogram<u64>) -> Self {
        let ms = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1000.0;
        Self {
            count: times.len(),
            p50: ms(times.value_at_quantile(0.5)),
            p99: ms(times.value_at_quantile(0.99)),
            max: ms(times.max()),
        }
    }
}

/// The controller's memory at a moment.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Seconds since the first change.
    pub second: u64,
    /// Resident.
    pub mib: f64,
}

/// The figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Number of routes.
    pub routes: usize,
    /// Envoys.
    pub envoys: usize,
    /// Changes that were made.
    pub changes: u64,
    /// Seconds that this took.
    pub seconds: f64,
    /// From a change to the API server's answer, which the others begin with as well.
    pub write: Latency,
    /// From a change of a route to an acknowledgement.
    pub route: Latency,
    /// From a change of an endpoint to an acknowledgement.
    pub endpoint: Latency,
    /// Changes that some Envoy has not acknowledged at the end.
    pub lost: usize,
    /// Bytes that each Envoy was sent until it had everything.
    pub first_bytes: u64,
    /// Bytes that each Envoy was sent for each change.
    pub bytes_a_change: u64,
    /// Messages that each Envoy was sent for each change.
    pub messages_a_change: f64,
    /// CPU time of the controller for each change, in milliseconds.
    pub cpu_ms_a_change: Option<f64>,
    /// Its memory, about ten times.
    pub memory: Vec<Memory>,
}

/// Puts the world into the API server, connects the Envoys, and changes things.
pub async fn run(settings: &Settings) -> Result<Report, Error> {
    let world = World { routes: settings.routes.get(), backends: Backends::Service };
    let cluster = Arc::new(Cluster::connect(&settings.kubeconfig).await?);
    eprintln!("putting {} routes into the API server", world.routes);
    cluster.fill(world).await?;

    let histogram = || Histogram::new_with_bounds(1, MOST_MICROS, 3);
    let times = Times { write: histogram()?, route: histogram()?, endpoint: histogram()? };
    let ledger = Arc::new(Ledger { changes: Mutex::default(), times: Mutex::new(times) });
    let mut envoys = JoinSet::new();
    let mut progress = Vec::new();
    for index in 0..settings.envoys.get() {
        let (sender, receiver) = watch::channel(envoy::Progress::default());
        let envoy = envoy::Envoy::connect(&settings.address, index).await?;
        envoys.spawn(envoy.run(Arc::clone(&ledger), sender));
        progress.push(receiver);
    }
    // Each route has a cluster; the services that filters ask come on top.
    for one in &mut progress {
        let is_whole = |held: &envoy::Progress| held.endpoints >= world.routes && held.routes > 0;
        let whole = matches!(timeout(PATIENCE, one.wait_for(is_whole)).await, Ok(Ok(_)));
        if !whole {
            let held = one.borrow().endpoints;
            return Err(Error::Incomplete(PATIENCE.as_secs(), held, world.routes));
        }
    }
    sleep(LINGER).await;
    let first: Vec<_> = progress.iter().map(|one| *one.borrow()).collect();
    eprintln!("{} Envoys have it; {} changes a second for {} s", settings.envoys, settings.rate, settings.duration);

    let before = settings.pid.map(Usage::read).transpose()?;
    let start = Instant::now();
    let (changes, memory) = change(settings, &cluster, world, &ledger).await?;
    let seconds = start.elapsed().as_secs_f64();
    let settled = async {
        while !ledger.changes.lock().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = timeout(LINGER, settled).await;
    if let Some(ended) = envoys.try_join_next() {
        ended??;
    }
    let cpu = match (settings.pid, before) {
        (Some(pid), Some(before)) => Some(Usage::read(pid)?.cpu.saturating_sub(before.cpu).as_secs_f64() * 1000.0),
        _ => None,
    };
    let per = |total: u64| total / (changes * settings.envoys.get() as u64).max(1);
    let last: Vec<_> = progress.iter().map(|one| *one.borrow()).collect();
    let sum = |all: &[envoy::Progress], of: fn(&envoy::Progress) -> u64| all.iter().map(of).sum::<u64>();
    let bytes = sum(&last, |one| one.bytes) - sum(&first, |one| one.bytes);
    let messages = sum(&last, |one| one.messages) - sum(&first, |one| one.messages);
    let times = ledger.times.lock();
    Ok(Report {
        routes: world.routes,
        envoys: settings.envoys.get(),
        changes,
        seconds,
        write: Latency::of(&times.write),
        route: Latency::of(&times.route),
        endpoint: Latency::of(&times.endpoint),
        lost: ledger.changes.lock().len(),
        first_bytes: sum(&first, |one| one.bytes) / settings.envoys.get() as u64,
        bytes_a_change: per(bytes),
        messages_a_change: count(messages) / count((changes * settings.envoys.get() as u64).max(1)),
        cpu_ms_a_change: cpu.map(|cpu| cpu / count(changes.max(1))),
        memory,
    })
}

/// Makes the changes in time; how many, and the controller's memory meanwhile.
async fn change(
    settings: &Settings,
    cluster: &Arc<Cluster>,
    world: World,
    ledger: &Arc<Ledger>,
) -> Result<(u64, Vec<Memory>), Error> {
    let mut due = interval(Duration::from_secs(1) / settings.rate.get());
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let total = settings.duration * u64::from(settings.rate.get());
    let (mut writes, mut memory) = (JoinSet::new(), Vec::new());
    let start = Instant::now();
    for number in 0..total {
        due.tick().await;
        if let Some(pid) = settings.pid.filter(|_| number % (total / 10).max(1) == 0) {
            let mib = count(Usage::read(pid)?.rss_bytes) / f64::from(1 << 20);
            memory.push(Memory { second: start.elapsed().as_secs(), mib });
        }
        let kind = match settings.change {
            What::Route => Kind::Route,
            What::Both if number % 2 == 0 => Kind::Route,
            What::Endpoint | What::Both => Kind::Endpoint,
        };
        // Each in turn, and each time another revision than before.
        let index = usize::try_from(number).unwrap_or(0) % world.routes;
        let revision = number + 1;
        let (object, mark) = match kind {
            Kind::Route => (world.route(index, revision), world::mark(revision)),
            Kind::Endpoint => (world::slice(index, revision), world::endpoint(index, revision)),
        };
        let (cluster, ledger, missing) =
            (Arc::clone(cluster), Arc::clone(ledger), (0..settings.envoys.get()).collect());
        writes.spawn(async move {
            let at = Instant::now();
            ledger.changes.lock().insert(mark, Change { kind, at, missing });
            cluster.apply(&object).await?;
            ledger.times.lock().write.saturating_record(micros(at.elapsed()));
            Ok::<_, Error>(())
        });
        while let Some(done) = writes.try_join_next() {
            done??;
        }
    }
    while let Some(done) = writes.join_next().await {
        done??;
    }
    Ok((total, memory))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (routes, envoys) = (self.routes, self.envoys);
        writeln!(f, "{routes} routes, {envoys} Envoys, {} changes in {:.0} s", self.changes, self.seconds)?;
        for (name, latency) in [("write", &self.write), ("route", &self.route), ("endpoint", &self.endpoint)] {
            let Latency { count, p50, p99, max } = latency;
            writeln!(f, "  {name:9} p50 {p50:8.1} ms  p99 {p99:8.1} ms  max {max:8.1} ms  of {count}")?;
        }
        writeln!(f, "  lost      {}", self.lost)?;
        writeln!(f, "  at first  {} kB to each Envoy", self.first_bytes / 1000)?;
        writeln!(
            f,
            "  a change  {:.1} kB in {:.1} messages to each Envoy",
            count(self.bytes_a_change) / 1000.0,
            self.messages_a_change
        )?;
        if let Some(cpu) = self.cpu_ms_a_change {
            writeln!(f, "  CPU       {cpu:.1} ms of the controller's for each change")?;
        }
        let memory: Vec<String> =
            self.memory.iter().map(|memory| format!("{:.0} ({} s)", memory.mib, memory.second)).collect();
        write!(f, "  MiB       {}", memory.join(", "))
    }
}

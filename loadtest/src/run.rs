//! One run against one server.

use std::io::IsTerminal;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout_at};
use tokio_util::task::TaskTracker;

use crate::address::Address;
use crate::connection::{self, Connection, Pool};
use crate::process::{self, Named, Usage};
use crate::record::Record;
use crate::report::{Cost, Report};
use crate::schedule::Schedule;
use crate::settings::{Load, Pace};
use crate::target::Target;

/// Pause after a broken exchange in a closed loop, which would else spin while the server is away.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// Why a run could not be made. What goes wrong later on is counted in the report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server cannot be reached.
    #[error(transparent)]
    Connection(#[from] connection::Error),
    /// The server's process cannot be measured.
    #[error("cannot measure the server: {0}")]
    Process(#[from] process::Error),
    /// The histogram cannot be set up.
    #[error("cannot set up the histogram: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
}

/// What the tasks of a run share.
struct Session<T> {
    target: T,
    record: Mutex<Record>,
    timeout: Duration,
    /// Requests that are due from here...
    start: Instant,
    /// ...and before this are counted.
    end: Instant,
}

/// Loads the server at `address` and measures it. `pid` is the server's process; without one its cost is not reported.
/// `others` are processes that work for it.
///
/// The run ends at the latest when warm-up, duration and timeout have passed.
pub async fn run<T: Target>(
    target: T,
    address: &Address,
    load: &Load,
    pid: Option<u32>,
    others: &[Named],
) -> Result<Report, Error> {
    let pool = Pool::open(address, load.connections.get()).await?;
    let begin = Instant::now();
    let start = begin + load.warm_up;
    let session = Arc::new(Session {
        target,
        record: Mutex::new(Record::new(T::VERDICTS)?),
        timeout: load.timeout,
        start,
        end: start + load.duration,
    });
    let drive = async {
        match load.pace() {
            Pace::ClosedLoop { concurrency } => closed_loop(&session, &pool, concurrency).await,
            Pace::OpenLoop { rate, arrivals } => {
                let schedule = Schedule::new(arrivals, rate, SmallRng::from_os_rng());
                open_loop(&session, &pool, schedule.map(move |offset| begin + offset)).await;
            }
        }
    };
    let costs_at_start = async {
        sleep_until(start.into()).await;
        let others: Result<Vec<_>, _> = others.iter().map(|other| Usage::read(other.pid)).collect();
        (Usage::read(std::process::id()), pid.map(Usage::read), others)
    };
    let ((client_before, server_before, others_before), (), ()) =
        tokio::join!(costs_at_start, progress(&session, load.quiet), drive);

    let elapsed = start.elapsed();
    let record = session.record.lock();
    let cost = |pid, before: Usage| Usage::read(pid).map(|after| Cost::new(pid, before, after, record.answered()));
    let client = cost(std::process::id(), client_before?)?;
    // A server that has died in the meantime is seen in the counts; its cost is no longer known.
    let server = match (pid, server_before.transpose()?) {
        (Some(pid), Some(before)) => cost(pid, before).ok(),
        _ => None,
    };
    let others =
        others.iter().zip(others_before?).map(|(other, before)| Ok((other.name.clone(), cost(other.pid, before)?)));
    let others = others.collect::<Result<_, process::Error>>()?;
    let requests = session.target.to_string();
    Ok(Report { others, ..Report::new(address, requests, load, elapsed, &record, client, server) })
}

/// Keeps `concurrency` requests in flight.
async fn closed_loop<T: Target>(session: &Arc<Session<T>>, pool: &Pool, concurrency: usize) {
    let workers = TaskTracker::new();
    for connection in pool.in_turn().take(concurrency) {
        let (session, connection) = (Arc::clone(session), connection.clone());
        workers.spawn(async move {
            let mut rng = SmallRng::from_os_rng();
            loop {
                let due = Instant::now();
                if due >= session.end {
                    break;
                }
                let (head, body) = session.target.request(&mut rng);
                if !session.exchange(&connection, head, body, due).await {
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        });
    }
    workers.close();
    workers.wait().await;
}

/// Sends a request whenever one is due, however many are still in flight.
async fn open_loop<T: Target>(
    session: &Arc<Session<T>>,
    pool: &Pool,
    schedule: impl Iterator<Item = Instant> + Send + 'static,
) {
    let (sender, mut due) = mpsc::unbounded_channel();
    let end = session.end;
    // The runtime's timer has steps of a millisecond, a thread's sleep is some twenty times finer.
    thread::spawn(move || {
        for due in schedule.take_while(|due| *due < end) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.send(due).is_err() {
                break;
            }
        }
    });

    let exchanges = TaskTracker::new();
    let mut rng = SmallRng::from_os_rng();
    let mut connections = pool.in_turn().cloned();
    while let (Some(due), Some(connection)) = (due.recv().await, connections.next()) {
        let (head, body) = session.target.request(&mut rng);
        let session = Arc::clone(session);
        exchanges.spawn(async move { session.exchange(&connection, head, body, due).await });
    }
    exchanges.close();
    exchanges.wait().await;
}

impl<T: Target> Session<T> {
    /// Makes one exchange and counts it. The latency runs from the moment at which the request was due. Returns whether there
    /// was an answer.
    async fn exchange(&self, connection: &Connection, head: Request<()>, body: Bytes, due: Instant) -> bool {
        let answer = timeout_at((due + self.timeout).into(), connection.exchange(head, body)).await;
        let answered = matches!(answer, Ok(Ok(_)));
        if (self.start..self.end).contains(&due) {
            let latency = due.elapsed();
            let mut record = self.record.lock();
            match answer {
                Ok(Ok(answer)) => record.answer(self.target.verdict(&answer), latency),
                Ok(Err(error)) => record.error(error.to_string()),
                Err(_) => record.timeout(latency),
            }
        }
        answered
    }
}

/// Says every second how far the run is: on a terminal in one line that is written over, else in a line each.
async fn progress<T: Target>(session: &Session<T>, quiet: bool) {
    if quiet {
        return;
    }
    let terminal = std::io::stderr().is_terminal();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    let mut answered_before = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = sleep_until(session.end.into()) => break,
        }
        let left = session.end.saturating_duration_since(Instant::now()).as_secs_f64();
        let line = {
            let record = session.record.lock();
            let answered = record.answered();
            let per_second = answered - answered_before;
            answered_before = answered;
            let p99_ms = record.latencies_us().value_at_quantile(0.99) / 1000;
            let failed = record.failed();
            if Instant::now() < session.start {
                format!("{left:4.0} s left  warming up")
            } else {
                format!("{left:4.0} s left  {per_second:>7} answers/s  p99 {p99_ms:>5} ms  {failed} errors")
            }
        };
        if terminal {
            eprint!("\r\x1b[K{line}");
        } else {
            eprintln!("{line}");
        }
    }
    if terminal {
        eprint!("\r\x1b[K");
    }
}

//! Sends metrics to statsd or `DogStatsD` at an interval. What cannot be sent is sent with the next interval, as far as it adds up.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, Write as _},
    net::{TcpStream, ToSocketAddrs, UdpSocket},
    sync::{Arc, atomic::Ordering, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::registry::{AtomicStorage, Registry};

use super::{Mogrifiers, dotted::Dotted};

/// How long connecting or writing may take.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of a datagram that no common network splits.
const DATAGRAM: usize = 1432;
/// Samples of one histogram that are sent at a time; of more, as many are sent with the rate that they stand for.
const SAMPLES: usize = 1000;

/// Where metrics are sent, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Host or address; looked up each time a connection is made.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// Tags behind `#`, as `DogStatsD` has them, instead of in names.
    pub dog: bool,
    /// Renames for `DogStatsD`.
    pub mogrifiers: Mogrifiers,
    /// On every metric.
    pub tags: Vec<(String, String)>,
    /// Pause between two sendings.
    pub interval: Duration,
}

/// Transports of statsd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A stream of lines.
    Tcp,
    /// Lines in datagrams.
    Udp,
}

/// Records what a [`Sender`] sends.
pub(super) struct Statsd(Arc<Registry<Key, AtomicStorage>>);

/// Sends until it is dropped, and then once more.
#[derive(Debug)]
pub struct Sender {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The thread's state.
struct Sink {
    registry: Arc<Registry<Key, AtomicStorage>>,
    options: Options,
    connection: Option<Connection>,
    /// Counts that have been sent.
    sent: HashMap<Key, u64>,
    fails: bool,
}

enum Connection {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

/// A recorder, and the thread that sends what it records.
pub(super) fn start(options: Options) -> io::Result<(Statsd, Sender)> {
    let registry = Arc::new(Registry::atomic());
    let interval = options.interval;
    let mut sink =
        Sink { registry: Arc::clone(&registry), options, connection: None, sent: HashMap::new(), fails: false };
    let (stop, stopped) = mpsc::channel();
    let thread = thread::Builder::new().name("statsd".to_owned()).spawn(move || {
        while stopped.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
            sink.send();
        }
        sink.send();
    })?;
    Ok((Statsd(registry), Sender { stop: Some(stop), thread: Some(thread) }))
}

impl Drop for Sender {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics no more than anything else.
            let _ = thread.join();
        }
    }
}

impl Recorder for Statsd {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.0.get_or_create_counter(key, |counter| Arc::clone(counter).into())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.0.get_or_create_gauge(key, |gauge| Arc::clone(gauge).into())
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.0.get_or_create_histogram(key, |histogram| Arc::clone(histogram).into())
    }
}

impl Sink {
    fn send(&mut self) {
        let sent = self.connect().and_then(|()| {
            let lines = self.lines();
            let written = self.connection.as_mut().map_or(Ok(()), |connection| connection.write(&lines));
            if written.is_err() {
                self.connection = None;
            }
            written
        });
        if sent.is_err() != self.fails {
            self.fails = sent.is_err();
            match &sent {
                Ok(()) => tracing::info!("statsd takes metrics again"),
                Err(error) => tracing::warn!(%error, host = %self.options.host, "cannot send metrics to statsd"),
            }
        }
    }

    fn connect(&mut self) -> io::Result<()> {
        if self.connection.is_some() {
            return Ok(());
        }
        let mut addresses = (self.options.host.as_str(), self.options.port).to_socket_addrs()?;
        let none = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        self.connection = Some(match self.options.protocol {
            Protocol::Tcp => {
                let stream = TcpStream::connect_timeout(&addresses.next().ok_or_else(none)?, TIMEOUT)?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Connection::Tcp(stream)
            }
            Protocol::Udp => {
                let address = addresses.next().ok_or_else(none)?;
                let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
                socket.connect(address)?;
                Connection::Udp(socket)
            }
        });
        Ok(())
    }

    /// What has changed, a line each. Counts are those since the last call; a write that fails half way may lose some, and
    /// never sends one twice.
    fn lines(&mut self) -> String {
        let mut lines = String::new();
        for (key, counter) in self.registry.get_counter_handles() {
            let count = counter.load(Ordering::Relaxed);
            let sent = self.sent.entry(key.clone()).or_default();
            let since = count.saturating_sub(*sent);
            *sent = count;
            if since > 0 {
                self.options.line(&mut lines, &key, since, "c");
            }
        }
        for (key, gauge) in self.registry.get_gauge_handles() {
            self.options.line(&mut lines, &key, f64::from_bits(gauge.load(Ordering::Relaxed)), "g");
        }
        for (key, histogram) in self.registry.get_histogram_handles() {
            let mut samples = Vec::new();
            histogram.clear_with(|some| samples.extend_from_slice(some));
            self.options.samples(&mut lines, &key, &samples);
        }
        lines
    }
}

impl Options {
    fn line(&self, lines: &mut String, key: &Key, value: impl std::fmt::Display, kind: &str) {
        let (name, tags) = self.named(key);
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{name}:{value}|{kind}{tags}");
    }

    /// Milliseconds, as statsd times. Upstream sends them whole; these keep their fractions.
    #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    fn samples(&self, lines: &mut String, key: &Key, samples: &[f64]) {
        let step = samples.len().div_ceil(SAMPLES).max(1);
        let some = samples.iter().step_by(step);
        let rate = if step > 1 { format!("ms|@{}", some.len() as f64 / samples.len() as f64) } else { "ms".into() };
        for seconds in some {
            self.line(lines, key, (seconds * 1e6).round() / 1e3, &rate);
        }
    }

    /// Name and what stands behind the kind.
    fn named(&self, key: &Key) -> (String, String) {
        let Dotted { name, mut tags } = Dotted::of(key);
        tags.extend(self.tags.iter().cloned());
        tags.sort();
        if !self.dog {
            return (
                tags.into_iter().fold(name, |name, (tag, value)| format!("{name}.__{tag}={value}")),
                String::new(),
            );
        }
        let (name, more) = self.mogrifiers.apply(name);
        let tags: Vec<_> = tags.into_iter().chain(more).map(|(tag, value)| format!("{tag}:{value}")).collect();
        (name, if tags.is_empty() { String::new() } else { format!("|#{}", tags.join(",")) })
    }
}

impl Connection {
    fn write(&mut self, lines: &str) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(lines.as_bytes()),
            Self::Udp(socket) => datagrams(lines).try_for_each(|datagram| socket.send(datagram.as_bytes()).map(drop)),
        }
    }
}

/// As many whole lines as fit into a datagram, at least one.
fn datagrams(mut lines: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let first = lines.find('\n')? + 1;
        let room = lines.floor_char_boundary(DATAGRAM);
        let end = lines.get(..room)?.rfind('\n').map_or(first, |at| at + 1);
        let (datagram, rest) = lines.split_at(end);
        lines = rest;
        Some(datagram)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        io::{BufRead, BufReader},
        net::TcpListener,
    };

    use super::*;

    const METADATA: Metadata<'static> = Metadata::new(module_path!(), metrics::Level::INFO, None);

    fn options(port: u16, protocol: Protocol, dog: bool) -> Options {
        let rule = |variable: &str| match variable {
            "DOG_STATSD_MOGRIFIER_TAG_PATTERN" => Some(r"^ratelimit\.service\.rate_limit\.([^.]*)\.(.*)$".into()),
            "DOG_STATSD_MOGRIFIER_TAG_NAME" => Some("ratelimit.$2".into()),
            "DOG_STATSD_MOGRIFIER_TAG_TAGS" => Some("domain:$1".into()),
            _ => None,
        };
        Options {
            host: "127.0.0.1".into(),
            port,
            protocol,
            dog,
            mogrifiers: Mogrifiers::read(&["TAG".into()], rule).unwrap(),
            tags: vec![("zone".into(), "a".into())],
            interval: Duration::from_millis(20),
        }
    }

    fn record(statsd: &Statsd) {
        let hits = Key::from_parts("ratelimit_service_rate_limit_total_hits", &[("domain", "d"), ("key1", "k")]);
        statsd.register_counter(&hits, &METADATA).increment(3);
        let time = Key::from_parts("ratelimit_service_response_time_seconds", &[("grpc_method", "M")]);
        statsd.register_histogram(&time, &METADATA).record(0.001_5);
    }

    #[test]
    fn statsd_gets_lines_over_tcp_and_the_rest_at_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (statsd, sender) = start(options(listener.local_addr().unwrap().port(), Protocol::Tcp, false)).unwrap();
        record(&statsd);
        let mut lines = BufReader::new(listener.accept().unwrap().0).lines();
        let mut first = [lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()];
        first.sort();
        assert_eq!(
            first,
            [
                "ratelimit.service.rate_limit.d.k.total_hits.__zone=a:3|c",
                "ratelimit_server.M.response_time.__zone=a:1.5|ms"
            ]
        );
        record(&statsd);
        drop(sender);
        assert_eq!(lines.map(Result::unwrap).count(), 2);
    }

    #[test]
    fn dogstatsd_gets_tags_over_udp() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (statsd, _sender) = start(options(socket.local_addr().unwrap().port(), Protocol::Udp, true)).unwrap();
        let key = Key::from_parts("ratelimit_service_rate_limit_total_hits", &[("domain", "d"), ("key1", "k")]);
        statsd.register_counter(&key, &METADATA).increment(3);
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), "ratelimit.k.total_hits:3|c|#zone:a,domain:d\n");
    }

    #[test]
    fn counts_wait_for_a_server_that_is_away() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut sink = Sink {
            registry: Arc::new(Registry::atomic()),
            options: options(port, Protocol::Tcp, false),
            connection: None,
            sent: HashMap::new(),
            fails: false,
        };
        let statsd = Statsd(Arc::clone(&sink.registry));
        statsd.register_counter(&Key::from_name("hits"), &METADATA).increment(2);
        sink.send();
        assert!(sink.fails);
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        sink.send();
        let line = BufReader::new(listener.accept().unwrap().0).lines().next().unwrap().unwrap();
        assert_eq!((line.as_str(), sink.fails), ("hits.__zone=a:2|c", false));
    }

    #[test]
    fn many_samples_are_sent_with_their_rate() {
        let mut lines = String::new();
        options(0, Protocol::Udp, false).samples(&mut lines, &Key::from_name("t"), &vec![0.002; 5000]);
        assert_eq!(lines.lines().count(), 1000);
        assert_eq!(lines.lines().next(), Some("t.__zone=a:2|ms|@0.2"));
    }

    #[test]
    fn datagrams_hold_whole_lines() {
        let line = "x".repeat(700) + "\n";
        let long = "y".repeat(2000) + "\n";
        let lines = line.repeat(3) + &long + &line;
        let sizes: Vec<_> = datagrams(&lines).map(str::len).collect();
        assert_eq!(sizes, [1402, 701, 2001, 701]);
    }
}

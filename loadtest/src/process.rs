//! What a process costs: CPU time and memory, as Linux counts them under `/proc`.

use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crate::address::Address;

/// Ticks per second of the times in `/proc/PID/stat`; Linux shows them at this rate on every platform.
const TICKS_PER_SECOND: u64 = 100;

/// State of a listening socket in `/proc/net/tcp`.
const TCP_LISTEN: &str = "0A";

/// Why a process cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Most often: there is no such process.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Not what Linux writes.
    #[error("cannot understand {0}")]
    Format(String),
}

/// Use of resources at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time since the process started, user and system, in steps of 10 ms.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
}

/// A process that takes part in the work of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// What the report calls it.
    pub name: String,
    /// The process.
    pub pid: u32,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.split_once('=').and_then(|(name, pid)| Some((name, pid.parse().ok()?)));
        let (name, pid) = named.ok_or("a process is given as NAME=PID, such as redis=4242")?;
        Ok(Self { name: name.to_owned(), pid })
    }
}

impl Usage {
    /// Reads the use of process `pid`.
    pub fn read(pid: u32) -> Result<Self, Error> {
        let (stat, status) = (format!("/proc/{pid}/stat"), format!("/proc/{pid}/status"));
        let cpu = cpu(&read(&stat)?).ok_or(Error::Format(stat))?;
        let rss_bytes = rss_bytes(&read(&status)?).ok_or(Error::Format(status))?;
        Ok(Self { cpu, rss_bytes })
    }
}

/// CPU time of the calling thread since it started, to the nanosecond where the kernel accounts for it.
pub fn thread_cpu() -> Result<Duration, Error> {
    let path = "/proc/thread-self/schedstat";
    let text = read(path)?;
    let nanoseconds = text.split_ascii_whitespace().next().and_then(|spent| spent.parse().ok());
    nanoseconds.map(Duration::from_nanos).ok_or_else(|| Error::Format(path.to_owned()))
}

fn read(path: &str) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Fields 14 and 15 of `/proc/PID/stat`. The second field is a name that may hold anything, so counting starts after it.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

/// `VmRSS` of `/proc/PID/status`; a process that is about to be gone has none.
fn rss_bytes(status: &str) -> Option<u64> {
    let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmRSS:")) else { return Some(0) };
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The process that listens at `address`, if this user may see it. Of several, the first that is found.
pub fn listener(address: &Address) -> Option<u32> {
    let inodes = match address {
        Address::Tcp { socket, .. } => tcp_inodes(socket.port()),
        Address::Unix(path) => unix_inodes(path),
    };
    let sockets: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid| holds(*pid, &sockets))
}

fn holds(pid: u32, sockets: &[String]) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|link| sockets.iter().any(|s| link == Path::new(s))))
}

fn tcp_inodes(port: u16) -> Vec<String> {
    let port = format!(":{port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines());
    let listening = lines.filter_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let is_listener = fields.get(1)?.ends_with(&port) && *fields.get(3)? == TCP_LISTEN;
        is_listener.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    });
    listening.collect()
}

fn unix_inodes(path: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let bound = table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        (Path::new(fields.get(7)?) == path).then(|| fields.get(6).map(|inode| (*inode).to_owned()))?
    });
    bound.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn reads_the_times_after_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 4 0 100 1000000 500";
        assert_eq!(cpu(stat), Some(Duration::from_millis(1750)));
        assert_eq!(cpu("42 (cut off) S 1"), None);
    }

    #[test]
    fn measures_this_process() {
        let usage = Usage::read(std::process::id()).unwrap();
        assert!(usage.rss_bytes > 100_000, "{usage:?}");
        assert!(Usage::read(0).unwrap_err().to_string().contains("/proc/0/stat"));
    }

    #[test]
    fn finds_who_listens() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", tcp.local_addr().unwrap()).parse().unwrap();
        assert_eq!(listener(&address), Some(std::process::id()));
        drop(tcp);
        assert_eq!(listener(&address), None);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(listener(&Address::Unix(path)), Some(std::process::id()));
    }
}

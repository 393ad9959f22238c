//! Addresses and the sockets that listen on them.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use socket2::{Domain, Protocol, Socket, Type};

use super::Error;

/// Connections that the kernel holds until we accept them.
const BACKLOG: i32 = 4096;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `127.0.0.1:8081`, or `[::]:8081` and `:8081` for all addresses of IPv4 and IPv6, of IPv4 alone where there is nothing else;
    /// port 0 picks a free one.
    Tcp(SocketAddr),
    /// `unix:/path/to/socket`.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.strip_prefix("unix:") {
            Some("") => Err(Error::Address(text.to_owned())),
            Some(path) => Ok(Self::Unix(path.into())),
            None => {
                let port = text.strip_prefix(':').and_then(|port| port.parse().ok());
                let all = port.map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
                all.or_else(|| text.parse().ok()).map(Self::Tcp).ok_or_else(|| Error::Address(text.to_owned()))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A bound socket. It belongs to no runtime until it is served, so that it can move to another thread.
#[derive(Debug)]
pub enum Listener {
    /// With `TCP_NODELAY` on its connections.
    Tcp(TcpListener),
    /// The file stays behind when the server ends; the next one takes it over.
    Unix(UnixListener),
}

impl Listener {
    /// Binds one listener.
    pub fn bind(address: &Address) -> Result<Self, Error> {
        let bound = match address {
            Address::Tcp(address) => tcp_socket(*address, false).map(Self::Tcp),
            Address::Unix(path) => unix_socket(path).map(Self::Unix),
        };
        bound.map_err(|source| Error::Bind { address: address.clone(), source })
    }

    /// Binds one listener a core on the same address: the kernel spreads TCP connections over them (`SO_REUSEPORT`), and the cores take
    /// turns at a Unix socket.
    pub fn bind_per_core(address: &Address, cores: usize) -> Result<Vec<Self>, Error> {
        let error = |source| Error::Bind { address: address.clone(), source };
        match address {
            Address::Tcp(tcp) => {
                let first = tcp_socket(*tcp, true).map_err(error)?;
                let chosen = first.local_addr().map_err(error)?;
                let others = (1..cores).map(|_| tcp_socket(chosen, true));
                std::iter::once(Ok(first)).chain(others).map(|bound| bound.map(Self::Tcp).map_err(error)).collect()
            }
            Address::Unix(path) => {
                let first = unix_socket(path).map_err(error)?;
                let others = (1..cores).map(|_| first.try_clone()).collect::<io::Result<Vec<_>>>().map_err(error)?;
                Ok(std::iter::once(first).chain(others).map(Self::Unix).collect())
            }
        }
    }

    /// Where it listens, with the port that was picked.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(listener) => {
                let address = listener.local_addr()?;
                Ok(Address::Unix(address.as_pathname().unwrap_or(Path::new("")).to_owned()))
            }
        }
    }
}

/// On the current runtime.
pub(super) fn tcp(listener: TcpListener) -> Result<tokio::net::TcpListener, Error> {
    tokio::net::TcpListener::from_std(listener).map_err(Error::Runtime)
}

/// On the current runtime.
pub(super) fn unix(listener: UnixListener) -> Result<tokio::net::UnixListener, Error> {
    tokio::net::UnixListener::from_std(listener).map_err(Error::Runtime)
}

fn tcp_socket(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let all = address.ip() == Ipv6Addr::UNSPECIFIED;
    match tcp_socket_on(address, reuse_port) {
        Err(error) if all && lacks_ipv6(&error) => {
            tcp_socket_on((Ipv4Addr::UNSPECIFIED, address.port()).into(), reuse_port)
        }
        bound => bound,
    }
}

/// It is off in the kernel, or on no interface.
fn lacks_ipv6(error: &io::Error) -> bool {
    let unsupported = error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    unsupported || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn tcp_socket_on(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn unix_socket(path: &Path) -> io::Result<UnixListener> {
    // A socket that nobody answers on is what a killed server left behind.
    let is_socket = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::net::TcpStream;

    use super::*;

    #[test]
    fn addresses_read_as_they_print() {
        for text in ["127.0.0.1:8081", "[::]:8081", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "8081", "unix:", "localhost"] {
            assert!(matches!(text.parse::<Address>(), Err(Error::Address(_))), "{text}");
        }
    }

    #[test]
    fn a_port_alone_is_all_addresses() {
        assert_eq!(":8081".parse::<Address>().unwrap().to_string(), "[::]:8081");
        for text in [":", ":x", ":65536", "::1:80"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn all_addresses_are_those_of_ipv4_too() {
        let listener = Listener::bind(&":0".parse().unwrap()).unwrap();
        let Address::Tcp(bound) = listener.address().unwrap() else { panic!("no TCP address") };
        TcpStream::connect((Ipv4Addr::LOCALHOST, bound.port())).unwrap();
        // Not where the machine has no IPv6, and ours listens without.
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, bound.port())).unwrap();
        }
    }

    #[test]
    fn without_ipv6_there_is_ipv4() {
        for code in [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL] {
            assert!(lacks_ipv6(&io::Error::from_raw_os_error(code.raw_os_error())));
        }
        assert!(!lacks_ipv6(&io::Error::from(io::ErrorKind::AddrInUse)));
    }

    #[test]
    fn cores_share_a_port_and_strangers_do_not() {
        let listeners = Listener::bind_per_core(&"127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let addresses: Vec<_> = listeners.iter().map(|listener| listener.address().unwrap()).collect();
        assert_eq!(addresses.len(), 3);
        assert!(addresses.iter().all(|address| *address == addresses[0]));
        assert!(matches!(Listener::bind(&addresses[0]), Err(Error::Bind { .. })));
    }

    #[test]
    fn a_dead_servers_socket_file_is_taken_over_and_a_living_ones_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let address = Address::Unix(directory.path().join("s"));
        let listener = Listener::bind(&address).unwrap();
        assert!(Listener::bind(&address).is_err());
        drop(listener);
        assert_eq!(Listener::bind_per_core(&address, 2).unwrap().len(), 2);
    }
}

//! Where a server listens: `http://host:port` or `unix:/path`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// The address of a server, resolved when it was parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Plain-text HTTP/2 over TCP.
    Tcp {
        /// `host:port` as given; the requests' `:authority`.
        authority: String,
        /// The first address that the host resolves to.
        socket: SocketAddr,
    },
    /// Plain-text HTTP/2 over a Unix socket.
    Unix(PathBuf),
}

/// Why an address cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither of the two forms.
    #[error("{0:?} is no address: write http://host:port or unix:/path")]
    Form(String),
    /// TLS is not spoken.
    #[error("{0:?}: TLS is not supported, write http://host:port")]
    Tls(String),
    /// The host or port cannot be resolved.
    #[error("cannot resolve {authority:?}: {source}")]
    Resolve {
        /// The `host:port` that was looked up.
        authority: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// The host has no address at all.
    #[error("{0:?} resolves to no address")]
    NoAddress(String),
    /// Load on a machine other than this one was not asked for.
    #[error("{0} is not on this machine: add --allow-remote if you may load it")]
    Remote(Address),
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(Error::Form(text.to_owned())) } else { Ok(Self::Unix(path.into())) };
        }
        if text.starts_with("https://") {
            return Err(Error::Tls(text.to_owned()));
        }
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        if !authority.contains(':') || authority.contains('/') {
            return Err(Error::Form(text.to_owned()));
        }
        let mut sockets =
            authority.to_socket_addrs().map_err(|source| Error::Resolve { authority: authority.to_owned(), source })?;
        let socket = sockets.next().ok_or_else(|| Error::NoAddress(authority.to_owned()))?;
        Ok(Self::Tcp { authority: authority.to_owned(), socket })
    }
}

impl Address {
    /// The `:authority` of requests to this address.
    pub fn authority(&self) -> &str {
        match self {
            Self::Tcp { authority, .. } => authority,
            Self::Unix(_) => "localhost",
        }
    }

    /// Refuses an address that is not on this machine.
    pub fn require_local(&self) -> Result<(), Error> {
        match self {
            Self::Tcp { socket, .. } if !socket.ip().is_loopback() => Err(Error::Remote(self.clone())),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { authority, .. } => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn reads_both_forms() {
        let tcp: Address = "http://127.0.0.1:8081".parse().unwrap();
        assert_eq!(tcp.to_string(), "http://127.0.0.1:8081");
        assert_eq!(tcp.authority(), "127.0.0.1:8081");
        assert_eq!("127.0.0.1:8081".parse::<Address>().unwrap(), tcp);
        let unix: Address = "unix:/run/rls.sock".parse().unwrap();
        assert_eq!(unix, Address::Unix("/run/rls.sock".into()));
        assert!(unix.require_local().is_ok());
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, expected) in [
            ("https://127.0.0.1:1", "TLS is not supported"),
            ("127.0.0.1", "write http://host:port"),
            ("http://127.0.0.1:1/path", "write http://host:port"),
            ("unix:", "write http://host:port"),
            ("http://127.0.0.1:port", "cannot resolve"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn refuses_other_machines() {
        let remote: Address = "http://192.0.2.1:80".parse().unwrap();
        assert!(remote.require_local().unwrap_err().to_string().contains("--allow-remote"));
        assert!("http://[::1]:80".parse::<Address>().unwrap().require_local().is_ok());
    }
}

//! A web server or a proxy: GET requests over HTTP/2 without TLS.

use std::fmt;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderValue, Request, StatusCode};
use rand::rngs::SmallRng;

use super::authz::PAGE;
use super::sent::{self, Sent};
use super::{Answer, Target};
use crate::address::Address;

/// What the requests hold.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Credentials
    #[command(flatten)]
    pub sent: sent::Settings,
}

/// Requests of a browser, with the headers that `authz` asks about.
#[derive(Debug)]
pub struct Http {
    head: Request<()>,
    header: HeaderName,
    prefix: String,
    sent: Sent,
}

/// Why no requests can be made up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See [`sent::Error`].
    #[error(transparent)]
    Sent(#[from] sent::Error),
    /// The address makes no URI, or the header is none.
    #[error("cannot build a request: {0}")]
    Request(#[from] http::Error),
}

impl Http {
    /// Requests to the server at `address`.
    pub fn new(address: &Address, settings: &Settings) -> Result<Self, Error> {
        let sent = Sent::new(&settings.sent)?;
        let mut head = Request::get(format!("http://{}{PAGE}", address.authority())).version(http::Version::HTTP_2);
        for (name, value) in settings.sent.headers("") {
            // What proxies add themselves.
            if !name.starts_with("x-envoy-") {
                head = head.header(name, value);
            }
        }
        let header = settings.sent.header.parse::<HeaderName>().map_err(http::Error::from)?;
        Ok(Self { head: head.body(())?, header, prefix: settings.sent.prefix.clone(), sent })
    }
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GET {PAGE}, {}", self.sent)
    }
}

impl Target for Http {
    const VERDICTS: &'static [&'static str] = &["OK", "DENIED"];

    fn request(&self, rng: &mut SmallRng) -> (Request<()>, Bytes) {
        let mut head = self.head.clone();
        let credential = self.sent.draw(rng);
        if let Ok(value) = HeaderValue::try_from(format!("{}{credential}", self.prefix))
            && !credential.is_empty()
        {
            head.headers_mut().insert(self.header.clone(), value);
        }
        (head, Bytes::new())
    }

    fn verdict(&self, answer: &Answer) -> Result<&'static str, String> {
        self.sent.check()?;
        match answer.head.status {
            StatusCode::OK => Ok("OK"),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok("DENIED"),
            status => Err(format!("HTTP status {}", status.as_u16())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::fs;

    use rand::SeedableRng;

    use super::*;
    use crate::keys::Distribution;

    fn http(text: &str) -> Http {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        fs::write(&path, text).unwrap();
        let (header, prefix) = ("authorization".to_owned(), "Bearer ".to_owned());
        let distribution = Distribution::Uniform;
        let sent = sent::Settings { credentials: Some(path), header, prefix, distribution, once: true };
        Http::new(&"http://127.0.0.1:1".parse().unwrap(), &Settings { sent }).unwrap()
    }

    fn verdict(http: &Http, status: u16) -> Result<&'static str, String> {
        let (mut head, ()) = http::Response::new(()).into_parts();
        head.status = StatusCode::from_u16(status).unwrap();
        http.verdict(&Answer { head, body: Bytes::new(), trailers: None })
    }

    #[test]
    fn a_request_carries_one_credential() {
        let http = http("first\nother\n");
        let mut rng = SmallRng::seed_from_u64(7);
        for expected in ["Bearer first", "Bearer other"] {
            let (head, body) = http.request(&mut rng);
            assert!(body.is_empty());
            assert_eq!(head.headers().get_all("authorization").iter().collect::<Vec<_>>(), [expected]);
            assert_eq!(head.uri().to_string(), format!("http://127.0.0.1:1{PAGE}"));
        }
        assert_eq!(verdict(&http, 200), Ok("OK"));
        http.request(&mut rng);
        assert!(verdict(&http, 200).is_err(), "there was no third");
    }

    #[test]
    fn what_is_neither_yes_nor_no_is_an_error() {
        let http = http("one\n");
        for (status, expected) in [(200, Some("OK")), (401, Some("DENIED")), (403, Some("DENIED")), (503, None)] {
            assert_eq!(verdict(&http, status).ok(), expected, "{status}");
        }
    }
}

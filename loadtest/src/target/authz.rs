//! Envoy's external authorization, `envoy.service.auth.v3.Authorization/Check`.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address as Endpoint, SocketAddress, address};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request as Attributes};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use http::Request;
use prost::Message;
use rand::rngs::SmallRng;

use super::sent::{self, Sent};
use super::{Answer, Target};
use crate::address::Address;

/// The method's path.
pub const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// What the requests hold.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// The policy that the context extensions name
    #[arg(long, default_value = "bench")]
    pub policy: String,
    /// Credentials
    #[command(flatten)]
    pub sent: sent::Settings,
}

/// Requests for authorization: some 1.9 kB with fifteen headers, one of them with a token of 1 kB.
#[derive(Debug)]
pub struct Authz {
    settings: Settings,
    head: Request<()>,
    /// The encoded request up to the credential, and from there on.
    template: (Vec<u8>, Vec<u8>),
    sent: Sent,
}

/// Why no requests can be made up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See [`sent::Error`].
    #[error(transparent)]
    Sent(#[from] sent::Error),
    /// The address makes no URI.
    #[error("cannot build a request: {0}")]
    Request(#[from] http::Error),
}

/// Of a `CheckResponse` only the status' code; the rest is skipped so that the load generator costs little.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
}

/// What the browser asks for.
pub(super) const PAGE: &str = "/orders/4711?expand=items&page=2";

/// Stands for the credential in the encoded template.
const SLOT: u8 = b'#';

impl Authz {
    /// Requests to the server at `address`, encoded once: for each request only the credential is put in.
    pub fn new(address: &Address, settings: &Settings) -> Result<Self, Error> {
        let sent = Sent::new(&settings.sent)?;
        let width = sent.width();
        Ok(Self {
            head: super::grpc_request(address.authority(), PATH)?,
            template: split(&super::grpc_frame(&check(settings, width)), width),
            settings: settings.clone(),
            sent,
        })
    }
}

fn split(frame: &[u8], width: usize) -> (Vec<u8>, Vec<u8>) {
    let slot = vec![SLOT; width];
    let start = frame.windows(width.max(1)).position(|bytes| width > 0 && bytes == slot).unwrap_or(frame.len());
    let (before, rest) = frame.split_at(start);
    (before.to_vec(), rest.get(width..).unwrap_or_default().to_vec())
}

/// What Envoy sends for a browser's request behind a proxy.
fn check(settings: &Settings, width: usize) -> CheckRequest {
    let slot = String::from(char::from(SLOT)).repeat(width);
    let pseudo = [(":authority", "shop.example.com"), (":method", "GET"), (":path", PAGE), (":scheme", "https")];
    let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers = pseudo.into_iter().chain(settings.sent.headers(&slot)).collect();
    let extensions = [("policy", settings.policy.as_str()), ("route", "shop/orders")];
    let http = HttpRequest {
        id: "1407374883553280".to_owned(),
        method: "GET".to_owned(),
        path: PAGE.to_owned(),
        host: "shop.example.com".to_owned(),
        scheme: "https".to_owned(),
        protocol: "HTTP/1.1".to_owned(),
        headers,
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(peer("10.4.2.9", 51_324)),
            destination: Some(peer("10.4.2.1", 8443)),
            request: Some(Attributes { http: Some(http), ..Attributes::default() }),
            context_extensions: extensions.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..AttributeContext::default()
        }),
    }
}

fn peer(ip: &str, port: u32) -> Peer {
    let port_specifier = Some(PortSpecifier::PortValue(port));
    let socket = SocketAddress { address: ip.to_owned(), port_specifier, ..SocketAddress::default() };
    Peer { address: Some(Endpoint { address: Some(address::Address::SocketAddress(socket)) }), ..Peer::default() }
}

impl fmt::Display for Authz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy {}, {}", self.settings.policy, self.sent)
    }
}

impl Target for Authz {
    const VERDICTS: &'static [&'static str] = &["OK", "DENIED"];

    fn request(&self, rng: &mut SmallRng) -> (Request<()>, Bytes) {
        let credential = self.sent.draw(rng);
        let (before, after) = &self.template;
        let mut body = BytesMut::with_capacity(before.len() + credential.len() + after.len());
        body.put_slice(before);
        body.put_slice(credential.as_bytes());
        body.put_slice(after);
        (self.head.clone(), body.freeze())
    }

    fn verdict(&self, answer: &Answer) -> Result<&'static str, String> {
        let message = answer.grpc_message()?;
        let response = Response::decode(message).map_err(|error| format!("not a CheckResponse: {error}"))?;
        self.sent.check()?;
        match response.status {
            None | Some(Status { code: 0 }) => Ok("OK"),
            Some(_) => Ok("DENIED"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::fs;
    use std::path::PathBuf;

    use rand::SeedableRng;

    use super::*;
    use crate::keys::Distribution;

    fn settings(credentials: Option<PathBuf>) -> Settings {
        Settings {
            policy: "bench".to_owned(),
            sent: sent::Settings {
                credentials,
                header: "x-api-key".to_owned(),
                prefix: "key ".to_owned(),
                distribution: Distribution::Uniform,
                once: false,
            },
        }
    }

    fn file(folder: &tempfile::TempDir, text: &str) -> PathBuf {
        let path = folder.path().join("credentials");
        fs::write(&path, text).unwrap();
        path
    }

    fn headers(body: &Bytes) -> std::collections::HashMap<String, String> {
        let request = CheckRequest::decode(body.slice(5..)).unwrap().attributes.unwrap().request.unwrap();
        request.http.unwrap().headers
    }

    #[test]
    fn a_request_is_what_a_proxy_sends() {
        let authz = Authz::new(&"http://127.0.0.1:1".parse().unwrap(), &settings(None)).unwrap();
        let (head, body) = authz.request(&mut SmallRng::seed_from_u64(7));
        assert_eq!(head.uri().to_string(), format!("http://127.0.0.1:1{PATH}"));
        assert!((1800..2050).contains(&body.len()), "{} bytes", body.len());
        assert_eq!(headers(&body).len(), 15);
        let attributes = CheckRequest::decode(body.slice(5..)).unwrap().attributes.unwrap();
        assert_eq!(attributes.context_extensions["policy"], "bench");
    }

    #[test]
    fn credentials_are_put_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(Some(file(&folder, "first\nother\n")));
        settings.sent.once = true;
        let authz = Authz::new(&"unix:/s".parse().unwrap(), &settings).unwrap();
        let mut rng = SmallRng::seed_from_u64(7);
        for expected in ["key first", "key other"] {
            assert_eq!(headers(&authz.request(&mut rng).1)["x-api-key"], expected);
        }
        assert_eq!(authz.sent.check(), Ok(()));
        authz.request(&mut rng);
        assert!(authz.sent.check().is_err());
    }

    #[test]
    fn a_file_that_fits_no_template_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "short\nlonger\n"] {
            let settings = settings(Some(file(&folder, text)));
            assert!(
                matches!(
                    Authz::new(&"unix:/s".parse().unwrap(), &settings),
                    Err(Error::Sent(sent::Error::Credentials(_)))
                ),
                "{text:?}"
            );
        }
    }
}

//! Envoy's external authorization, `envoy.service.auth.v3.Authorization/Check`.

use std::fmt;
use std::fs;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address as Endpoint, SocketAddress, address};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer, Request as Attributes};
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use http::Request;
use prost::Message;
use rand::rngs::SmallRng;

use super::{Answer, Target};
use crate::address::Address;
use crate::keys::{Distribution, Keys};

/// The method's path.
pub const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// What the requests hold.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// The policy that the context extensions name
    #[arg(long, default_value = "bench")]
    pub policy: String,
    /// A file with a credential a line, all equally long; `loadtest credentials` writes one
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// The header that carries the credential
    #[arg(long, default_value = "authorization")]
    pub header: String,
    /// What stands before the credential in its header
    #[arg(long, default_value = "")]
    pub prefix: String,
    /// How often each credential is used: uniform, zipf or zipf:EXPONENT
    #[arg(long, default_value_t)]
    pub distribution: Distribution,
    /// Each credential is used once, in their order; a request for which none is left counts as an error
    #[arg(long, conflicts_with = "distribution", requires = "credentials")]
    pub once: bool,
}

/// Requests for authorization: some 1.9 kB with fifteen headers, one of them with a token of 1 kB.
#[derive(Debug)]
pub struct Authz {
    settings: Settings,
    head: Request<()>,
    /// The encoded request up to the credential, and from there on.
    template: (Vec<u8>, Vec<u8>),
    credentials: Vec<String>,
    order: Order,
}

#[derive(Debug)]
enum Order {
    Fixed,
    Drawn(Keys),
    Once(AtomicUsize),
}

/// Why no requests can be made up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The credentials cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file does not fit into a template.
    #[error("{}: wants at least one credential, and all equally long", .0.display())]
    Credentials(PathBuf),
    /// The distribution cannot be drawn from.
    #[error("cannot draw from {0} credentials with distribution {1}")]
    Keys(usize, Distribution),
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

/// What the token is made of in requests whose credential stands elsewhere.
const FILLER: usize = 1065;

/// Stands for the credential in the encoded template.
const SLOT: u8 = b'#';

impl Authz {
    /// Requests to the server at `address`, encoded once: for each request only the credential is put in.
    pub fn new(address: &Address, settings: &Settings) -> Result<Self, Error> {
        let credentials = settings.credentials.as_ref().map_or(Ok(Vec::new()), read)?;
        let width = credentials.first().map_or(0, String::len);
        let order = match credentials.len() {
            0 => Order::Fixed,
            _ if settings.once => Order::Once(AtomicUsize::new(0)),
            count => {
                let fail = || Error::Keys(count, settings.distribution);
                let count = u32::try_from(count).ok().and_then(NonZeroU32::new).ok_or_else(fail)?;
                Order::Drawn(Keys::new(count, settings.distribution).ok_or_else(fail)?)
            }
        };
        Ok(Self {
            head: super::grpc_request(address.authority(), PATH)?,
            template: split(&super::grpc_frame(&check(settings, width)), width),
            settings: settings.clone(),
            credentials,
            order,
        })
    }

    fn credential(&self, rng: &mut SmallRng) -> &str {
        let index = match &self.order {
            Order::Fixed => return "",
            Order::Drawn(keys) => keys.draw(rng) as usize,
            Order::Once(next) => next.fetch_add(1, Ordering::Relaxed) % self.credentials.len(),
        };
        self.credentials.get(index).map_or("", String::as_str)
    }

    /// Whether some credential must have been used a second time.
    fn used_up(&self) -> bool {
        matches!(&self.order, Order::Once(next) if next.load(Ordering::Relaxed) > self.credentials.len())
    }
}

fn read(path: &PathBuf) -> Result<Vec<String>, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let credentials: Vec<_> = text.lines().map(str::to_owned).collect();
    let width = credentials.first().map_or(0, String::len);
    let even = width > 0 && credentials.iter().all(|credential| credential.len() == width);
    if even { Ok(credentials) } else { Err(Error::Credentials(path.clone())) }
}

fn split(frame: &[u8], width: usize) -> (Vec<u8>, Vec<u8>) {
    let slot = vec![SLOT; width];
    let start = frame.windows(width.max(1)).position(|bytes| width > 0 && bytes == slot).unwrap_or(frame.len());
    let (before, rest) = frame.split_at(start);
    (before.to_vec(), rest.get(width..).unwrap_or_default().to_vec())
}

/// What Envoy sends for a browser's request behind a proxy.
fn check(settings: &Settings, width: usize) -> CheckRequest {
    let token = format!("Bearer {}", "t".repeat(FILLER));
    let mut headers: std::collections::HashMap<String, String> = [
        (":authority", "shop.example.com"),
        (":method", "GET"),
        (":path", "/orders/4711?expand=items&page=2"),
        (":scheme", "https"),
        ("accept", "application/json, text/plain, */*"),
        ("accept-encoding", "gzip, deflate, br"),
        ("accept-language", "en-GB,en;q=0.9,de;q=0.7"),
        ("authorization", token.as_str()),
        ("referer", "https://shop.example.com/orders"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
        ("x-envoy-internal", "true"),
        ("x-forwarded-for", "10.4.2.9"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "f2b1c7de-3a55-4a0e-9b43-0c5a6bd0c1f7"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let other = if settings.header == "cookie" { "x-app" } else { "cookie" };
    headers.insert(other.to_owned(), "theme=dark; consent=yes".to_owned());
    if width > 0 {
        let slot = String::from(char::from(SLOT)).repeat(width);
        headers.insert(settings.header.clone(), format!("{}{slot}", settings.prefix));
    }
    let extensions = [("policy", settings.policy.as_str()), ("route", "shop/orders")];
    let http = HttpRequest {
        id: "1407374883553280".to_owned(),
        method: "GET".to_owned(),
        path: "/orders/4711?expand=items&page=2".to_owned(),
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
        let Settings { policy, header, distribution, .. } = &self.settings;
        write!(f, "policy {policy}, ")?;
        match (&self.order, self.credentials.len()) {
            (Order::Fixed, _) => f.write_str("no credentials"),
            (Order::Drawn(_), count) => write!(f, "{count} credentials {distribution} in {header}"),
            (Order::Once(_), count) => write!(f, "{count} credentials once each in {header}"),
        }
    }
}

impl Target for Authz {
    const VERDICTS: &'static [&'static str] = &["OK", "DENIED"];

    fn request(&self, rng: &mut SmallRng) -> (Request<()>, Bytes) {
        let credential = self.credential(rng);
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
        if self.used_up() {
            return Err("no unused credential is left".to_owned());
        }
        match response.status {
            None | Some(Status { code: 0 }) => Ok("OK"),
            Some(_) => Ok("DENIED"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rand::SeedableRng;

    fn settings(credentials: Option<PathBuf>) -> Settings {
        Settings {
            policy: "bench".to_owned(),
            credentials,
            header: "x-api-key".to_owned(),
            prefix: "key ".to_owned(),
            distribution: Distribution::Uniform,
            once: false,
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
        let settings = Settings { once: true, ..settings(Some(file(&folder, "first\nother\n"))) };
        let authz = Authz::new(&"unix:/s".parse().unwrap(), &settings).unwrap();
        let mut rng = SmallRng::seed_from_u64(7);
        for expected in ["key first", "key other"] {
            assert_eq!(headers(&authz.request(&mut rng).1)["x-api-key"], expected);
        }
        assert!(!authz.used_up());
        authz.request(&mut rng);
        assert!(authz.used_up());
    }

    #[test]
    fn a_file_that_fits_no_template_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "short\nlonger\n"] {
            let settings = settings(Some(file(&folder, text)));
            assert!(
                matches!(Authz::new(&"unix:/s".parse().unwrap(), &settings), Err(Error::Credentials(_))),
                "{text:?}"
            );
        }
    }
}

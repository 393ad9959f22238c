//! Requests to issuers and other authorities: bounded in time and size, over HTTP/1.1 or 2, and never redirected.

mod dial;
mod retry;
mod tls;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use proto::extauth::{Backends, Retry};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use self::dial::Dial;
use self::retry::Failure;
pub use self::tls::Unusable;
use crate::background::Background;

/// The largest answer that is read, in bytes.
pub const LARGEST_ANSWER: usize = 1024 * 1024;
/// How long a request may take, from the connection to the last byte of the answer, unless it is said otherwise.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// The most that may be said: a session whose tokens are renewed is locked for thirty seconds.
pub const LONGEST_DEADLINE: Duration = Duration::from_secs(10);

/// How long a connection is kept for the next request. Servers close theirs after 5 s or more: a request that meets the end of its
/// connection would fail, and a code for tokens is good only once.
const LONGEST_IDLE: Duration = Duration::from_secs(2);

/// Why there is no answer. The address is left to the caller, who knows which of its parts are secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// It took longer than [`DEADLINE`], or than was said instead.
    #[error("no answer in time")]
    Timeout,
    /// No connection, or none that can be trusted.
    #[error("cannot be reached: {0}")]
    Connect(String),
    /// The answer broke off, or is larger than [`LARGEST_ANSWER`].
    #[error("the answer cannot be read: {0}")]
    Answer(String),
    /// This process ends.
    #[error("given up at the end of the process")]
    Ended,
}

/// Why no request can be made at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file of further authorities is missing or is no PEM.
    #[error("reading the certificate authorities in {}: {source}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// No protocol version fits.
    #[error("setting up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Makes requests, on connections that all clones share.
#[derive(Clone)]
pub struct Fetch {
    client: Connections,
    roots: Arc<RootCertStore>,
    tls: ClientConfig,
    /// With or without TLS, whatever a URL says.
    scheme: Option<Scheme>,
    deadline: Duration,
    retry: Option<Retry>,
    background: Background,
}

impl Fetch {
    /// Trusts the system's certificate authorities, and those in the PEM file `authorities`.
    pub fn new(background: Background, authorities: Option<&Path>) -> Result<Self, SetupError> {
        let roots = Arc::new(roots(authorities)?);
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&roots))
            .with_no_client_auth();
        let client = client(tls.clone(), None, Dial::anywhere());
        Ok(Self { client, roots, tls, scheme: None, deadline: DEADLINE, retry: None, background })
    }

    /// The same, but connected to one of these whatever a URL says; certificates are still those of the URL's host, unless the
    /// backends say otherwise. The error names the field that cannot be used.
    pub fn at(&self, backends: &Backends) -> Result<Self, Unusable> {
        let addresses = backends.addresses.iter().map(|address| read_address(address)).collect::<Option<Vec<_>>>();
        let addresses = addresses.ok_or_else(|| ("addresses", "has one that is no `HOST:PORT`".to_owned()))?;
        let dial = Dial::to(addresses);
        let (client, scheme) = match &backends.tls {
            Some(_) if backends.plaintext => return Err(("tls", "is of no use with `plaintext`".to_owned())),
            Some(tls) => {
                let name = tls::server_name(tls)?;
                (client(tls::config(tls, &self.roots)?, name, dial), Some(Scheme::HTTPS))
            }
            None => (client(self.tls.clone(), None, dial), backends.plaintext.then_some(Scheme::HTTP)),
        };
        Ok(Self { client, scheme, ..self.clone() })
    }

    /// The same with another deadline, which is [`LONGEST_DEADLINE`] at most, and with further attempts.
    #[must_use]
    pub fn patient(&self, deadline: Option<Duration>, retry: Option<Retry>) -> Self {
        let deadline = deadline.filter(|deadline| !deadline.is_zero()).unwrap_or(LONGEST_DEADLINE);
        Self { deadline: deadline.min(LONGEST_DEADLINE), retry, ..self.clone() }
    }

    /// Sends a request and reads the whole answer, whatever its status. Given up by its caller, it goes on to its end.
    pub async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        if let Some(scheme) = &self.scheme {
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.scheme = Some(scheme.clone());
            *request.uri_mut() = Uri::from_parts(parts).map_err(|e| Error::Connect(e.to_string()))?;
        }
        let (client, retry, deadline) = (self.client.clone(), self.retry.clone(), self.deadline);
        let sending = async move {
            let Some(retry) = retry else { return attempt(&client, request).await };
            let one = Duration::from_millis(retry.per_try_timeout_ms.unwrap_or(u64::MAX));
            let mut outcome = tried(&client, request.clone(), one).await;
            for number in 0..retry.num_retries {
                if !retry::is_due(&retry, &outcome) {
                    break;
                }
                tokio::time::sleep(retry::pause(&retry, number)).await;
                outcome = tried(&client, request.clone(), one).await;
            }
            outcome
        };
        let sending = self.background.spawn(async move { tokio::time::timeout(deadline, sending).await });
        sending.await.map_err(|_| Error::Ended)?.map_err(|_| Error::Timeout)?.map_err(|failure| failure.error)
    }
}

/// An attempt with a deadline of its own.
async fn tried(
    connections: &Connections,
    request: Request<Bytes>,
    deadline: Duration,
) -> Result<Response<Bytes>, Failure> {
    let attempt = tokio::time::timeout(deadline, attempt(connections, request)).await;
    attempt.unwrap_or(Err(Failure { error: Error::Timeout, unsent: false }))
}

async fn attempt(connections: &Connections, request: Request<Bytes>) -> Result<Response<Bytes>, Failure> {
    let answer = connections.request(request.map(Full::new)).await;
    let answer = answer.map_err(|e| Failure { unsent: e.is_connect(), error: Error::Connect(chain(&e)) })?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, LARGEST_ANSWER).collect().await;
    let body = body.map_err(|e| Failure { error: Error::Answer(chain(&*e)), unsent: false })?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

impl fmt::Debug for Fetch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Fetch").finish_non_exhaustive()
    }
}

/// An address as a URL, of which only the authority counts.
fn read_address(address: &str) -> Option<Uri> {
    let (host, port) = address.rsplit_once(':')?;
    let plain = !host.is_empty() && !host.contains(['/', '@', '?', '#']) && port.parse::<u16>().is_ok();
    format!("http://{address}/").parse().ok().filter(|_| plain)
}

type Connections = Client<HttpsConnector<Dial>, Full<Bytes>>;

/// Asks for `name` over TLS, or for the URL's host.
fn client(tls: ClientConfig, name: Option<ServerName<'static>>, dial: Dial) -> Connections {
    let mut https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    if let Some(name) = name {
        https = https.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let connector = https.enable_http1().enable_http2().wrap_connector(dial);
    Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(LONGEST_IDLE).build(connector)
}

/// The system's authorities that can be used, and all in the file.
fn roots(authorities: Option<&Path>) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "some certificate authorities of the system are not trusted");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = authorities {
        let fail = |source| SetupError::Authorities { path: path.to_owned(), source };
        for certificate in CertificateDer::pem_file_iter(path).map_err(fail)? {
            roots.add(certificate.map_err(fail)?)?;
        }
    }
    Ok(roots)
}

/// An error with its causes: the outermost alone says "client error".
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

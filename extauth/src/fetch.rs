//! Requests to issuers and other authorities: bounded in time and size, over HTTP/1.1 or 2, and never redirected.

mod dial;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use proto::extauth::Backends;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{ClientConfig, RootCertStore};

use self::dial::Dial;
use crate::background::Background;

/// The largest answer that is read, in bytes.
pub const LARGEST_ANSWER: usize = 1024 * 1024;
/// How long a request may take, from the connection to the last byte of the answer.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// How long a connection is kept for the next request. Servers close theirs after 5 s or more: a request that meets the end of its
/// connection would fail, and a code for tokens is good only once.
const LONGEST_IDLE: Duration = Duration::from_secs(2);

/// Why there is no answer. The address is left to the caller, who knows which of its parts are secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// It took longer than [`DEADLINE`].
    #[error("no answer within {} s", DEADLINE.as_secs())]
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
    client: Client<HttpsConnector<Dial>, Full<Bytes>>,
    tls: ClientConfig,
    /// No TLS, whatever a URL says.
    plaintext: bool,
    background: Background,
}

impl Fetch {
    /// Trusts the system's certificate authorities, and those in the PEM file `authorities`.
    pub fn new(background: Background, authorities: Option<&Path>) -> Result<Self, SetupError> {
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(authorities)?)
            .with_no_client_auth();
        Ok(Self { client: client(tls.clone(), Dial::anywhere()), tls, plaintext: false, background })
    }

    /// The same, but connected to one of these whatever a URL says; certificates are still those of the URL's host. `None` when
    /// an address is none.
    pub fn at(&self, backends: &Backends) -> Option<Self> {
        let addresses = backends.addresses.iter().map(|address| read_address(address)).collect::<Option<Vec<_>>>()?;
        let client = client(self.tls.clone(), Dial::to(addresses));
        Some(Self { client, plaintext: backends.plaintext, ..self.clone() })
    }

    /// Sends a request and reads the whole answer, whatever its status. Given up by its caller, it goes on to its end.
    pub async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        if self.plaintext {
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.scheme = Some(Scheme::HTTP);
            *request.uri_mut() = Uri::from_parts(parts).map_err(|e| Error::Connect(e.to_string()))?;
        }
        let client = self.client.clone();
        let sending = async move {
            let answer = client.request(request.map(Full::new)).await.map_err(|e| Error::Connect(chain(&e)))?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|e| Error::Answer(chain(&*e)))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        let sending = self.background.spawn(async move { tokio::time::timeout(DEADLINE, sending).await });
        sending.await.map_err(|_| Error::Ended)?.map_err(|_| Error::Timeout)?
    }
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

fn client(tls: ClientConfig, dial: Dial) -> Client<HttpsConnector<Dial>, Full<Bytes>> {
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().enable_http2();
    let connector = https.wrap_connector(dial);
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

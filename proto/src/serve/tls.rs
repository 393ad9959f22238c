//! TLS for a listener's connections, from PEM files that may change while it serves.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig, ServerConnection};
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::directory::Changes;

mod client;

/// Where certificates and key are, as PEM.
#[derive(Clone, Debug)]
pub struct Files {
    /// The server's certificate and those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of clients. With it, a client must have a certificate of one of them; there is no other it may be of.
    pub client_ca: Option<PathBuf>,
    /// DNS name or IP address that a client's own certificate must be for.
    pub client_san: Option<String>,
}

/// Why files do not make a TLS server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing, or not PEM of the kind it must be.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// There is nothing in the file with the authorities.
    #[error("{} has no certificate", .0.display())]
    NoAuthority(PathBuf),
    /// The certificate is none, or the key is not that of the certificate.
    #[error("using certificate and key: {0}")]
    Pair(#[from] rustls::Error),
    /// The authorities cannot be used.
    #[error("using the authorities of clients: {0}")]
    Clients(#[from] VerifierBuilderError),
    /// Nobody can be called so.
    #[error("`{0}` is no DNS name or IP address that a client's certificate may be for")]
    Name(String),
    /// A name is asked of certificates that nobody has to show.
    #[error("a client's name is verified only with a file of the authorities of clients")]
    NameWithoutAuthority,
}

/// Certificates and key in force. Clones share them.
#[derive(Clone, Debug)]
pub struct Tls {
    files: Files,
    config: Arc<ArcSwap<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    pub fn load(files: Files) -> Result<Self, Error> {
        let config = Arc::new(ArcSwap::from_pointee(server_config(&files)?));
        Ok(Self { files, config })
    }

    /// Takes up what changes in the files, for as long as it is polled. Files that cannot be used are logged, and what was
    /// read before them stays in force; so do connections.
    pub async fn follow(self) {
        let mut changes = Changes::of(self.files.cert.parent().unwrap_or(Path::new(".")));
        let mut seen = None;
        loop {
            changes.watch();
            let now = self.texts().await;
            // What was loaded before the first look may have changed since.
            if seen.as_ref() != Some(&now) {
                self.reload();
                seen = Some(now);
            }
            changes.wait().await;
        }
    }

    fn reload(&self) {
        match server_config(&self.files) {
            Ok(config) => {
                self.config.store(Arc::new(config));
                tracing::info!(cert = %self.files.cert.display(), "certificates loaded");
            }
            Err(error) => tracing::error!(%error, "certificates not loaded; the last good ones stay in force"),
        }
    }

    async fn texts(&self) -> Vec<Option<Vec<u8>>> {
        let mut texts = Vec::new();
        for path in [Some(&self.files.cert), Some(&self.files.key), self.files.client_ca.as_ref()].into_iter().flatten()
        {
            texts.push(tokio::fs::read(path).await.ok());
        }
        texts
    }

    /// The connection behind its handshake, or why there is none.
    pub(super) async fn accept<I: AsyncRead + AsyncWrite + Unpin>(&self, io: I) -> io::Result<TlsStream<I>> {
        TlsAcceptor::from(self.config.load_full()).accept(io).await
    }
}

/// DNS names and URIs of the certificate that a client has shown, which the handshake has verified. Among the DNS names may be a
/// wildcard with a single label behind it, such as `*.envoy-gateway-system`, which names no server but does name clients.
pub(super) fn client_names(connection: &ServerConnection) -> Vec<String> {
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    let parsed = certificate.and_then(|certificate| X509Certificate::from_der(certificate).ok());
    let names = parsed.as_ref().and_then(|(_, parsed)| parsed.subject_alternative_name().ok().flatten());
    let names = names.iter().flat_map(|names| &names.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect()
}

fn server_config(files: &Files) -> Result<ServerConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &files.client_ca {
        Some(ca) => builder.with_client_cert_verifier(client_verifier(ca, files.client_san.as_deref(), &provider)?),
        None if files.client_san.is_some() => return Err(Error::NameWithoutAuthority),
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(&files.key);
    let key = key.map_err(|source| Error::Read { path: files.key.clone(), source })?;
    let mut config = builder.with_single_cert(certificates(&files.cert)?, key)?;
    config.alpn_protocols.push(b"h2".to_vec());
    // A resumed session would not look at the client's certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_verifier(
    ca: &Path,
    san: Option<&str>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(ca)? {
        roots.add(authority)?;
    }
    if roots.is_empty() {
        return Err(Error::NoAuthority(ca.to_owned()));
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build()?;
    let Some(san) = san else { return Ok(verifier) };
    let san = ServerName::try_from(san.to_owned()).map_err(|_| Error::Name(san.to_owned()))?;
    Ok(Arc::new(client::Named::new(verifier, san)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|source| Error::Read { path: path.to_owned(), source })
}

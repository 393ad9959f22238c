//! TLS where Envoy asks.

use std::path::PathBuf;

use clap::Args;
use proto::serve::tls::Files;

/// Certificates of the ports where Envoy asks; the files are followed while they change.
#[derive(Args, Clone, Debug)]
pub struct Tls {
    /// Serve Envoy over TLS only.
    #[arg(long, env = "EXTAUTH_GRPC_SERVER_USE_TLS", requires_all = ["grpc_server_tls_cert", "grpc_server_tls_key"])]
    pub grpc_server_use_tls: bool,
    /// PEM file with the server's certificate.
    #[arg(long, env = "EXTAUTH_GRPC_SERVER_TLS_CERT")]
    pub grpc_server_tls_cert: Option<PathBuf>,
    /// PEM file with its private key.
    #[arg(long, env = "EXTAUTH_GRPC_SERVER_TLS_KEY")]
    pub grpc_server_tls_key: Option<PathBuf>,
    /// PEM file with the certificate authorities of clients; with it, clients must have a certificate.
    #[arg(long, env = "EXTAUTH_GRPC_CLIENT_TLS_CACERT", requires = "grpc_server_use_tls")]
    pub grpc_client_tls_cacert: Option<PathBuf>,
    /// Name that a client's certificate must have.
    #[arg(long, env = "EXTAUTH_GRPC_CLIENT_TLS_SAN", requires = "grpc_client_tls_cacert")]
    pub grpc_client_tls_san: Option<String>,
}

impl Tls {
    /// The files to serve with; nothing without TLS.
    pub fn files(&self) -> Option<Files> {
        let (cert, key) = (self.grpc_server_tls_cert.clone()?, self.grpc_server_tls_key.clone()?);
        self.grpc_server_use_tls.then(|| Files {
            cert,
            key,
            client_ca: self.grpc_client_tls_cacert.clone(),
            client_san: self.grpc_client_tls_san.clone(),
        })
    }
}

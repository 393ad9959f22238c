//! TLS on the gRPC port.

use std::path::PathBuf;

use clap::{ArgAction::Set, Args};
use proto::serve::tls;

use super::{Error, go};
use crate::clients::Clients;

#[expect(clippy::struct_field_names, reason = "the names are those of the settings")]
/// Certificates of the gRPC port; they are followed while they change.
#[derive(Args, Clone, Debug)]
pub struct Tls {
    /// Serve gRPC over TLS
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    grpc_server_use_tls: bool,
    /// PEM file with the server's certificate
    #[arg(long, env, default_value = "")]
    grpc_server_tls_cert: String,
    /// PEM file with its private key
    #[arg(long, env, default_value = "")]
    grpc_server_tls_key: String,
    /// PEM file with the certificate authorities of clients; with it, clients must have a certificate
    #[arg(long, env, default_value = "")]
    grpc_client_tls_cacert: String,
    /// Name that a client's certificate must have
    #[arg(long, env, default_value = "")]
    grpc_client_tls_san: String,
    /// Who may ask for which domains, as SAN=DOMAIN pairs, each with any number of *; empty lets all ask for all
    #[arg(long, env, default_value = "", value_parser = domains)]
    grpc_client_domains: Domains,
}

/// Names of clients and the domains they may ask for.
#[derive(Clone, Debug, Default)]
struct Domains(Vec<(String, String)>);

fn domains(text: &str) -> Result<Domains, String> {
    let pairs = go::pairs(text, '=')?;
    Ok(Domains(pairs.into_iter().map(|(name, domain)| (name.to_owned(), domain.to_owned())).collect()))
}

impl Tls {
    pub(super) fn validate(&self) -> Result<(), Error> {
        if self.grpc_server_use_tls && (self.grpc_server_tls_cert.is_empty() || self.grpc_server_tls_key.is_empty()) {
            let reason = "GRPC_SERVER_TLS_CERT and GRPC_SERVER_TLS_KEY do not say with which certificate";
            return Err(Error::refused("GRPC_SERVER_USE_TLS", reason));
        }
        if !self.grpc_client_domains.0.is_empty()
            && (!self.grpc_server_use_tls || self.grpc_client_tls_cacert.is_empty())
        {
            let reason = "GRPC_SERVER_USE_TLS and GRPC_CLIENT_TLS_CACERT do not ask clients for a certificate";
            return Err(Error::refused("GRPC_CLIENT_DOMAINS", reason));
        }
        Ok(())
    }

    /// Who may ask for which domains.
    pub fn clients(&self) -> Clients {
        Clients::new(self.grpc_client_domains.0.iter().map(|(name, domain)| (name.as_str(), domain.as_str())))
    }

    /// The files to serve with; nothing without TLS.
    pub fn files(&self) -> Option<tls::Files> {
        self.grpc_server_use_tls.then(|| tls::Files {
            cert: PathBuf::from(&self.grpc_server_tls_cert),
            key: PathBuf::from(&self.grpc_server_tls_key),
            client_ca: set(&self.grpc_client_tls_cacert).map(PathBuf::from),
            client_san: set(&self.grpc_client_tls_san),
        })
    }
}

fn set(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

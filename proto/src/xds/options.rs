//! Where the xDS server is and how it is spoken to, under the names of `envoyproxy/ratelimit`.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::{ArgAction::Set, Args};
use envoy_types::pb::{
    envoy::config::core::v3::Node,
    google::protobuf::{Struct, Value, value::Kind},
};
use tonic::{
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use super::{Client, Error, backoff::Backoff};
use crate::go;

/// A server that does not take the connection within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which the kernel asks whether the server is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Bytes of a response, unless set otherwise.
const MAX_MESSAGE_SIZE: usize = 4 << 20;

/// How to reach the xDS server.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// HOST:PORT of the xDS server
    #[arg(long, env, default_value = "localhost:18000")]
    config_grpc_xds_server_url: String,
    /// This client's node.id
    #[arg(long, env, default_value = "default")]
    config_grpc_xds_node_id: String,
    /// This client's node.metadata: KEY=VALUE,KEY=VALUE
    #[arg(long, env, default_value = "", value_parser = node_metadata)]
    config_grpc_xds_node_metadata: Struct,
    /// Metadata of the stream: KEY:VALUE,KEY:VALUE
    #[arg(long, env, default_value = "", hide_env_values = true, value_parser = headers)]
    config_grpc_xds_client_additional_headers: MetadataMap,
    /// Pause between attempts to connect, give or take half
    #[arg(long, env, default_value = "3s", value_parser = go::duration)]
    config_grpc_xds_server_connect_retry_interval: Duration,
    /// Speak TLS
    #[arg(long, env, default_value = "false", action = Set, value_parser = go::boolean)]
    config_grpc_xds_server_use_tls: bool,
    /// PEM file with the certificate authorities of the server [default: those of the system]
    #[arg(long, env, default_value = "")]
    config_grpc_xds_server_tls_cacert: String,
    /// Name that the server's certificate must have [default: the server's host]
    #[arg(long, env, default_value = "")]
    config_grpc_xds_server_tls_san: String,
    /// PEM file with this client's certificate
    #[arg(long, env, default_value = "")]
    config_grpc_xds_client_tls_cert: String,
    /// PEM file with its private key
    #[arg(long, env, default_value = "")]
    config_grpc_xds_client_tls_key: String,
    /// Pause after a stream has ended; it doubles until the server speaks again
    #[arg(long, env, default_value = "10s", value_parser = go::duration)]
    xds_client_backoff_initial_interval: Duration,
    /// Longest such pause
    #[arg(long, env, default_value = "60s", value_parser = go::duration)]
    xds_client_backoff_max_interval: Duration,
    /// Share of such a pause by which it varies, from 0 to 1
    #[arg(long, env, default_value = "0.5", value_parser = go::share::<f64>)]
    xds_client_backoff_random_factor: f64,
    /// Whether such pauses vary
    #[arg(long, env, default_value = "true", action = Set, value_parser = go::boolean)]
    xds_client_backoff_jitter: bool,
    /// Directory that keeps the last good configuration for a start while the xDS server is away; none if empty
    #[arg(long, env, default_value = "")]
    config_grpc_xds_state_dir: String,
    /// Largest response in bytes; 0 is 4 MiB
    #[arg(long, env, default_value = "0", value_parser = go::count)]
    xds_client_max_msg_size_in_bytes: usize,
}

impl Options {
    /// Who this client says it is.
    pub fn node(&self) -> Node {
        let metadata = Some(self.config_grpc_xds_node_metadata.clone());
        Node {
            id: self.config_grpc_xds_node_id.clone(),
            metadata: metadata.filter(|metadata| !metadata.fields.is_empty()),
            ..Default::default()
        }
    }

    /// Metadata for the beginning of a stream.
    pub fn additional_headers(&self) -> MetadataMap {
        self.config_grpc_xds_client_additional_headers.clone()
    }

    /// Pause between attempts to connect, and before a server that insists on what was refused is answered.
    pub fn connect_retry_interval(&self) -> Duration {
        self.config_grpc_xds_server_connect_retry_interval
    }

    /// Where the last good configuration is kept, if anywhere.
    pub fn state_dir(&self) -> Option<PathBuf> {
        (!self.config_grpc_xds_state_dir.is_empty()).then(|| PathBuf::from(&self.config_grpc_xds_state_dir))
    }

    fn max_message_size(&self) -> usize {
        match self.xds_client_max_msg_size_in_bytes {
            0 => MAX_MESSAGE_SIZE,
            bytes => bytes,
        }
    }

    pub(super) fn backoff(&self) -> Backoff {
        let jitter = if self.xds_client_backoff_jitter { self.xds_client_backoff_random_factor } else { 0.0 };
        Backoff::new(self.xds_client_backoff_initial_interval, self.xds_client_backoff_max_interval, jitter)
    }

    /// Connects, with certificates as they are now.
    pub(super) async fn connect(&self) -> Result<Client, Error> {
        let channel = self.endpoint()?.connect().await.map_err(Error::Connect)?;
        Ok(Client::new(channel).max_decoding_message_size(self.max_message_size()))
    }

    /// Refuses what never can connect. Reads the certificates.
    pub fn check(&self) -> Result<(), Error> {
        self.endpoint().map(drop)
    }

    fn endpoint(&self) -> Result<Endpoint, Error> {
        let url = &self.config_grpc_xds_server_url;
        let scheme = if self.config_grpc_xds_server_use_tls { "https" } else { "http" };
        let address = url.strip_prefix("dns:///").unwrap_or(url);
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"));
        let endpoint = endpoint.map_err(|_| Error::Target(url.clone()))?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_keepalive(Some(KEEPALIVE));
        if !self.config_grpc_xds_server_use_tls {
            return Ok(endpoint);
        }
        endpoint.tls_config(self.tls()?).map_err(Error::Tls)
    }

    fn tls(&self) -> Result<ClientTlsConfig, Error> {
        let mut tls = match self.config_grpc_xds_server_tls_cacert.as_str() {
            "" => ClientTlsConfig::new().with_native_roots(),
            path => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        };
        let (cert, key) = (&self.config_grpc_xds_client_tls_cert, &self.config_grpc_xds_client_tls_key);
        if !cert.is_empty() || !key.is_empty() {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        if !self.config_grpc_xds_server_tls_san.is_empty() {
            tls = tls.domain_name(&self.config_grpc_xds_server_tls_san);
        }
        Ok(tls)
    }
}

fn read(path: &str) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: Path::new(path).to_owned(), source })
}

fn node_metadata(text: &str) -> Result<Struct, String> {
    let string = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = go::pairs(text, '=')?.into_iter().map(|(key, value)| (key.to_owned(), string(value)));
    Ok(Struct { fields: fields.collect::<HashMap<_, _>>() })
}

fn headers(text: &str) -> Result<MetadataMap, String> {
    let mut headers = MetadataMap::new();
    for (key, value) in go::pairs(text, ':')? {
        let key = MetadataKey::from_str(key).map_err(|_| "a key is no header's name")?;
        let mut value = MetadataValue::from_str(value).map_err(|_| "a value is no header's value")?;
        // It may be a token.
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Result<Options, clap::Error> {
        Program::try_parse_from([&["x"], arguments].concat()).map(|program| program.options)
    }

    #[test]
    fn the_node_is_what_the_settings_say() {
        let options = options(&["--config-grpc-xds-node-id", "a", "--config-grpc-xds-node-metadata", "k=v:1,l=w=2"]);
        let node = options.unwrap().node();
        assert_eq!(node.id, "a");
        let fields = node.metadata.unwrap().fields;
        assert_eq!(fields["k"].kind, Some(Kind::StringValue("v:1".into())));
        assert_eq!(fields["l"].kind, Some(Kind::StringValue("w=2".into())));
    }

    #[test]
    fn headers_are_sent_and_not_shown() {
        let options = options(&["--config-grpc-xds-client-additional-headers", "authorization: s3cret,x-a:b"]).unwrap();
        assert_eq!(options.additional_headers().get("authorization").unwrap(), "s3cret");
        assert_eq!(options.additional_headers().get("x-a").unwrap(), "b");
        assert!(!format!("{options:?}").contains("s3cret"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (flag, value) in [
            ("--config-grpc-xds-node-metadata", "a"),
            ("--config-grpc-xds-client-additional-headers", "a b:c"),
            ("--xds-client-backoff-random-factor", "2"),
        ] {
            assert!(options(&[flag, value]).is_err(), "{flag} {value}");
        }
        let target = options(&["--config-grpc-xds-server-url", "a b"]).unwrap().endpoint();
        assert!(matches!(target, Err(Error::Target(_))));
        let unreadable = ["--config-grpc-xds-server-use-tls", "1", "--config-grpc-xds-server-tls-cacert", "/none"];
        assert!(matches!(options(&unreadable).unwrap().endpoint(), Err(Error::Read { .. })));
    }
}

//! One way in: credentials and certificates, read at each attempt.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, aio::MultiplexedConnection,
};
use tokio::time::Instant;

use super::{
    gate::Gate,
    options::{Connections, Secret, Tls, read},
    wire::{Role, Wire},
};

/// How long one attempt to connect may take. Charges do not wait for it, they have their own deadline.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What is needed to connect to each server of one Redis, or to its Sentinels.
#[derive(Clone, Default)]
pub(super) struct Login {
    /// From the URL.
    pub(super) given: RedisConnectionInfo,
    pub(super) auth: Option<Secret>,
    pub(super) tls: Option<Tls>,
    pub(super) gate: Arc<Gate>,
    pub(super) connections: Connections,
}

/// An attempt that failed.
pub(super) struct Refused {
    pub(super) error: RedisError,
    /// No sooner, because of the credentials.
    pub(super) retry_at: Option<Instant>,
}

impl From<RedisError> for Refused {
    fn from(error: RedisError) -> Self {
        Self { error, retry_at: None }
    }
}

impl Login {
    /// Connects, and asks the server for its role or, where that is not allowed, for a sign of life.
    pub(super) async fn connect(&self, address: &ConnectionAddr) -> Result<(Wire, Role), Refused> {
        let pass =
            self.gate.enter().await.map_err(|shut| Refused { error: shut.reason, retry_at: Some(shut.until) })?;
        // Replies are awaited by those who ask, each with a deadline of its own.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let attempt = async {
            let wire = Wire::open(self.client(address).await?, &config, self.connections).await?;
            let role = wire.role().await?;
            Ok((wire, role))
        };
        let timed_out = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await.unwrap_or_else(|_| Err(timed_out())) {
            Ok(connected) => {
                pass.accepted();
                Ok(connected)
            }
            Err(error) => Err(Refused { retry_at: pass.failed(&error), error }),
        }
    }

    /// A plain connection, for a Sentinel or a look at one server.
    pub(super) async fn connect_plainly(&self, address: &ConnectionAddr) -> Result<MultiplexedConnection, Refused> {
        let plain = Self { connections: Connections::Multiplexed, ..self.clone() };
        match plain.connect(address).await? {
            (Wire::Multiplexed(connection), _) => Ok(connection),
            (Wire::Pooled(_), _) => unreachable!("it was asked for one connection"),
        }
    }

    /// With what the files say now.
    pub(super) async fn client(&self, address: &ConnectionAddr) -> RedisResult<Client> {
        let mut redis = self.given.clone().set_skip_set_lib_name();
        if let Some(auth) = &self.auth {
            redis = auth.apply(redis).await?;
        }
        let info: ConnectionInfo = address.clone().into_connection_info()?.set_redis_settings(redis);
        let tls = match address {
            ConnectionAddr::TcpTls { .. } => Some(self.tls.clone().unwrap_or_default()),
            _ => None,
        };
        let Some(tls) = tls else { return Client::open(info) };
        let root_cert = match &tls.ca {
            Some(path) => Some(read(path).await?),
            None => None,
        };
        let client_tls = match &tls.client {
            Some((cert, key)) => Some(ClientTlsConfig { client_cert: read(cert).await?, client_key: read(key).await? }),
            None => None,
        };
        let client = Client::build_with_tls(info, TlsCertificates { client_tls, root_cert })?;
        if !tls.skip_name {
            return Ok(client);
        }
        let info = client.get_connection_info().clone();
        let mut address = info.addr().clone();
        address.set_danger_accept_invalid_hostnames(true);
        Client::open(info.set_addr(address))
    }

    /// Where `host` and `port` are, with TLS if this login has it.
    pub(super) fn address(&self, host: &str, port: u16) -> ConnectionAddr {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        match self.tls {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        }
    }

    /// An address from the URL, with TLS if this login has it.
    pub(super) fn secured(&self, address: &ConnectionAddr) -> ConnectionAddr {
        match address {
            ConnectionAddr::Tcp(host, port) => self.address(host, *port),
            address => address.clone(),
        }
    }
}

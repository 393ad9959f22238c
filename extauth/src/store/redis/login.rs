//! One way in: credentials and certificates, read anew for each set of connections.

use std::path::Path;

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, RedisResult,
    TlsCertificates,
};
use secrecy::ExposeSecret as _;

use super::options::{Access, Secret, Tls};

/// What is needed to connect to each server of one Redis, or to its Sentinels.
#[derive(Clone, Default)]
pub(super) struct Login {
    /// From the URL.
    given: RedisConnectionInfo,
    auth: Option<Secret>,
    tls: Option<Tls>,
}

impl Login {
    /// The servers' own: what the URL of one of them says, and what is said besides.
    pub(super) fn servers(access: &Access, server: &ConnectionInfo) -> Self {
        let secure = matches!(server.addr(), ConnectionAddr::TcpTls { .. });
        Self {
            given: server.redis_settings().clone(),
            auth: access.auth.clone(),
            tls: access.tls.clone().or_else(|| secure.then(Tls::default)),
        }
    }

    /// To the servers that Sentinels name, and to the Sentinels.
    pub(super) fn with_sentinels(access: &Access, sentinel: Option<&ConnectionInfo>) -> (Self, Self) {
        let asking = sentinel.map(|sentinel| Self::servers(access, sentinel)).unwrap_or_default();
        let servers =
            Self { given: RedisConnectionInfo::default(), auth: access.auth.clone(), tls: asking.tls.clone() };
        (servers, Self { auth: access.sentinel_auth.clone(), ..asking })
    }

    /// What to connect to, with what the files say now.
    pub(super) async fn info(&self, address: &ConnectionAddr) -> RedisResult<ConnectionInfo> {
        let info = self.secured(address).into_connection_info()?.set_redis_settings(self.settings().await?);
        Ok(match self.certificates().await? {
            Some(certificates) if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) => {
                Client::build_with_tls(info, certificates)?.get_connection_info().clone()
            }
            _ => info,
        })
    }

    /// User and password.
    pub(super) async fn settings(&self) -> RedisResult<RedisConnectionInfo> {
        let given = self.given.clone().set_skip_set_lib_name();
        let text = match &self.auth {
            None => return Ok(given),
            Some(Secret::Text(text)) => text.expose_secret().to_owned(),
            Some(Secret::File(path)) => String::from_utf8(read(path).await?)
                .map_err(|_| std::io::Error::other(format!("{} is not text", path.display())))?,
        };
        Ok(match text.trim().split_once(':') {
            Some((user, password)) => given.set_username(user).set_password(password),
            None => given.set_password(text.trim()),
        })
    }

    /// The certificates of both sides, if TLS is spoken.
    pub(super) async fn certificates(&self) -> RedisResult<Option<TlsCertificates>> {
        let Some(tls) = &self.tls else { return Ok(None) };
        let root_cert = match &tls.ca {
            Some(path) => Some(read(path).await?),
            None => None,
        };
        let client_tls = match &tls.client {
            Some((cert, key)) => Some(ClientTlsConfig { client_cert: read(cert).await?, client_key: read(key).await? }),
            None => None,
        };
        Ok(Some(TlsCertificates { client_tls, root_cert }))
    }

    /// The same address, with TLS if this login has it.
    pub(super) fn secured(&self, address: &ConnectionAddr) -> ConnectionAddr {
        match address {
            ConnectionAddr::Tcp(host, port) if self.tls.is_some() => {
                ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
            }
            address => address.clone(),
        }
    }
}

/// A file's content; errors name the file.
async fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let named =
        |error: std::io::Error| std::io::Error::new(error.kind(), format!("reading {}: {error}", path.display()));
    tokio::fs::read(path).await.map_err(named)
}

//! Connections to a cluster, as the pool makes and keeps them.

use std::time::Duration;

use deadpool::managed::{self, Metrics, RecycleResult};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::{ConnectionInfo, RedisError, RedisResult};

use super::login::Login;

/// What deadpool-redis has no way to tell its own: the certificates, and the bounds in time.
#[derive(Debug)]
pub(super) struct Manager(ClusterClient);

impl Manager {
    pub(super) async fn open(nodes: &[ConnectionInfo], login: &Login, timeout: Duration) -> RedisResult<Self> {
        let settings = login.settings().await?;
        let nodes = nodes.iter().map(|node| {
            let address = login.secured(node.addr());
            node.clone().set_addr(address).set_redis_settings(settings.clone())
        });
        // The callers decide what to do about a failure: nothing is sent twice.
        let builder = ClusterClientBuilder::new(nodes.collect::<Vec<_>>())
            .retries(3)
            .connection_timeout(timeout)
            .response_timeout(timeout)
            .overall_response_timeout(Some(timeout));
        let builder = match login.certificates().await? {
            Some(certificates) => builder.certs(certificates),
            None => builder,
        };
        builder.build().map(Self)
    }
}

impl managed::Manager for Manager {
    type Type = ClusterConnection;
    type Error = RedisError;

    async fn create(&self) -> RedisResult<ClusterConnection> {
        self.0.get_async_connection().await
    }

    /// It follows its cluster by itself.
    async fn recycle(&self, _: &mut ClusterConnection, _: &Metrics) -> RecycleResult<RedisError> {
        Ok(())
    }
}

//! Every address this process listens on.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use proto::{
    drain::Signal,
    metrics,
    serve::{self, Address, Grpc, Listener},
};
use tokio::task::JoinSet;
use tonic::service::Routes;

use super::{Error, Options, admin::Admin, services::Services};
use crate::{ads, echo, error::chain};

/// The sockets that Envoy finds our services on.
#[derive(Clone, Debug)]
pub(super) struct Sockets {
    pub(super) xds: PathBuf,
    pub(super) rate_limit: PathBuf,
    pub(super) extauth: PathBuf,
}

impl Sockets {
    pub(super) fn below(directory: &Path) -> Self {
        let path = |name| directory.join(name);
        Self { xds: path("xds.sock"), rate_limit: path("ratelimit.sock"), extauth: path("extauth.sock") }
    }
}

/// All listeners, bound, so that an address in use is known before anything starts.
#[derive(Debug)]
pub(super) struct Servers {
    xds: Listener,
    rate_limit: Listener,
    extauth: Listener,
    admin: Listener,
    echo: Option<Listener>,
}

impl Servers {
    pub(super) fn bind(options: &Options, sockets: &Sockets) -> Result<Self, Error> {
        let unix = |path: &PathBuf| Listener::bind(&Address::Unix(path.clone()));
        let tcp = |address: SocketAddr| Listener::bind(&Address::Tcp(address));
        Ok(Self {
            xds: unix(&sockets.xds)?,
            rate_limit: unix(&sockets.rate_limit)?,
            extauth: unix(&sockets.extauth)?,
            admin: tcp(options.admin)?,
            echo: options.echo.0.map(tcp).transpose()?,
        })
    }

    /// Where the admin server and the echo backend are.
    pub(super) fn addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let tcp = |listener: &Listener| match listener.address() {
            Ok(Address::Tcp(address)) => Some(address),
            _ => None,
        };
        (tcp(&self.admin), self.echo.as_ref().and_then(tcp))
    }

    /// Serves on all of them until `signal`.
    pub(super) fn start(
        self,
        options: &Options,
        cache: ads::Cache,
        services: &Services,
        admin: Admin,
        signal: &Signal,
    ) -> Running {
        let mut running = Running::default();
        let discovery = Routes::new(ads::Server::new(cache, signal.clone()));
        running.add("the xDS server", Grpc::new(self.xds).serve(discovery, signal.clone()));
        let rate_limit = services.clone().rate_limit(self.rate_limit, options.redis.clone(), signal.clone());
        running.add("ratelimit", rate_limit);
        running.add("extauth", services.clone().extauth(self.extauth, signal.clone()));
        let router = admin.router(metrics::install());
        running.add("the admin server", serve::http(self.admin, router, signal.clone()));
        if let Some(listener) = self.echo {
            running.add("the echo backend", echo::serve(listener, "echo", signal.clone()));
        }
        running
    }
}

/// Servers at work.
#[derive(Debug, Default)]
pub(super) struct Running(JoinSet<Result<(), Error>>);

impl Running {
    fn add<E: std::error::Error>(
        &mut self,
        name: &'static str,
        server: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.0.spawn(async move { server.await.map_err(|error| Error::Service { name, reason: chain(&error) }) });
    }

    /// Waits for a server to fail, which none should.
    pub(super) async fn failure(&mut self) -> Error {
        loop {
            match self.0.join_next().await {
                Some(Ok(Err(error))) => return error,
                Some(Err(panic)) => return Error::Service { name: "a server", reason: panic.to_string() },
                Some(Ok(Ok(()))) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until all have answered what was in flight.
    pub(super) async fn end(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

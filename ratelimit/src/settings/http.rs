//! HTTP endpoints.

use std::net::{IpAddr, SocketAddr};

use clap::Args;

/// HTTP endpoints.
#[derive(Args, Clone, Debug)]
pub struct Http {
    /// Address of /healthcheck and /json
    #[arg(long, env, default_value = "0.0.0.0")]
    pub host: IpAddr,
    /// Port of /healthcheck and /json
    #[arg(long, env, default_value_t = 8080)]
    pub port: u16,
    /// Address of /rlconfig
    #[arg(long, env, default_value = "0.0.0.0")]
    pub debug_host: IpAddr,
    /// Port of /rlconfig
    #[arg(long, env, default_value_t = 6070)]
    pub debug_port: u16,
}

impl Http {
    /// Where `/healthcheck` and `/json` are served.
    pub fn address(&self) -> SocketAddr {
        (self.host, self.port).into()
    }

    /// Where `/rlconfig` is served.
    pub fn debug_address(&self) -> SocketAddr {
        (self.debug_host, self.debug_port).into()
    }
}

//! HTTP endpoints.

use std::net::{IpAddr, SocketAddr};

use clap::Args;

use super::go;

/// HTTP endpoints.
#[derive(Args, Clone, Debug)]
pub struct Http {
    /// Address of /healthcheck and /json
    #[arg(long, env, default_value = "0.0.0.0", value_parser = go::host)]
    pub host: IpAddr,
    /// Port of /healthcheck and /json
    #[arg(long, env, default_value = "8080", value_parser = go::port)]
    pub port: u16,
    /// Address of /rlconfig and /explain
    #[arg(long, env, default_value = "0.0.0.0", value_parser = go::host)]
    pub debug_host: IpAddr,
    /// Port of /rlconfig and /explain
    #[arg(long, env, default_value = "6070", value_parser = go::port)]
    pub debug_port: u16,
}

impl Http {
    /// Where `/healthcheck` and `/json` are served.
    pub fn address(&self) -> SocketAddr {
        (self.host, self.port).into()
    }

    /// Where `/rlconfig` and `/explain` are served.
    pub fn debug_address(&self) -> SocketAddr {
        (self.debug_host, self.debug_port).into()
    }
}

//! The gRPC port.

use std::{net::IpAddr, thread, time::Duration};

use clap::Args;
use proto::serve::{Address, Admission, Limits};

use super::go;

/// The gRPC port, and who serves it.
#[derive(Args, Clone, Debug)]
pub struct Grpc {
    /// Address of the gRPC service
    #[arg(long, env, default_value = "0.0.0.0", value_parser = go::host)]
    pub grpc_host: IpAddr,
    /// Port of the gRPC service
    #[arg(long, env, default_value = "8081", value_parser = go::port)]
    pub grpc_port: u16,
    /// Path of a Unix socket for the gRPC service, instead of address and port
    #[arg(long, env, default_value = "")]
    pub grpc_uds: String,
    /// Age at which a connection is asked to end, give or take a tenth; 0 for never
    #[arg(long, env, default_value = "24h", value_parser = go::duration)]
    pub grpc_max_connection_age: Duration,
    /// How much longer it may answer what it has been asked
    #[arg(long, env, default_value = "1h", value_parser = go::duration)]
    pub grpc_max_connection_age_grace: Duration,
    /// Connections that are open at a time; more wait
    #[arg(long, env, default_value = "10000", value_parser = go::count)]
    pub grpc_max_connections: usize,
    /// Connections from one IP address; more are closed at once
    #[arg(long, env, default_value = "2000", value_parser = go::count)]
    pub grpc_max_connections_per_client: usize,
    /// How long to go on serving after SIGTERM, while health fails, before connections are drained
    #[arg(long, env, default_value = "0s", value_parser = go::duration)]
    pub drain_delay: Duration,
    /// Threads that serve gRPC, one single-threaded runtime each [default: the cores this process may use]
    #[arg(long, env)]
    pub cores: Option<usize>,
}

impl Grpc {
    /// Where gRPC is served.
    pub fn address(&self) -> Address {
        match self.grpc_uds.as_str() {
            "" => Address::Tcp((self.grpc_host, self.grpc_port).into()),
            path => Address::Unix(path.into()),
        }
    }

    /// How long connections last.
    pub fn limits(&self) -> Limits {
        let bound = |duration: Duration| (!duration.is_zero()).then_some(duration);
        let (age, age_grace) = (bound(self.grpc_max_connection_age), bound(self.grpc_max_connection_age_grace));
        Limits { age, age_grace, ..Limits::default() }
    }

    /// How many connections there may be.
    pub fn admission(&self) -> Admission {
        Admission::new(self.grpc_max_connections, self.grpc_max_connections_per_client)
    }

    /// How many threads serve it.
    pub fn cores(&self) -> usize {
        self.cores.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into)).max(1)
    }
}

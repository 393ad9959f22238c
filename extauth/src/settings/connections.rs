//! Connections of those who ask: how many, and how they end.

use std::time::Duration;

use clap::Args;
use proto::serve::Admission;

/// Caps on the connections of each port, and the time between SIGTERM and their end.
#[derive(Args, Clone, Debug)]
pub struct Connections {
    /// Connections of a port that are open at a time; more wait.
    #[arg(long, env = "EXTAUTH_MAX_CONNECTIONS", default_value_t = Admission::MAX)]
    pub max_connections: usize,
    /// Connections of a port from one IP address; more are closed at once.
    #[arg(long, env = "EXTAUTH_MAX_CONNECTIONS_PER_CLIENT", default_value_t = Admission::MAX_PER_PEER)]
    pub max_connections_per_client: usize,
    /// Milliseconds to go on serving after SIGTERM, while health fails, before connections are drained.
    #[arg(long, env = "EXTAUTH_DRAIN_DELAY_MS", default_value_t = 0)]
    pub drain_delay_ms: u64,
}

impl Connections {
    /// The caps of one port.
    pub fn admission(&self) -> Admission {
        Admission::new(self.max_connections, self.max_connections_per_client)
    }

    /// How long to go on serving after SIGTERM.
    pub fn drain_delay(&self) -> Duration {
        Duration::from_millis(self.drain_delay_ms)
    }
}

//! What is measured, and who reads it.

use std::net::SocketAddr;

use clap::Args;

use super::go;

/// What is measured, and who reads it.
#[derive(Args, Clone, Debug)]
pub struct Stats {
    /// Address of /metrics; `:PORT` is all addresses
    #[arg(long, env, default_value = ":9090", value_parser = go::address)]
    pub prometheus_addr: SocketAddr,
    /// Share of a limit above which hits count as near it, in the metrics
    #[arg(long, env, default_value_t = 0.8)]
    pub near_limit_ratio: f32,
    /// Series of metrics with values of requests, as detailed_metric and value_to_metric ask for; further values share one
    #[arg(long, env, default_value_t = 1000)]
    pub metrics_max_value_series: usize,
}

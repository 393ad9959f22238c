//! Where hits are counted.

use clap::{Args, ValueEnum};

/// Where hits are counted.
#[derive(Args, Clone, Debug)]
pub struct Store {
    /// Where hits are counted
    #[arg(long, env, value_enum, default_value = "memory", ignore_case = true)]
    pub backend_type: BackendType,
    /// Counters that memory holds at most, about 80 bytes each
    #[arg(long, env, default_value_t = 1_000_000)]
    pub memory_max_counters: usize,
    /// Stands before every key in Redis
    #[arg(long, env, default_value = "")]
    pub cache_key_prefix: String,
}

/// The kinds of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendType {
    /// In this process; every replica counts for itself.
    Memory,
    /// In one Redis for all replicas.
    Redis,
}

//! How Redis is reached.

use std::time::Duration;

use clap::Args;

use super::go;
use crate::store::redis;

/// How Redis is reached.
#[derive(Args, Clone, Debug)]
pub struct Redis {
    /// redis://, rediss:// or unix:// URL, HOST:PORT, or the path of a socket
    #[arg(long, env, default_value = "redis://127.0.0.1:6379", hide_env_values = true, value_parser = url)]
    pub redis_url: redis::Url,
    /// How long a request waits for Redis before it gets an error
    #[arg(long, env, default_value = "100ms", value_parser = go::duration)]
    pub redis_timeout: Duration,
}

#[expect(clippy::unnecessary_wraps, reason = "what clap wants of a parser")]
fn url(text: &str) -> Result<redis::Url, String> {
    Ok(redis::Url::new(text))
}

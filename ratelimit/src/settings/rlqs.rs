//! The quota service.

use std::time::Duration;

use clap::{ArgAction, Args};

use super::go;

/// The quota service.
#[derive(Args, Clone, Debug)]
pub struct Rlqs {
    /// Serve RateLimitQuotaService too, which is experimental
    #[arg(long, env, default_value = "false", value_parser = go::boolean, action = ArgAction::Set)]
    pub rlqs_enabled: bool,
    /// How long a client may use a share that is not renewed; let it be more than twice its reporting interval, which is 5s in Envoy 1.40
    #[arg(long, env, default_value = "15s", value_parser = ttl)]
    pub rlqs_assignment_ttl: Duration,
}

impl Rlqs {
    /// How long assignments last in milliseconds; `None` if there are none.
    pub fn ttl(&self) -> Option<u64> {
        self.rlqs_enabled.then(|| u64::try_from(self.rlqs_assignment_ttl.as_millis()).unwrap_or(u64::MAX))
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = go::duration(text)?;
    let range = Duration::from_secs(1)..=Duration::from_hours(24);
    if range.contains(&ttl) { Ok(ttl) } else { Err("say 1s to 24h".into()) }
}

//! What is logged, and how.

use clap::Args;
use proto::telemetry::Format;

/// What is logged, and how.
#[derive(Args, Clone, Debug)]
pub struct Log {
    /// trace, debug, info, warn or error, or directives such as info,h2=debug
    #[arg(long, env, default_value = "info")]
    pub log_level: String,
    /// text or json
    #[arg(long, env, default_value = "text")]
    pub log_format: Format,
}

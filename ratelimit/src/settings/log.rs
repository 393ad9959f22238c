//! What is logged, and how.

use clap::Args;
use proto::telemetry::Format;

/// What is logged, and how.
#[derive(Args, Clone, Debug)]
pub struct Log {
    /// trace, debug, info, warn, error, fatal or panic, or directives such as info,h2=debug
    #[arg(long, env, default_value = "info", value_parser = level)]
    pub log_level: String,
    /// text or json
    #[arg(long, env, default_value = "text")]
    pub log_format: Format,
}

/// Upstream's levels in the words of ours; what are not levels must be directives.
fn level(text: &str) -> Result<String, String> {
    match text.to_ascii_lowercase().as_str() {
        level @ ("trace" | "debug" | "info" | "warn" | "error" | "off") => Ok(level.to_owned()),
        "warning" => Ok("warn".into()),
        "fatal" | "panic" => Ok("error".into()),
        _ if text.contains('=') => Ok(text.to_owned()),
        _ => Err("say trace, debug, info, warn, error, fatal or panic".into()),
    }
}

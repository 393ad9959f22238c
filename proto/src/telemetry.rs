//! Log lines of the process.

mod json;

use std::io::IsTerminal as _;
use std::str::FromStr;
use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that wait for a slow reader; more are dropped, so that nobody waits for the log.
const WAITING: usize = 8192;

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Keeps the log going; when dropped, writes what waits.
#[derive(Debug)]
#[must_use = "without it no line is written"]
pub struct Log {
    _writer: WorkerGuard,
}

/// Log lines that nobody took in time.
pub fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |dropped| u64::try_from(dropped.dropped_lines()).unwrap_or(u64::MAX))
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, with `@timestamp`, `@message` and `level` as envoyproxy/ratelimit has them.
    Json,
}

/// Why logging was not set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a level nor directives.
    #[error("reading the log level `{level}`; say trace, debug, info, warn or error")]
    Level {
        /// What was given.
        level: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Neither `text` nor `json`.
    #[error("unknown log format `{0}`; say text or json")]
    Format(String),
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Error::Format(text.to_owned())),
        }
    }
}

/// Writes log lines to standard error from `level` up: `info`, or directives such as `info,h2=debug`.
///
/// Once per process; later calls change nothing.
pub fn init(level: &str, format: Format) -> Result<Log, Error> {
    // Envoy and its rate limit service say `warning`.
    let directives = if level.eq_ignore_ascii_case("warning") { "warn" } else { level };
    let filter = EnvFilter::try_new(directives).map_err(|source| Error::Level { level: level.to_owned(), source })?;
    // Colours are for a terminal; in a file they are noise.
    let ansi = std::io::stderr().is_terminal();
    let (lines, writer) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING)
        .thread_name("log")
        .finish(std::io::stderr());
    DROPPED.get_or_init(|| lines.error_counter());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(lines);
    // An error says that there is a subscriber already, which is then the one.
    let _ = match format {
        Format::Text => builder.finish().try_init(),
        Format::Json => builder.event_format(json::Lines).finish().try_init(),
    };
    Ok(Log { _writer: writer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_formats() {
        assert!(init("WARNING", Format::Text).is_ok());
        assert!(init("info,h2=debug", Format::Json).is_ok());
        assert!(matches!(init("h2=loud", Format::Text), Err(Error::Level { .. })));
        assert!(matches!("JSON".parse(), Ok(Format::Json)));
        assert!(matches!("xml".parse::<Format>(), Err(Error::Format(_))));
    }
}

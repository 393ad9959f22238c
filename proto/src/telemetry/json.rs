//! Log lines as JSON, in the names that log pipelines know from envoyproxy/ratelimit.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// One object a line: `@timestamp` (RFC 3339), `level` in logrus' words, `@message`, `target`, and the event's fields.
#[derive(Debug)]
pub(super) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let metadata = event.metadata();
        let common =
            [("@timestamp", time.as_str()), ("level", level(*metadata.level())), ("target", metadata.target())];
        fields.0.extend(common.map(|(name, value)| (name.to_owned(), value.into())));
        writeln!(writer, "{}", Value::Object(fields.0))
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The fields of one event.
struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        let name = if field.name() == "message" { "@message" } else { field.name() };
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn lines_have_upstreams_names() {
        let written = Written::default();
        let builder = tracing_subscriber::fmt().with_max_level(Level::TRACE).with_writer(written.clone());
        tracing::subscriber::with_default(builder.event_format(Lines).finish(), || {
            let error = io::Error::other("no\nroom");
            tracing::warn!(%error, files = 3, ok = false, share = 0.5, name = "n\"", "not {}", "loaded");
            tracing::error!("a");
            tracing::info!("b");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let first = lines.first().unwrap().as_object().unwrap();
        let names: Vec<_> = first.keys().map(String::as_str).collect();
        assert_eq!(names, ["@message", "@timestamp", "error", "files", "level", "name", "ok", "share", "target"]);
        assert_eq!((&first["@message"], &first["level"]), (&"not loaded".into(), &"warning".into()));
        assert_eq!((&first["error"], &first["files"]), (&"no\nroom".into(), &3.into()));
        let time = first["@timestamp"].as_str().unwrap();
        assert!(time.len() >= 20 && time.contains('T') && time.ends_with('Z'), "{time}");
        let levels: Vec<_> = lines.iter().map(|line| line["level"].as_str().unwrap()).collect();
        assert_eq!(levels, ["warning", "error", "info"]);
    }
}

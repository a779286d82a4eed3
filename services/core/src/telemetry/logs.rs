//! JSON lines on standard output. What is logged is chosen field by field; secrets have a type that cannot be shown.

use std::fmt;

use serde_json::{Map, Value};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt::{
        FmtContext, FormatEvent, MakeWriter,
        format::{Format, Json, JsonFields, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use super::{canonical, mask::Masked, sentry::ReportLayer};
use crate::config::Reader;

/// The database's client logs the parameters of each statement, which are contents of tenants.
const VERBOSE: [(&str, LevelFilter); 1] = [("tokio_postgres", LevelFilter::WARN)];

/// The log's settings.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Levels, such as `info` or `info,kijko_core=debug`.
    pub levels: Targets,
    /// JSON lines (the default), or text for a person at a terminal.
    pub json: bool,
}

impl LogConfig {
    pub(crate) fn read(env: &mut Reader<'_>) -> Self {
        let shape = "levels such as info or info,kijko_core=debug";
        let levels = env.parsed("KIJKO_LOG", "info", shape);
        let format = env.text("KIJKO_LOG_FORMAT");
        let json = match format.as_deref() {
            None | Some("json") => true,
            Some("text") => false,
            Some(_) => {
                env.problem("KIJKO_LOG_FORMAT", "must be json or text");
                true
            }
        };
        Self { levels, json }
    }
}

/// Starts logging, and makes panics a log line like any other. `reports` sends errors to Sentry as well.
pub fn init(config: &LogConfig, reports: Option<ReportLayer>) {
    // Fails only when a subscriber is already there, which then gets the events.
    let started = tracing_subscriber::registry()
        .with(layer(config, Masked(std::io::stdout)))
        .with(reports.map(ReportLayer::filtered))
        .try_init();
    drop(started);
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        log_panic(&place, panic.payload_as_str().unwrap_or("(no text)"));
    }));
}

/// No field may be called `message`: that is the key of the event's own text, and a reader of JSON keeps one of the two.
fn log_panic(place: &str, reason: &str) {
    tracing::error!(place, reason, "a panic");
}

/// The log as a layer that writes to `writer`.
pub fn layer<W>(config: &LogConfig, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match config.json {
        true => {
            let format = tracing_subscriber::fmt::format()
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false);
            Box::new(
                layer
                    .fmt_fields(JsonFields::new())
                    .event_format(JsonLines(format)),
            )
        }
        false => Box::new(layer.with_ansi(false)),
    };
    let levels = config.levels.clone().with_targets(VERBOSE);
    Box::new(layer.with_filter(levels))
}

/// JSON lines in which the fields of a canonical line stand beside the others.
struct JsonLines(Format<Json>);

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let target = event.metadata().target();
        if target != canonical::REQUEST && target != canonical::JOB {
            return self.0.format_event(context, writer, event);
        }
        let mut text = String::new();
        self.0
            .format_event(context, Writer::new(&mut text), event)?;
        match spread(&text) {
            Some(line) => writeln!(writer, "{line}"),
            None => writer.write_str(&text),
        }
    }
}

fn spread(text: &str) -> Option<Value> {
    let mut line: Map<String, Value> = serde_json::from_str(text).ok()?;
    let fields = line.remove(canonical::FIELD)?;
    let fields: Map<String, Value> = serde_json::from_str(fields.as_str()?).ok()?;
    for (name, value) in fields {
        // The line's own fields (its time, its level) cannot be replaced.
        line.entry(name).or_insert(value);
    }
    Some(Value::Object(line))
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, work: impl FnOnce()) -> String {
        // With two subscribers in the process no event is switched off for either (see `capture`).
        crate::telemetry::capture::install();
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let config = LogConfig {
            levels: "info".parse().unwrap(),
            json,
        };
        let log =
            tracing_subscriber::registry().with(layer(&config, Masked(move || writer.clone())));
        tracing::subscriber::with_default(log, work);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    fn write_line() {
        let own = [("status", 200.into()), ("level", "forged".into())];
        canonical::write(
            canonical::Subject::Request,
            tracing::Level::INFO,
            &canonical::Fields::default(),
            own,
        );
    }

    #[test]
    fn the_fields_of_a_canonical_line_stand_beside_the_others() {
        let text = logged(true, write_line);
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["status"], &line["level"]),
            (&200.into(), &"INFO".into())
        );
        assert_eq!(line["message"], "request");
        assert!(line.get("fields").is_none() && text.ends_with('\n'));
    }

    #[test]
    fn no_line_has_a_secret_in_either_form() {
        for json in [true, false] {
            let text = logged(json, || {
                tracing::warn!(
                    reason = "mail to ada@example.com",
                    "key kjk_live_0123456789abcdefghij"
                );
            });
            assert!(
                !text.contains("ada@") && !text.contains("0123456789"),
                "{text}"
            );
        }
    }

    #[test]
    fn text_for_a_terminal_has_them_too() {
        let text = logged(false, write_line);
        assert!(
            text.contains(r#""status":200"#) || text.contains(r#"\"status\":200"#),
            "{text}"
        );
    }

    #[test]
    fn other_lines_stay_as_they_are() {
        let text = logged(true, || tracing::warn!(answer = 42, "a warning"));
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["answer"], &line["message"]),
            (&42.into(), &"a warning".into())
        );
    }

    #[test]
    fn the_line_of_a_panic_has_its_reason_beside_its_message() {
        let text = logged(true, || log_panic("here.rs:1", "it broke"));
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["reason"], &line["message"]),
            (&"it broke".into(), &"a panic".into())
        );
        assert_eq!(text.matches(r#""message":"#).count(), 1, "{text}");
    }

    #[test]
    fn parameters_of_statements_are_not_logged() {
        let text = logged(
            true,
            || tracing::info!(target: "tokio_postgres", "parameters"),
        );
        assert_eq!(text, "");
    }
}

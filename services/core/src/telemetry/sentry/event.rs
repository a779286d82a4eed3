//! A report as Sentry's event. It is made of fields that the log has. Nothing of a request is in it but its route, its method and ids.

use sentry_types::protocol::v7::{
    self as protocol, ClientSdkInfo, Exception, Frame, Level, Mechanism, Stacktrace, User,
};
use serde_json::Value;

use super::{config::SentryConfig, queue::Report, scrub};
use crate::service::Service;

/// Fields by which reports are searched. The others are listed below them.
const TAGS: [&str; 13] = [
    "error_code",
    "event",
    "execution_id",
    "job_id",
    "kind",
    "method",
    "model",
    "org_id",
    "outcome",
    "provider",
    "request_id",
    "route",
    "status",
];
/// Where lines say what went wrong.
const CAUSES: [&str; 3] = ["cause", "error", "reason"];
/// Sentry drops a longer tag.
const MAX_TAG: usize = 200;

/// What all events of this process say.
pub(super) struct Events {
    service: Service,
    environment: String,
    release: String,
}

impl Events {
    pub(super) fn new(service: Service, config: &SentryConfig) -> Self {
        Self {
            service,
            environment: config.environment.clone(),
            release: config.release.clone(),
        }
    }

    pub(super) fn event(&self, report: Report) -> protocol::Event<'static> {
        let group = report
            .group()
            .iter()
            .map(|part| scrub::text(part).into())
            .collect::<Vec<_>>();
        let is_panic = report.fields.contains_key("place");
        let frame = frame(&report);
        let mut fields = scrub::fields(report.fields);
        let cause = CAUSES.iter().find_map(|name| fields.remove(*name));
        let mut event = protocol::Event {
            level: Level::Error,
            fingerprint: group.into(),
            logger: Some(report.target.to_owned()),
            transaction: transaction(&fields),
            platform: "rust".into(),
            timestamp: report.at,
            release: Some(self.release.clone().into()),
            environment: Some(self.environment.clone().into()),
            user: report.user.map(|id| User {
                id: Some(id.to_string()),
                ..User::default()
            }),
            sdk: Some(std::borrow::Cow::Owned(ClientSdkInfo {
                name: "kijko.rust".to_owned(),
                version: self.service.version.to_owned(),
                integrations: Vec::new(),
                packages: Vec::new(),
            })),
            ..protocol::Event::default()
        };
        // A word that names the fault, then what is known of it.
        let title = match fields.get("error_code").and_then(Value::as_str) {
            Some(code) => format!("{}: {code}", report.message),
            None => report.message,
        };
        event.exception = vec![Exception {
            ty: scrub::text(&title),
            value: cause.map(|cause| shown(&cause)),
            module: Some(report.target.to_owned()),
            stacktrace: frame.map(|frame| Stacktrace {
                frames: vec![frame],
                ..Stacktrace::default()
            }),
            mechanism: Some(Mechanism {
                ty: if is_panic { "panic" } else { "log" }.to_owned(),
                handled: Some(!is_panic),
                ..Mechanism::default()
            }),
            ..Exception::default()
        }]
        .into();
        event
            .tags
            .insert("service".to_owned(), self.service.name.to_owned());
        for name in TAGS {
            if let Some(value) = fields.remove(name) {
                event.tags.insert(name.to_owned(), tag(&value));
            }
        }
        if report.suppressed > 0 {
            fields.insert("suppressed".to_owned(), report.suppressed.into());
        }
        event.extra.extend(fields);
        event
    }
}

/// Where the line was written, or the panic happened: `src/a.rs:10:5`.
fn frame(report: &Report) -> Option<Frame> {
    let place = report.fields.get("place").and_then(Value::as_str);
    let (file, line) = match place {
        Some(place) => {
            let mut parts = place.splitn(3, ':');
            (
                parts.next()?.to_owned(),
                parts.next().and_then(|line| line.parse().ok()),
            )
        }
        None => (report.file?.to_owned(), report.line.map(u64::from)),
    };
    Some(Frame {
        filename: Some(file),
        lineno: line,
        ..Frame::default()
    })
}

/// The route or the kind of job.
fn transaction(fields: &serde_json::Map<String, Value>) -> Option<String> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    match (text("method"), text("route"), text("kind")) {
        (Some(method), Some(route), _) => Some(format!("{method} {route}")),
        (_, _, kind) => kind.map(str::to_owned),
    }
}

fn shown(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn tag(value: &Value) -> String {
    let text = shown(value).replace(['\n', '\r'], " ");
    text.chars().take(MAX_TAG).collect()
}

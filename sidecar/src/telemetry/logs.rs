//! JSON lines on standard output. What is logged is chosen field by field; secrets have a type that cannot be shown.

use tracing_subscriber::{
    Layer, Registry, filter::LevelFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::config::LogConfig;

/// What these say in detail is our tenants' content: the vendors' client repeats answers that it does not understand, and
/// the database's the parameters of each statement.
const TALKATIVE: [(&str, LevelFilter); 2] = [
    ("genai", LevelFilter::OFF),
    ("tokio_postgres", LevelFilter::WARN),
];

/// Starts logging, and makes panics a log line like any other.
pub fn init(config: &LogConfig) {
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match config.json {
        true => Box::new(
            fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false),
        ),
        false => Box::new(fmt::layer().with_ansi(false)),
    };
    // Fails only when a subscriber is already there, which then gets the events.
    let levels = config.levels.clone().with_targets(TALKATIVE);
    let started = tracing_subscriber::registry()
        .with(layer.with_filter(levels))
        .try_init();
    drop(started);
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(
            place,
            message = panic.payload_as_str().unwrap_or("(no text)"),
            "a panic"
        );
    }));
}

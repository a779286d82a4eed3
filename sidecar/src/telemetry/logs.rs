//! JSON lines on standard output. What is logged is chosen field by field; secrets have a type that cannot be shown.

use tracing_subscriber::{
    Layer, Registry, filter::LevelFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::config::LogConfig;

/// The vendors' client logs what it does not understand with all of its content, which is our tenants'.
const TOO_TALKATIVE: &str = "genai";

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
    let levels = config
        .levels
        .clone()
        .with_target(TOO_TALKATIVE, LevelFilter::OFF);
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

//! Language models behind one small interface.
//!
//! - `provider`: what is asked and answered; `models` chooses the provider of a model's name; `parameters`, `config`.
//! - `client`: one vendor over HTTP: `request` writes the body, `sse` splits the answer into events, `frames` reads them, `fault`
//!   turns what goes wrong into our errors, and `redact` keeps the operator's account out of them.
//! - `usage`, `reported`, `estimate`: the tokens of a call, counted by its vendor or estimated.
//! - `semconv`: the names of OpenTelemetry's conventions for spans.
//! - `echo`: the development model.

mod client;
mod config;
mod echo;
mod error;
mod estimate;
mod fault;
mod frames;
mod models;
mod parameters;
mod provider;
mod redact;
mod reported;
mod request;
pub(crate) mod semconv;
mod sse;
mod usage;
mod vendor;
mod weight;

pub use client::VendorClient;
pub(crate) use config::vendor_url;
pub use config::{LlmConfig, VendorConfig};
pub use echo::Echo;
pub use error::{LlmError, LlmFault};
pub use estimate::{request_tokens, tokens_of_bytes};
pub use models::Models;
pub use parameters::{is_json_format, max_tokens};
pub use provider::{Completion, CompletionRequest, Provider};
pub use usage::{CallState, Progress, Usage};
pub use vendor::Vendor;
pub(crate) use {
    fault::{Faults, malformed, truncated},
    frames::parse,
    reported::read as read_usage,
    sse::Events,
    vendor::{Endpoint, counts_reasoning},
    weight::weight,
};

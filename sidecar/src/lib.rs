//! Kijko's sidecar does only what a database must not do: it waits on other people's HTTP.
//!
//! It runs queued jobs (today: executions, which call a language model) and serves a few operator routes. It keeps
//! no state of its own and decides nothing about authorization: every read and write is a call of a function in
//! schema `private` that the role `kijko_sidecar` may execute.
//!
//! It is a library with a thin `main.rs`, so that the router and the worker are testable in process.
#![warn(missing_docs)]

pub mod app;
pub mod backoff;
pub mod config;
pub mod db;
pub mod error;
pub mod http;
pub mod jobs;
pub mod llm;
pub mod sandbox;
pub mod secret;
pub mod shutdown;
pub mod stripe;
pub mod telemetry;

/// The version of this build, as `/health`, `--version` and the metrics report it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

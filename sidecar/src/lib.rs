//! Kijko's sidecar calls other servers over HTTP, which a database connection must not wait for.
//!
//! It runs queued jobs and receives webhooks. It keeps no state of its own and decides nothing about authorization: every read and
//! write is a call of a function in schema `private` that the role `kijko_sidecar` may execute.
//!
//! - [`app`]: the one list of domains; [`service`]: the name of the service.
//! - [`domains`]: one folder each.
//! - [`login`]: sign-in through outside providers.
//! - `answers`, `api`, `basic`, `image_file`, [`input_files`], [`llm`], `oauth`, `problems`, `query`, `rendering`, [`sandbox`], `slots`, `turns`, `upstream`: libraries
//!   that domains use.
//!
//! What every service needs (database, worker, HTTP server, telemetry) is in `kijko_core`. This is a library with a thin
//! `main.rs`, so that it can be tested in process.
#![warn(missing_docs)]

mod answers;
mod api;
pub mod app;
mod basic;
pub mod domains;
mod image_file;
pub mod input_files;
pub mod llm;
pub mod login;
mod oauth;
mod problems;
mod query;
mod rendering;
pub mod sandbox;
pub mod service;
mod slots;
mod stripe_signature;
mod turns;
mod upstream;

/// The version of this build, as `/health`, `--version` and the metrics report it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

//! Supabase Storage for a plain Postgres: buckets and objects over HTTP. The modules, from the ones that need nothing to the ones
//! that need the others:
//!
//! - [`config`]: limits, the place of the bytes, keys; [`error`]: refusals in upstream's shapes; [`names`]: buckets and paths;
//!   [`content_type`]: what bytes are; [`token`]: signed URLs; [`blobs`]: where bytes lie.
//! - [`database`]: what policies allow and which bytes have a row; [`caller`]: who asks; [`tickets`]: what the sidecar may.
//! - [`upload`]: from an intent to a row; [`body`] and [`form`]: the bytes of a request; [`download`]: ranges and conditions.
//! - [`sweeper`]: the end of uploads and bytes that nobody needs; [`check`]: whether rows and bytes belong together.
//! - [`routes`]: the API; [`domain`]: putting them together.
#![warn(missing_docs)]

pub mod blobs;
pub mod body;
pub mod caller;
pub mod check;
pub mod config;
pub mod content_type;
pub mod database;
pub mod domain;
pub mod download;
pub mod error;
pub mod form;
pub mod metrics;
pub mod names;
pub mod routes;
pub mod service;
pub mod sweeper;
pub mod tickets;
pub mod token;
pub mod upload;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

//! Supabase Realtime for a plain Postgres: channels with broadcast and presence over WebSockets, broadcasts over HTTP and from
//! SQL. The modules, from the ones that need nothing to the ones that need the others:
//!
//! - [`protocol`]: the frames of supabase-js; [`config`]: limits.
//! - [`hub`]: who listens to what, in memory; [`relay`]: the other instances.
//! - [`authorize`]: who a token names and what policies allow; [`access`]: when that changes; [`delivery`]: messages from SQL.
//! - [`socket`]: one connection and its channels; [`http`]: broadcasts and event streams without a socket.
//! - [`domain`]: putting them together.
#![warn(missing_docs)]

pub mod access;
pub mod authorize;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod http;
pub mod hub;
pub mod metrics;
pub mod protocol;
pub mod relay;
pub mod service;
pub mod socket;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

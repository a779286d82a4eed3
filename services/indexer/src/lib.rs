//! The indexer: from a pushed commit to symbols that can be searched. The modules, from the ones that need nothing to the ones that
//! need the others:
//!
//! - [`config`]: the cache, limits, hosts; [`service`]: its name and addresses; [`metrics`].
//! - [`fetch`]: git's smart HTTP, over the guarded client: the commit of a branch, and the pack that the cache lacks.
//! - [`cache`]: packs of each repository, bounded, and made again when they are gone.
//! - [`child`]: a process for each job, without network, database or other files, that reads packs and parses.
//! - [`database`]: what the indexer may call; [`handler`]: the steps of one job, and
//!   [`problem`]: how it ends otherwise; [`tidy`]: what
//!   leaves the cache; [`domain`]: putting them together.
#![warn(missing_docs)]

pub mod cache;
pub mod child;
pub mod config;
pub mod database;
pub mod domain;
pub mod fetch;
pub mod handler;
pub mod metrics;
pub mod problem;
pub mod service;
pub mod tidy;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

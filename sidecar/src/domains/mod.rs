//! The domains of this service. Each is a folder with what it has of:
//!
//! - `mod.rs`: what it brings ([`kijko_core::Domain`]).
//! - `config.rs`: its settings.
//! - `routes.rs`: its public routes.
//! - `handlers.rs`: its kinds of jobs.
//! - `store.rs`: the database functions that it calls; the only SQL.
//! - `metrics.rs`: its series and its readiness.
//!
//! [`crate::app::DOMAINS`] lists them.

pub mod analytics;
pub mod billing;
pub mod blog;
pub mod code;
pub mod connections;
pub mod documents;
pub mod executions;
pub mod flags;
pub mod functions;
pub mod issuers;
pub mod llm;
pub mod mail;
pub mod notifications;
pub mod observability;
pub mod privacy;
pub mod prompts;
pub mod reflexes;
pub mod skills;
pub mod social;
pub mod stripe;
pub mod topics;
pub mod webhooks;

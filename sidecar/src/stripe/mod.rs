//! Stripe: events come in by webhook, are verified here, and stored and applied by the database.
//!
//! This side knows signatures and nothing of billing: which event is the latest, whose it is and which plan follows is
//! decided by `private.stripe_ingest_event` in the transaction that stores the event.

mod events;
mod signature;
pub mod webhook;

pub use events::{Backlog, backlog};

//! Feature flags as Unleash has them.
//!
//! - [`problem`]: why a strategy, a list of constraints or of variants cannot work, asked when it is stored.
//! - [`Engine`]: definitions, compiled once; what they answer for a [`Context`].
//!
//! The extension evaluates the platform's flags and the sidecar those of organizations, both by this crate, so that their
//! answers agree.

mod context;
mod engine;
mod problem;
mod value;
mod variants;

pub use context::{Context, context};
pub use engine::{Engine, Evaluation, Patterns};
pub use problem::{Part, problem};

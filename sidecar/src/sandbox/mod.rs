//! Rendering prompts and checking inputs, both written by tenants, where they cannot hurt anyone.
//!
//! A template of one line can double a string forty times, and a schema of one line can refer to itself without end.
//! Neither the template engine's fuel nor any timeout inside this process stops that: it ends in the kernel killing
//! the whole worker. So both run in a child process that has no environment, little memory and a few seconds; a child
//! that misbehaves is killed and replaced, and only that job fails.

mod child;
mod filters;
mod pool;
mod prompt;
mod schema;
mod template;
mod value;

pub use child::child_main;
pub use pool::Sandbox;
pub use prompt::{ARGUMENT, PromptError, PromptRequest};

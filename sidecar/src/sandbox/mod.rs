//! Rendering templates, checking inputs, and reading documents of strangers. Tenants write or name all of them, so they are isolated.
//!
//! A template of one line can double a string forty times, and a schema of one line can refer to itself without end.
//! Neither the template engine's fuel nor a timeout inside this process stops that: the kernel would kill the whole worker.
//! So both run in a child process that has no environment, little memory and a few seconds. A child that exceeds them is killed
//! and replaced, and only that job fails.

mod chat;
mod child;
mod documents;
mod filters;
mod mapping;
mod plain;
mod pool;
mod prompt;
mod request;
mod schema;
mod template;
mod text;
mod value;
mod variables;
mod violation;

pub use chat::{ChatRequest, Message, Part};
pub use child::child_main;
pub use documents::{DocumentRequest, Feed, Item, MAX_TITLE, Robots, RobotsRequest, time};
pub use mapping::{Mapped, MappingRequest};
pub use pool::Sandbox;
pub use prompt::{ARGUMENT, Engine, PromptError, PromptRequest};
pub use text::MAX_TEXT;
pub use variables::{Unknown, unknown};

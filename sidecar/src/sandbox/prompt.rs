//! The request and the answer of the sandbox.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The argument that makes this program a sandbox child instead of a sidecar.
pub const ARGUMENT: &str = "sandbox";

/// How a template is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Jinja's syntax.
    #[default]
    Minijinja,
    /// `{{name}}` is replaced, and nothing else is special.
    Plain,
}

/// A tenant's template and schema, and one input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PromptRequest {
    /// The template.
    pub template: String,
    /// How it is read.
    #[serde(default)]
    pub engine: Engine,
    /// The variables: each member of the object, and the whole as `input`.
    pub input: Value,
    /// The JSON schema that the input must match; null or `{}` for any.
    pub schema: Value,
}

/// Why there is no prompt. The message is for the author of the skill or the input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PromptError {
    /// The input does not match the schema.
    #[error("{0}")]
    InvalidInput(String),
    /// The schema itself is wrong.
    #[error("{0}")]
    InvalidSchema(String),
    /// The template is wrong, asks for something the input lacks, or takes too much.
    #[error("{0}")]
    Template(String),
    /// The sandbox could not be used; not the tenant's fault.
    #[error("the sandbox failed: {0}")]
    Sandbox(String),
}

impl PromptError {
    /// Whose fault it is when a child was stopped: the template's, or the schema's if it had only that.
    pub(super) fn of_schema(self) -> Self {
        match self {
            Self::Template(message) => Self::InvalidSchema(format!("input_schema: {message}")),
            other => other,
        }
    }

    /// The name that executions carry in `error_code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidInput(_) => "invalid_input",
            Self::InvalidSchema(_) => "invalid_schema",
            Self::Template(_) => "template_error",
            Self::Sandbox(_) => "internal",
        }
    }
}

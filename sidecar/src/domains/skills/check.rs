//! What is wrong with a template and a schema.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::sandbox::{PromptError, Sandbox};

/// One thing that stops a skill, as `skills.problems` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Problem {
    /// Short name.
    pub code: String,
    /// In words, for the author of the skill.
    pub message: String,
}

impl From<PromptError> for Problem {
    fn from(error: PromptError) -> Self {
        Self {
            code: error.code().to_owned(),
            message: error.to_string(),
        }
    }
}

/// The problems of both; an error when the sandbox itself failed.
pub(super) async fn problems(
    sandbox: &Sandbox,
    template: &str,
    schema: &Value,
) -> Result<Vec<Problem>, PromptError> {
    let mut problems = Vec::new();
    for checked in [
        sandbox.check_template(template).await,
        sandbox.check_schema(schema).await,
    ] {
        match checked {
            Ok(()) => {}
            Err(error @ PromptError::Sandbox(_)) => return Err(error),
            Err(error) => problems.push(error.into()),
        }
    }
    Ok(problems)
}

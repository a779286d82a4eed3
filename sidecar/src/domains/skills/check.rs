//! What is wrong with a skill, and what a run of it would ask and cost at most.

use kijko_core::db::DbError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::store::{Store, Task};
use crate::{
    llm,
    sandbox::{self, PromptError, PromptRequest, Sandbox, Unknown},
};

/// Messages quote templates and schemas, which may be long.
const MAX_MESSAGE_CHARS: usize = 1_000;

/// So many variables are named.
const MAX_VARIABLES: usize = 20;

/// Whether a problem stops the skill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    /// It does.
    Error,
    /// It may fail some runs.
    Warning,
}

/// One thing that is wrong with a skill, as `skills.problems` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Problem {
    /// Short name.
    pub code: String,
    /// Whether it stops the skill.
    pub severity: Severity,
    /// In words, for the author of the skill.
    pub message: String,
}

impl Problem {
    fn new(code: &str, message: &str) -> Self {
        Self {
            code: code.to_owned(),
            severity: Severity::Error,
            message: message.chars().take(MAX_MESSAGE_CHARS).collect(),
        }
    }
}

impl From<Unknown> for Problem {
    fn from(unknown: Unknown) -> Self {
        let (name, missing) = (unknown.name, unknown.always_missing);
        let reason = match missing {
            true => "no input of this schema can have it",
            false => {
                "the schema does not name it: a run without it fails, unless the template allows for that"
            }
        };
        Self {
            severity: if missing {
                Severity::Error
            } else {
                Severity::Warning
            },
            ..Self::new("unknown_variable", &format!("{name}: {reason}"))
        }
    }
}

/// What a run would ask, and the most that it uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Preview {
    /// The rendered prompt.
    pub prompt: String,
    /// Estimated, on the high side: what the call reserves.
    pub input_tokens: u64,
    /// The longest answer that the call allows.
    pub max_output_tokens: u64,
    /// In millionths of a US dollar; null without a price.
    pub max_cost_microusd: Option<i64>,
}

/// Why there is no preview.
#[derive(Debug)]
pub(super) enum PreviewError {
    /// The input, the template, the schema or the parameters.
    Refused(Problem),
    /// The sandbox failed; not the tenant's fault.
    Sandbox(String),
    /// The database.
    Database(DbError),
}

/// Checks tasks.
#[derive(Debug)]
pub(super) struct Checker {
    pub sandbox: Sandbox,
    pub store: Store,
    /// `max_tokens` of a skill that sets none.
    pub default_max_tokens: u64,
}

impl Checker {
    /// The problems of a template and a schema; an error when the sandbox itself failed.
    pub(super) async fn problems(
        &self,
        template: &str,
        schema: &Value,
    ) -> Result<Vec<Problem>, PromptError> {
        let mut problems = Vec::new();
        let asked = wrong(&mut problems, self.sandbox.check_template(template).await)?;
        let valid = wrong(&mut problems, self.sandbox.check_schema(schema).await)?;
        if let (Some(asked), Some(())) = (asked, valid) {
            let unknown = sandbox::unknown(template, &asked, schema);
            problems.extend(unknown.into_iter().take(MAX_VARIABLES).map(Problem::from));
        }
        Ok(problems)
    }

    /// Renders the prompt of this input and estimates the call.
    pub(super) async fn preview(
        &self,
        task: &Task,
        input: &Value,
    ) -> Result<Preview, PreviewError> {
        let max_output_tokens = llm::max_tokens(
            &task.parameters,
            self.default_max_tokens,
            task.max_output_tokens,
        )
        .map_err(|error| PreviewError::Refused(Problem::new(error.code(), &error.message)))?;
        let request = PromptRequest {
            template: task.prompt_template.clone(),
            input: input.clone(),
            schema: task.input_schema.clone(),
        };
        let prompt = self.sandbox.make_prompt(&request).await?;
        let input_tokens = llm::request_tokens(&prompt, &task.parameters);
        let tier = task.parameters.get("service_tier").and_then(Value::as_str);
        let max_cost_microusd = self
            .store
            .estimate_cost(&task.model, input_tokens, max_output_tokens, tier)
            .await
            .map_err(PreviewError::Database)?;
        Ok(Preview {
            prompt,
            input_tokens,
            max_output_tokens,
            max_cost_microusd,
        })
    }
}

/// What the sandbox found; nothing when that is a problem. An error when the sandbox itself failed.
fn wrong<T>(
    problems: &mut Vec<Problem>,
    checked: Result<T, PromptError>,
) -> Result<Option<T>, PromptError> {
    match checked {
        Ok(found) => Ok(Some(found)),
        Err(error @ PromptError::Sandbox(_)) => Err(error),
        Err(error) => {
            problems.push(Problem::new(error.code(), &error.to_string()));
            Ok(None)
        }
    }
}

impl From<PromptError> for PreviewError {
    fn from(error: PromptError) -> Self {
        match error {
            PromptError::Sandbox(cause) => Self::Sandbox(cause),
            error => Self::Refused(Problem::new(error.code(), &error.to_string())),
        }
    }
}

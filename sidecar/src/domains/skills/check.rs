//! What is wrong with a skill, and what a run of it would ask and cost at most.

use kijko_core::db::DbError;
use serde::Serialize;
use serde_json::Value;

use super::store::{Store, Task};
use crate::{
    llm,
    problems::{self, Problem},
    sandbox::{Engine, PromptError, PromptRequest, Sandbox},
};

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
        engine: Engine,
        schema: &Value,
    ) -> Result<Vec<Problem>, PromptError> {
        problems::find(&self.sandbox, &[template], &[], engine, schema).await
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
            engine: task.engine,
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

impl From<PromptError> for PreviewError {
    fn from(error: PromptError) -> Self {
        match error {
            PromptError::Sandbox(cause) => Self::Sandbox(cause),
            error => Self::Refused(Problem::new(error.code(), &error.to_string())),
        }
    }
}

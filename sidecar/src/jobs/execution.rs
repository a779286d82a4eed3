//! Kind `execution`: a skill's prompt, answered by a model.

use std::{sync::Arc, time::Instant};

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::{
    Failure, Handler, HandlerError, Job,
    queue::{Execution, Queue, without_nul},
};
use crate::{
    db::{DbError, persist},
    llm::{Completion, CompletionRequest, LlmError, Models},
    sandbox::{PromptError, PromptRequest, Sandbox},
    telemetry::Metrics,
};

/// Runs executions.
pub struct ExecutionHandler {
    models: Models,
    sandbox: Arc<Sandbox>,
    metrics: Metrics,
}

impl ExecutionHandler {
    /// The kind that the migrations queue executions under.
    pub const KIND: &'static str = "execution";

    /// A handler with these models.
    pub fn new(models: Models, sandbox: Arc<Sandbox>, metrics: Metrics) -> Self {
        Self {
            models,
            sandbox,
            metrics,
        }
    }

    async fn execute(&self, queue: &Queue, job: &Job) -> Result<Value, HandlerError> {
        // Starting again is harmless, so a database that is away for a moment costs no attempt.
        let execution = persist(|| queue.start_execution(job))
            .await?
            .ok_or(HandlerError::Gone)?;
        tracing::info!(execution_id = %execution.execution_id, model = execution.model, "executing");
        let (provider, model) = self.models.pick(&execution.model)?;
        let wants_json = wants_json(&execution.parameters);
        let prompt = self.prompt(&execution).await?;
        let request = CompletionRequest {
            model,
            prompt,
            parameters: execution.parameters,
        };

        let start = Instant::now();
        let answer = provider.complete(request).await;
        self.metrics
            .llm_call(provider.name(), &answer, start.elapsed());
        outcome(provider.name(), answer?, wants_json).map_err(HandlerError::Failed)
    }

    async fn prompt(&self, execution: &Execution) -> Result<String, PromptError> {
        let request = PromptRequest {
            template: execution.prompt_template.clone(),
            input: execution.input.clone(),
            schema: execution.input_schema.clone(),
        };
        self.sandbox.make_prompt(&request).await
    }
}

impl Handler for ExecutionHandler {
    fn kind(&self) -> &str {
        Self::KIND
    }

    fn run<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
    ) -> BoxFuture<'a, Result<Value, HandlerError>> {
        Box::pin(self.execute(queue, job))
    }

    fn record_success<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
        result: &'a Value,
    ) -> BoxFuture<'a, Result<bool, DbError>> {
        Box::pin(queue.finish_execution(job, result))
    }

    fn record_failure<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
        failure: &'a Failure,
    ) -> BoxFuture<'a, Result<Option<String>, DbError>> {
        Box::pin(queue.fail_execution(job, failure))
    }
}

/// What `private.finish_execution` takes. The model is named with its provider, as in `llm_models`.
fn outcome(provider: &str, completion: Completion, wants_json: bool) -> Result<Value, Failure> {
    let mut output = json!({"text": without_nul(&completion.text)});
    if wants_json {
        output["json"] = parse_json(&completion)?;
    }
    Ok(json!({
        "output": output,
        "model": format!("{provider}/{}", completion.model),
        "input_tokens": completion.input_tokens,
        "output_tokens": completion.output_tokens,
        "finish_reason": completion.finish_reason,
    }))
}

/// A skill that asked for JSON gets JSON or an error, never text that looks like it. An answer cut at the token limit
/// would be cut again; any other may come out right at the next attempt.
fn parse_json(completion: &Completion) -> Result<Value, Failure> {
    if let Ok(value) = serde_json::from_str(&without_nul(&completion.text))
        && !has_nul(&value)
    {
        return Ok(value);
    }
    let cut = completion.finish_reason.as_deref() == Some("length");
    Err(match cut {
        true => Failure {
            code: "output_truncated".into(),
            message: "the JSON was cut at the token limit; raise max_tokens".to_owned(),
            retryable: false,
            retry_after: None,
        },
        false => Failure {
            code: "vendor_malformed".into(),
            message: "the model was asked for JSON and answered something else".to_owned(),
            retryable: true,
            retry_after: None,
        },
    })
}

/// `\u0000` is valid JSON and no valid jsonb.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

/// `"response_format"` is `"json"`, `"json_object"`, `"json_schema"`, or an object with one of these as its `type`.
fn wants_json(parameters: &Map<String, Value>) -> bool {
    let format = parameters.get("response_format");
    let kind = format
        .and_then(|format| format.get("type"))
        .or(format)
        .and_then(Value::as_str);
    matches!(kind, Some("json" | "json_object" | "json_schema"))
}

impl From<LlmError> for HandlerError {
    fn from(error: LlmError) -> Self {
        Self::Failed(Failure {
            code: error.code().into(),
            retryable: error.retryable(),
            retry_after: error.retry_after,
            message: error.message,
        })
    }
}

impl From<PromptError> for HandlerError {
    fn from(error: PromptError) -> Self {
        if let PromptError::Sandbox(cause) = &error {
            tracing::error!(cause, "the sandbox failed");
            return Self::Failed(Failure::internal());
        }
        Self::Failed(Failure {
            code: error.code().into(),
            message: error.to_string(),
            retryable: error.retryable(),
            retry_after: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(text: &str, finish_reason: &str) -> Completion {
        Completion {
            text: text.into(),
            model: "m-1".into(),
            input_tokens: 3,
            output_tokens: 4,
            finish_reason: Some(finish_reason.into()),
        }
    }

    #[test]
    fn the_outcome_names_model_tokens_and_text() {
        let outcome = outcome("echo", completion("hello\0", "stop"), false).unwrap();
        assert_eq!(outcome["output"], json!({"text": "hello\u{fffd}"}));
        assert_eq!(
            (&outcome["model"], &outcome["input_tokens"]),
            (&json!("echo/m-1"), &json!(3))
        );
    }

    #[test]
    fn json_is_parsed_when_it_was_asked_for() {
        let asked =
            |value: Value| wants_json(json!({"response_format": value}).as_object().unwrap());
        assert!(asked(json!("json")) && asked(json!({"type": "json_schema", "json_schema": {}})));
        assert!(
            !asked(json!("text")) && !asked(json!({"type": "text"})) && !wants_json(&Map::new())
        );
        assert_eq!(
            outcome("echo", completion(r#"{"a": 1}"#, "stop"), true).unwrap()["output"]["json"],
            json!({"a": 1})
        );
    }

    #[test]
    fn an_answer_that_is_no_json_is_a_failure() {
        let cut = outcome("echo", completion(r#"{"a": "#, "length"), true).unwrap_err();
        assert_eq!(
            (cut.code.as_ref(), cut.retryable),
            ("output_truncated", false)
        );
        for text in ["sorry", r#"{"a": "\u0000"}"#] {
            let wrong = outcome("echo", completion(text, "stop"), true).unwrap_err();
            assert_eq!(
                (wrong.code.as_ref(), wrong.retryable),
                ("vendor_malformed", true)
            );
        }
    }
}

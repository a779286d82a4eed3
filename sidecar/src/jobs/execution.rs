//! Kind `execution`: a skill's prompt, answered by a model.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Failure, Handler, HandlerError, Job,
    queue::{Execution, Queue, without_nul},
};
use crate::{
    db::{DbError, persist},
    llm::{Completion, CompletionRequest, LlmError, Models, Progress, is_json_format},
    sandbox::{PromptError, PromptRequest, Sandbox},
    telemetry::Metrics,
};

/// What a call used waits this long for its record; afterwards its lease has long gone to another worker.
const UNSETTLED: Duration = Duration::from_secs(3_600);

/// Runs executions.
pub struct ExecutionHandler {
    models: Models,
    sandbox: Arc<Sandbox>,
    metrics: Metrics,
    open: Mutex<HashMap<Uuid, OpenCall>>,
}

/// A call whose attempt has not been recorded yet. It is kept here and not in the call's future, which is dropped when
/// the job is cancelled or runs out of time: what it used until then is paid for.
struct OpenCall {
    since: Instant,
    provider: &'static str,
    model: String,
    progress: Progress,
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
            open: Mutex::default(),
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
        let progress = self.open(job.id, provider.name(), &model);
        let request = CompletionRequest {
            model,
            prompt,
            parameters: execution.parameters,
            progress: progress.clone(),
        };
        let mut call = self.metrics.llm_call(provider.name(), progress.clone());
        let answer = provider.complete(request).await;
        if let Ok(completion) = &answer {
            progress.update(|reached| {
                reached.usage = completion.usage;
                reached.model = Some(completion.model.clone());
            });
        }
        call.ended(answer.as_ref().err());
        outcome(provider.name(), answer?, wants_json).map_err(HandlerError::Failed)
    }

    fn open(&self, job: Uuid, provider: &'static str, model: &str) -> Progress {
        let (since, progress) = (Instant::now(), Progress::default());
        let mut calls = self.calls();
        calls.retain(|_, call| since.duration_since(call.since) < UNSETTLED);
        let call = OpenCall {
            since,
            provider,
            model: model.to_owned(),
            progress: progress.clone(),
        };
        calls.insert(job, call);
        progress
    }

    /// What the job's call used, as `private.fail_execution` takes it; `None` when it used nothing that is known of.
    fn used(&self, job: Uuid) -> Option<Value> {
        let calls = self.calls();
        let call = calls.get(&job)?;
        let reached = call.progress.reached();
        let model = reached.model.as_ref().unwrap_or(&call.model);
        (!reached.usage.is_empty())
            .then(|| reached.usage.to_json(&format!("{}/{model}", call.provider)))
    }

    fn settled(&self, job: Uuid) {
        self.calls().remove(&job);
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<Uuid, OpenCall>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
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
        Box::pin(async {
            let taken = queue.finish_execution(job, result).await?;
            self.settled(job.id);
            Ok(taken)
        })
    }

    fn record_failure<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
        failure: &'a Failure,
    ) -> BoxFuture<'a, Result<Option<String>, DbError>> {
        Box::pin(async {
            let used = self.used(job.id);
            let status = queue.fail_execution(job, failure, used.as_ref()).await?;
            self.settled(job.id);
            Ok(status)
        })
    }
}

/// What `private.finish_execution` takes. The model is named with its provider, as in `llm_models`.
fn outcome(provider: &str, completion: Completion, wants_json: bool) -> Result<Value, Failure> {
    let mut output = json!({"text": without_nul(&completion.text)});
    if wants_json {
        output["json"] = parse_json(&completion)?;
    }
    let model = format!("{provider}/{}", completion.model);
    let mut outcome = completion.usage.to_json(&model);
    outcome["output"] = output;
    outcome["finish_reason"] = json!(completion.finish_reason);
    Ok(outcome)
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

fn wants_json(parameters: &Map<String, Value>) -> bool {
    parameters
        .get("response_format")
        .is_some_and(is_json_format)
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
            usage: crate::llm::Usage::new(3, 4),
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

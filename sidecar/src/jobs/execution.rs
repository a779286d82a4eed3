//! Kinds `execution.…`: a skill's prompt, answered by a model.

mod output;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use output::{outcome, wants_json};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Failure, Handler, HandlerError, Job,
    queue::{Execution, Queue, Reservation},
};
use crate::{
    db::{DbError, persist},
    llm::{CompletionRequest, LlmError, Models, Progress, Provider, Usage, max_tokens},
    sandbox::{PromptError, PromptRequest, Sandbox},
    telemetry::Metrics,
};

/// What a call used waits this long for its record; afterwards its lease has long gone to another worker.
const UNSETTLED: Duration = Duration::from_secs(3_600);

/// Runs executions.
pub struct ExecutionHandler {
    models: Models,
    default_max_tokens: u64,
    sandbox: Arc<Sandbox>,
    metrics: Metrics,
    /// By job and attempt: an attempt that lost its lease may end after the next one has begun, and must leave it alone.
    open: Mutex<HashMap<Attempt, OpenCall>>,
}

type Attempt = (Uuid, i32);

/// A call whose attempt has not been recorded yet. It is kept here and not in the call's future, which is dropped when
/// the job is cancelled or runs out of time: what it used until then is paid for.
struct OpenCall {
    id: Uuid,
    since: Instant,
    /// What is reserved for it.
    max_usage: Usage,
    provider: &'static str,
    model: String,
    progress: Progress,
}

impl ExecutionHandler {
    /// Executions are queued under this kind, a dot and their vendor's name, so that a worker claims only those that it has
    /// keys for, and one vendor's outage does not delay the others. Models of unknown vendors have this kind alone.
    pub const KIND: &'static str = "execution";

    /// A handler with these models.
    pub fn new(
        models: Models,
        default_max_tokens: u64,
        sandbox: Arc<Sandbox>,
        metrics: Metrics,
    ) -> Self {
        Self {
            models,
            default_max_tokens,
            sandbox,
            metrics,
            open: Mutex::default(),
        }
    }

    async fn execute(&self, queue: &Queue, job: &Job) -> Result<Value, HandlerError> {
        self.forget_earlier_attempts(job);
        // Starting again is harmless, so a database that is away for a moment costs no attempt.
        let execution = persist(queue.patience(), || queue.start_execution(job))
            .await?
            .ok_or(HandlerError::Gone)?;
        tracing::info!(execution_id = %execution.execution_id, model = execution.model, "executing");
        let (provider, model) = self.models.pick(&execution.model)?;
        let wants_json = wants_json(&execution.parameters);
        let max_tokens = max_tokens(
            &execution.parameters,
            self.default_max_tokens,
            execution.max_output_tokens,
        )?;
        let request = CompletionRequest {
            model,
            prompt: self.prompt(&execution).await?,
            parameters: execution.parameters,
            max_tokens,
            progress: Progress::default(),
        };
        let call_id = self
            .reserve(queue, job, provider.as_ref(), &request)
            .await?;
        let progress = request.progress.clone();
        let mut call = self.metrics.llm_call(provider.name(), progress.clone());
        let answer = provider.complete(request).await;
        if let Ok(completion) = &answer {
            progress.update(|reached| {
                reached.usage = completion.usage;
                reached.model = Some(completion.model.clone());
            });
        }
        call.ended(answer.as_ref().err());
        let tier = progress.reached().service_tier;
        outcome(provider.name(), call_id, tier, answer?, wants_json).map_err(HandlerError::Failed)
    }

    /// No vendor is called beyond the organization's limits, or for a model without a price.
    async fn reserve(
        &self,
        queue: &Queue,
        job: &Job,
        provider: &dyn Provider,
        request: &CompletionRequest,
    ) -> Result<Uuid, HandlerError> {
        let (id, max_usage) = (Uuid::new_v4(), provider.max_usage(request));
        let call = json!({
            "id": id,
            "input_tokens": max_usage.input,
            "output_tokens": max_usage.output,
            "service_tier": request.parameters.get("service_tier"),
        });
        let reserved = persist(queue.patience(), || queue.reserve_call(job, &call)).await?;
        match reserved.ok_or(HandlerError::Gone)? {
            Reservation::Held { call_id } => {
                self.open(job, call_id, max_usage, provider.name(), request);
                Ok(call_id)
            }
            Reservation::Refused { refused, message } => Err(HandlerError::Failed(Failure {
                code: refused.into(),
                message: message.unwrap_or_default(),
                retryable: false,
                retry_after: None,
                outage: false,
            })),
        }
    }

    fn open(
        &self,
        job: &Job,
        id: Uuid,
        max_usage: Usage,
        provider: &'static str,
        request: &CompletionRequest,
    ) {
        let since = Instant::now();
        let mut calls = self.calls();
        calls.retain(|_, call| since.duration_since(call.since) < UNSETTLED);
        let call = OpenCall {
            id,
            since,
            max_usage,
            provider,
            model: request.model.clone(),
            progress: request.progress.clone(),
        };
        calls.insert(attempt(job), call);
    }

    /// What the job's call used, as `private.executions_settle_call` takes it; `None` when none was reserved.
    fn used(&self, job: &Job) -> Option<Value> {
        self.calls().get(&attempt(job)).map(OpenCall::used)
    }

    fn settled(&self, job: &Job) {
        self.calls().remove(&attempt(job));
    }

    /// They lost their leases, and the database has released what they reserved.
    fn forget_earlier_attempts(&self, job: &Job) {
        self.calls()
            .retain(|&(id, attempt), _| id != job.id || attempt >= job.attempt);
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<Attempt, OpenCall>> {
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

fn attempt(job: &Job) -> Attempt {
    (job.id, job.attempt)
}

impl Handler for ExecutionHandler {
    fn kinds(&self) -> Vec<String> {
        let vendors = self.models.names().into_iter();
        vendors
            .map(|vendor| format!("{}.{vendor}", Self::KIND))
            .chain([Self::KIND.to_owned()])
            .collect()
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
            self.settled(job);
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
            let used = self.used(job);
            let status = queue.fail_execution(job, failure, used.as_ref()).await?;
            self.settled(job);
            Ok(status)
        })
    }

    fn record_release<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
    ) -> BoxFuture<'a, Result<bool, DbError>> {
        Box::pin(async {
            if let Some(used) = self.used(job) {
                queue.book_call(job, &used).await?;
                self.settled(job);
            }
            queue.release(job).await
        })
    }
}

impl OpenCall {
    /// A vendor that counts only at the end of its answer has reported nothing when the call ends early. The received part
    /// was paid for, so it is estimated.
    fn used(&self) -> Value {
        let reached = self.progress.reached();
        let usage = match reached.answer_bytes {
            received if reached.usage.is_empty() && received > 0 => {
                Usage::new(self.max_usage.input, received.div_ceil(4) as u64)
            }
            _ => reached.usage,
        };
        let model = reached.model.as_ref().unwrap_or(&self.model);
        let mut used = usage.to_json(&format!("{}/{model}", self.provider));
        used["call_id"] = json!(self.id);
        used["service_tier"] = json!(reached.service_tier);
        used
    }
}

impl From<LlmError> for HandlerError {
    fn from(error: LlmError) -> Self {
        Self::Failed(Failure {
            code: error.code().into(),
            retryable: error.retryable(),
            retry_after: error.retry_after,
            outage: error.fault.is_outage(),
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
            outage: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::llm::Echo;

    fn handler() -> ExecutionHandler {
        let sandbox = Arc::new(Sandbox::new("/nonexistent".into()));
        ExecutionHandler::new(Models::default(), 100, sandbox, Metrics::default())
    }

    fn job(id: Uuid, attempt: i32) -> Job {
        Job {
            id,
            org_id: Uuid::nil(),
            kind: ExecutionHandler::KIND.to_owned(),
            payload: json!({}),
            attempt,
            max_attempts: 5,
            timeout: Duration::from_secs(1),
            waited: Duration::ZERO,
        }
    }

    fn open(handler: &ExecutionHandler, job: &Job) -> Uuid {
        let request = CompletionRequest {
            model: "m".into(),
            prompt: String::new(),
            parameters: Map::new(),
            max_tokens: 1,
            progress: Progress::default(),
        };
        let call = Uuid::new_v4();
        handler.open(job, call, Usage::new(1, 1), Echo.name(), &request);
        call
    }

    fn call_of(handler: &ExecutionHandler, job: &Job) -> Option<Value> {
        handler.used(job).map(|used| used["call_id"].clone())
    }

    #[test]
    fn an_old_attempt_that_ends_leaves_the_next_ones_call_open() {
        let (handler, id) = (handler(), Uuid::new_v4());
        let (old, new) = (job(id, 1), job(id, 2));
        open(&handler, &old);
        let call = open(&handler, &new);
        handler.settled(&old);
        assert_eq!(call_of(&handler, &old), None);
        assert_eq!(call_of(&handler, &new), Some(json!(call)));
    }

    #[test]
    fn a_new_attempt_forgets_the_calls_of_earlier_ones_of_its_job_only() {
        let (handler, id) = (handler(), Uuid::new_v4());
        let other = job(Uuid::new_v4(), 1);
        open(&handler, &job(id, 1));
        open(&handler, &other);
        handler.forget_earlier_attempts(&job(id, 2));
        assert_eq!(call_of(&handler, &job(id, 1)), None);
        assert!(call_of(&handler, &other).is_some());
    }
}

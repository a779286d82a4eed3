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
    open: Mutex<HashMap<Uuid, OpenCall>>,
}

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
        // Of an attempt that lost its lease; nobody pays for that.
        self.settled(job.id);
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
                self.open(job.id, call_id, max_usage, provider.name(), request);
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
        job: Uuid,
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
        calls.insert(job, call);
    }

    /// What the job's call used, as `private.settle_call` takes it; `None` when none was reserved.
    fn used(&self, job: Uuid) -> Option<Value> {
        self.calls().get(&job).map(OpenCall::used)
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

    fn record_release<'a>(
        &'a self,
        queue: &'a Queue,
        job: &'a Job,
    ) -> BoxFuture<'a, Result<bool, DbError>> {
        Box::pin(async {
            if let Some(used) = self.used(job.id) {
                queue.book_call(job, &used).await?;
                self.settled(job.id);
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

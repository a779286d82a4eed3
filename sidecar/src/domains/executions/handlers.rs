//! Jobs of the kinds `execution` and `execution.<vendor>`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use kijko_core::{
    db::DbError,
    jobs::{Failure, Handler, HandlerError, Job, JobKind, Queue, Registry},
    telemetry::{canonical, traces::Tracer},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    metrics::CallSeries,
    open_call::{Attempt, OPEN_CALL_TTL, OpenCall, attempt},
    output::{outcome, wants_json},
    spans::Spans,
    store::{Execution, Reservation, Store},
    text::TextWriter,
};
use crate::{
    input_files::InputFiles,
    llm::{CompletionRequest, Echo, Models, Progress, Provider, Usage, max_tokens},
    sandbox::{PromptError, PromptRequest, Sandbox},
};

/// The payload of such a job.
#[derive(Debug, Deserialize)]
pub struct ExecutionJob {
    /// The execution that is to run.
    pub execution_id: Uuid,
}

/// Executions are queued under this kind, a dot and their vendor's name, so that a worker claims only those that it has
/// keys for, and one vendor's outage does not delay the others. Models of unknown vendors have this kind alone.
impl JobKind for ExecutionJob {
    const KIND: &'static str = "execution";
}

/// Runs executions.
pub struct ExecutionHandler {
    store: Store,
    models: Models,
    default_max_tokens: u64,
    sandbox: Arc<Sandbox>,
    files: Arc<InputFiles>,
    series: Arc<CallSeries>,
    spans: Spans,
    /// By job and attempt: an attempt that lost its lease may end after the next one has begun, and must leave it alone.
    open: Mutex<HashMap<Attempt, OpenCall>>,
}

impl ExecutionHandler {
    /// A handler with these models.
    pub fn new(
        store: Store,
        models: Models,
        default_max_tokens: u64,
        sandbox: Arc<Sandbox>,
        files: Arc<InputFiles>,
        series: Arc<CallSeries>,
        tracer: Tracer,
    ) -> Self {
        Self {
            store,
            models,
            default_max_tokens,
            sandbox,
            files,
            series,
            spans: Spans::new(tracer),
            open: Mutex::default(),
        }
    }

    /// Registers the kind alone and the kinds of the configured vendors.
    pub fn register(self: Arc<Self>, registry: &mut Registry) {
        // Echo answers from here: it never keeps others waiting, and has none to leave a slot to.
        let names = self.models.names().into_iter();
        let (own, vendors): (Vec<_>, Vec<_>) = names.partition(|name| *name == Echo.name());
        registry.register_variants(own, self.clone());
        registry.register_variants(vendors, self.clone());
        registry.register(self);
    }

    async fn execute(&self, queue: &Queue, job: &Job) -> Result<Value, HandlerError> {
        self.forget_earlier_attempts(job);
        let mut execution = queue
            .begin(|| self.store.start(queue, job))
            .await?
            .ok_or(HandlerError::Superseded)?;
        canonical::add("model", execution.model.as_str());
        let (provider, model) = self.models.pick(&execution.model)?;
        let wants_json = wants_json(&execution.parameters);
        let max_tokens = max_tokens(
            &execution.parameters,
            self.default_max_tokens,
            execution.max_output_tokens,
        )?;
        // Before anything is reserved: a file that cannot be read costs nothing.
        if execution.reads_files {
            execution.input = self.files.fill(queue, job, execution.input).await?;
        }
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
        let mut call = self.series.call(provider.name(), progress.clone());
        let text = TextWriter::new(&self.store, queue, job, progress.clone());
        let answer = text.beside(provider.complete(request)).await;
        if let Ok(completion) = &answer {
            progress.update(|state| {
                state.usage = completion.usage;
                state.model = Some(completion.model.clone());
            });
        }
        call.ended(answer.as_ref().err());
        let tier = progress.state().service_tier;
        let outcome = outcome(provider.name(), call_id, tier, answer?, wants_json)?;
        add_usage(&outcome);
        Ok(outcome)
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
        let reserved = queue
            .begin(|| self.store.reserve_call(queue, job, &call))
            .await?;
        match reserved.ok_or(HandlerError::Superseded)? {
            Ok(Reservation { call_id }) => {
                self.open(job, call_id, max_usage, provider.name(), request);
                Ok(call_id)
            }
            // It does not fit into the plan, or has no price.
            Err(refusal) => Err(Failure::permanent(refusal.code, refusal.message).into()),
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
        calls.retain(|_, call| since.duration_since(call.since) < OPEN_CALL_TTL);
        let call = OpenCall {
            id,
            since,
            start: SystemTime::now(),
            max_usage,
            provider,
            model: request.model.clone(),
            progress: request.progress.clone(),
        };
        calls.insert(attempt(job), call);
    }

    /// What the attempt's call used; `None` when none was reserved.
    fn usage(&self, job: &Job) -> Option<Value> {
        self.calls().get(&attempt(job)).map(OpenCall::usage)
    }

    /// The attempt is recorded; `code` says why it failed.
    fn settled(&self, job: &Job, code: Option<&str>) {
        let call = self.calls().remove(&attempt(job));
        self.spans.end(job, call.map(OpenCall::end), code);
    }

    /// Earlier attempts have lost their leases, and the database has released their reservations.
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
            engine: execution.engine,
            input: execution.input.clone(),
            schema: execution.input_schema.clone(),
        };
        self.sandbox.make_prompt(&request).await
    }
}

impl Handler for ExecutionHandler {
    type Payload = ExecutionJob;

    async fn run(
        &self,
        queue: &Queue,
        job: &Job,
        payload: ExecutionJob,
    ) -> Result<Value, HandlerError> {
        canonical::add("execution_id", payload.execution_id.to_string());
        self.spans.begin(job, payload.execution_id);
        self.execute(queue, job).await
    }

    async fn record_success(
        &self,
        queue: &Queue,
        job: &Job,
        result: &Value,
    ) -> Result<bool, DbError> {
        let taken = self.store.finish(queue, job, result).await?;
        // What the database did not take as a success was cancelled meanwhile.
        self.settled(job, (!taken).then_some("cancelled"));
        Ok(taken)
    }

    async fn record_failure(
        &self,
        queue: &Queue,
        job: &Job,
        failure: &Failure,
    ) -> Result<Option<String>, DbError> {
        let usage = self.usage(job);
        if let Some(usage) = &usage {
            add_usage(usage);
        }
        let status = self.store.fail(queue, job, failure, usage.as_ref()).await?;
        self.settled(job, Some(&failure.code));
        Ok(status)
    }

    async fn record_release(
        &self,
        queue: &Queue,
        job: &Job,
        pause: Duration,
    ) -> Result<bool, DbError> {
        if let Some(usage) = self.usage(job) {
            add_usage(&usage);
            self.store.record_call(queue, job, &usage).await?;
        }
        let code = if pause.is_zero() { "shutdown" } else { "held" };
        self.settled(job, Some(code));
        queue.release(job, pause).await
    }
}

/// The job's canonical line has the model that answered and its usage.
fn add_usage(usage: &Value) {
    for field in ["model", "input_tokens", "output_tokens", "service_tier"] {
        match &usage[field] {
            Value::Null => {}
            value => canonical::add(field, value.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Map;

    use super::*;
    use crate::app::test;

    fn handler() -> ExecutionHandler {
        let sandbox = Arc::new(Sandbox::new("/nonexistent".into()));
        let db = test::context().db;
        let files = InputFiles::new(db.clone(), None).unwrap();
        ExecutionHandler::new(
            Store::new(db),
            Models::default(),
            100,
            sandbox,
            Arc::new(files),
            Arc::default(),
            Tracer::off(),
        )
    }

    fn job(id: Uuid, attempt: i32) -> Job {
        Job {
            id,
            org_id: Uuid::nil(),
            kind: ExecutionJob::KIND.to_owned(),
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
        handler.usage(job).map(|usage| usage["call_id"].clone())
    }

    #[test]
    fn an_old_attempt_that_ends_leaves_the_next_ones_call_open() {
        let (handler, id) = (handler(), Uuid::new_v4());
        let (old, new) = (job(id, 1), job(id, 2));
        open(&handler, &old);
        let call = open(&handler, &new);
        handler.settled(&old, None);
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

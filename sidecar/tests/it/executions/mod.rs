//! Executions from prompt to record. The jobs are held by the test's own worker from the start, so that no other one
//! takes them.

mod calls;
mod costs;
mod failures;
mod results;
mod spans;
mod text;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use kijko_core::{
    db::Db,
    jobs::{
        Job, JobClass, JobKind, Queue,
        leases::{Lease, Leases, Stop},
        metrics::JobSeries,
        runner,
    },
    telemetry::traces::Tracer,
};
use kijko_sidecar::{
    domains::executions::{ExecutionHandler, ExecutionJob, Store},
    input_files::InputFiles,
    llm::{Completion, CompletionRequest, Echo, LlmError, LlmFault, Models, Provider, Usage},
    sandbox::Sandbox,
};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::{Tenant, db, queue};

/// A vendor with one answer to everything.
struct Fixed(Result<Completion, LlmError>);

impl Provider for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    /// A failure comes after 1,000 tokens of prompt and 10 of answer.
    fn complete(&self, request: CompletionRequest) -> BoxFuture<'_, Result<Completion, LlmError>> {
        Box::pin(async move {
            if self.0.is_err() {
                request.progress.update(|state| {
                    state.usage = Usage::new(1_000, 10);
                    state.model = Some("one-2026".into());
                });
            }
            self.0.clone()
        })
    }
}

fn answer(text: &str) -> Result<Completion, LlmError> {
    Ok(Completion {
        text: text.into(),
        model: "one".into(),
        usage: Usage::new(1_000, 500),
        finish_reason: Some("stop".into()),
    })
}

/// A vendor that begins its answer and is never done. It counts at the start, or not before the end.
struct Endless(tokio::sync::mpsc::Sender<()>, bool);

impl Provider for Endless {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn complete(&self, request: CompletionRequest) -> BoxFuture<'_, Result<Completion, LlmError>> {
        Box::pin(async move {
            request.progress.update(|state| {
                state.answer_bytes = 400;
                if self.1 {
                    state.usage = Usage::new(700, 3);
                }
            });
            self.0.send(()).await.unwrap();
            std::future::pending().await
        })
    }
}

/// A vendor that only counts its calls.
struct Counting(&'static str, Arc<AtomicUsize>);

impl Provider for Counting {
    fn name(&self) -> &'static str {
        self.0
    }

    fn complete(&self, _: CompletionRequest) -> BoxFuture<'_, Result<Completion, LlmError>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { answer("called") })
    }
}

struct Bench {
    tracer: Tracer,
    tenant: Tenant,
    queue: Queue,
    db: Db,
}

struct Skill {
    template: &'static str,
    schema: Value,
    model: &'static str,
    parameters: Value,
}

/// A skill that echoes a topic.
fn skill() -> Skill {
    Skill {
        template: "About {{ topic }}",
        schema: json!({}),
        model: "echo/echo",
        parameters: json!({}),
    }
}

/// A skill that asks the test's own vendor.
fn fixed_skill() -> Skill {
    Skill {
        template: "x",
        model: "fixed/one",
        ..skill()
    }
}

/// A lease that outlasts the test.
fn lease(job: &Job) -> Arc<Lease> {
    let until = Instant::now() + Duration::from_secs(60);
    Leases::default().enter(job.id, JobClass::Long, until).0
}

fn handler(db: Db, models: Models, tracer: Tracer) -> ExecutionHandler {
    let sandbox = Sandbox::new(PathBuf::from(env!("CARGO_BIN_EXE_kijko-sidecar")));
    let files = InputFiles::new(db.clone(), None).unwrap();
    ExecutionHandler::new(
        Store::new(db),
        models,
        4_000,
        Arc::new(sandbox),
        Arc::new(files),
        Arc::default(),
        tracer,
    )
}

impl Bench {
    async fn new() -> Self {
        let tenant = Tenant::new().await;
        let price = "insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok, cache_write_1h_microusd_per_mtok)
                     values ('fixed/*', 1000000, 2000000, 4000000) on conflict do nothing";
        tenant.admin.batch_execute(price).await.unwrap();
        let db = db();
        Self {
            tracer: Tracer::off(),
            tenant,
            queue: queue(&db, Duration::from_secs(60)),
            db,
        }
    }

    /// An execution whose job is held by our worker.
    async fn execution(&self, skill: Skill, input: Value) -> (Job, Uuid) {
        let (tenant, worker) = (&self.tenant, self.queue.worker());
        let skill_id: Uuid = tenant
            .value(
                "insert into public.skills (org_id, name, prompt_template, input_schema, model, parameters)
                 values ($1, 'test', $2, $3, $4, $5) returning id",
                &[&tenant.org_id, &skill.template, &skill.schema, &skill.model, &skill.parameters],
            )
            .await;
        let job_id: Uuid = tenant
            .value(
                "insert into public.jobs (org_id, kind, status, attempt, locked_by, locked_until, started_at)
                 values ($1, private.executions_job_kind($3), 'running', 1, $2, now() + interval '1 hour', now()) returning id",
                &[&tenant.org_id, &worker, &skill.model],
            )
            .await;
        let execution_id: Uuid = tenant
            .value(
                "insert into public.executions (org_id, skill_id, job_id, input) values ($1, $2, $3, $4) returning id",
                &[&tenant.org_id, &skill_id, &job_id, &input],
            )
            .await;
        let job = Job {
            id: job_id,
            org_id: tenant.org_id,
            kind: ExecutionJob::KIND.to_owned(),
            payload: json!({"execution_id": execution_id}),
            attempt: 1,
            max_attempts: 5,
            timeout: Duration::from_secs(30),
            waited: Duration::ZERO,
        };
        (job, execution_id)
    }

    /// The same, reserved as `execute_skill` does.
    async fn reserved(&self, skill: Skill, input: Value) -> (Job, Uuid) {
        let (job, execution) = self.execution(skill, input).await;
        self.tenant
            .value::<Uuid>(
                "update public.executions set hold_id = private.executions_reserve(org_id) where id = $1 returning hold_id",
                &[&execution],
            )
            .await;
        (job, execution)
    }

    /// What is held for calls of models.
    async fn held(&self) -> i64 {
        let sql = "select coalesce(sum(amount), 0)::bigint from kijko.holds
                   where subject = $1 and meter like 'llm_%' and state = 'open'";
        self.tenant.value(sql, &[&self.tenant.org_id]).await
    }

    /// Runs the job as the worker would.
    async fn run(&self, job: &Job, vendor: Option<Fixed>) {
        let lease = lease(job);
        let vendor = vendor.map(|vendor| Arc::new(vendor) as Arc<dyn Provider>);
        self.run_leased(job, vendor, &lease).await;
    }

    async fn run_leased(&self, job: &Job, vendor: Option<Arc<dyn Provider>>, lease: &Lease) {
        let mut models = Models::default();
        models.add(Arc::new(Echo));
        if let Some(vendor) = vendor {
            models.add(vendor);
        }
        self.run_with(job, models, lease).await;
    }

    async fn run_with(&self, job: &Job, models: Models, lease: &Lease) {
        let handler = Arc::new(handler(self.db.clone(), models, self.tracer.clone()));
        let series = JobSeries::new(self.db.clone(), Arc::default(), 1);
        runner::run(&self.queue, handler, job.clone(), lease, &series).await;
    }

    /// Makes, runs and returns the execution as JSON.
    async fn execute(&self, skill: Skill, input: Value, vendor: Option<Fixed>) -> Value {
        let (job, execution) = self.execution(skill, input).await;
        self.run(&job, vendor).await;
        self.read(execution).await
    }

    async fn read(&self, execution: Uuid) -> Value {
        self.tenant
            .value(
                "select to_jsonb(e) from public.executions as e where id = $1",
                &[&execution],
            )
            .await
    }

    async fn used(&self, meter: &str) -> i64 {
        let sql = "select coalesce(sum(used), 0)::bigint from kijko.usage($1) where meter = $2";
        self.tenant.value(sql, &[&self.tenant.org_id, &meter]).await
    }
}

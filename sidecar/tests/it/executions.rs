//! Executions from prompt to record. The jobs are held by the test's own worker from the start, so that no other one
//! takes them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use kijko_sidecar::{
    jobs::{
        Job, Queue,
        execution::ExecutionHandler,
        runner,
        running::{Lease, Running, Stop},
    },
    llm::{Completion, CompletionRequest, Echo, LlmError, LlmFault, Models, Provider, Usage},
    sandbox::Sandbox,
    telemetry::Metrics,
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
                request.progress.update(|reached| {
                    reached.usage = Usage::new(1_000, 10);
                    reached.model = Some("one-2026".into());
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

/// A vendor that begins its answer and is never done.
struct Endless(tokio::sync::mpsc::Sender<()>);

impl Provider for Endless {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn complete(&self, request: CompletionRequest) -> BoxFuture<'_, Result<Completion, LlmError>> {
        Box::pin(async move {
            request
                .progress
                .update(|reached| reached.usage = Usage::new(700, 3));
            self.0.send(()).await.unwrap();
            std::future::pending().await
        })
    }
}

struct Bench {
    tenant: Tenant,
    queue: Queue,
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

impl Bench {
    async fn new() -> Self {
        Self {
            tenant: Tenant::new().await,
            queue: queue(&db(), Duration::from_secs(60)),
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
                 values ($1, 'execution', 'running', 1, $2, now() + interval '1 hour', now()) returning id",
                &[&tenant.org_id, &worker],
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
            kind: ExecutionHandler::KIND.to_owned(),
            payload: json!({"execution_id": execution_id}),
            attempt: 1,
            max_attempts: 5,
            timeout: Duration::from_secs(30),
            waited: Duration::ZERO,
        };
        (job, execution_id)
    }

    /// Runs the job as the worker would.
    async fn run(&self, job: &Job, vendor: Option<Fixed>) {
        let (lease, _) = Running::default().enter(job.id, Instant::now() + Duration::from_secs(60));
        let vendor = vendor.map(|vendor| Arc::new(vendor) as Arc<dyn Provider>);
        self.run_leased(job, vendor, &lease).await;
    }

    async fn run_leased(&self, job: &Job, vendor: Option<Arc<dyn Provider>>, lease: &Lease) {
        let mut models = Models::default();
        models.add(Arc::new(Echo));
        if let Some(vendor) = vendor {
            models.add(vendor);
        }
        let sandbox = Arc::new(Sandbox::new(PathBuf::from(env!(
            "CARGO_BIN_EXE_kijko-sidecar"
        ))));
        let handler = Arc::new(ExecutionHandler::new(models, sandbox, Metrics::default()));
        runner::run(
            &self.queue,
            handler,
            job.clone(),
            lease,
            &Metrics::default(),
        )
        .await;
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

#[tokio::test]
async fn an_execution_ends_with_output_tokens_cost_and_usage() {
    let bench = Bench::new().await;
    let execution = bench
        .execute(skill(), json!({"topic": "two words"}), None)
        .await;
    assert_eq!(execution["status"], "succeeded", "{execution}");
    assert_eq!(execution["output"], json!({"text": "About two words"}));
    assert_eq!(
        (&execution["input_tokens"], &execution["output_tokens"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(execution["model"], "echo/echo");
    assert!(execution["cost_microusd"].as_i64().unwrap() > 0);
    assert_eq!(bench.used("llm_tokens").await, 6);
}

#[tokio::test]
async fn running_it_again_changes_and_charges_nothing() {
    let bench = Bench::new().await;
    let (job, execution) = bench.execution(skill(), json!({"topic": "once"})).await;
    bench.run(&job, None).await;
    let first = bench.read(execution).await;
    bench.run(&job, None).await;
    assert_eq!(bench.read(execution).await, first);
    assert_eq!(bench.used("llm_tokens").await, 4);
}

#[tokio::test]
async fn an_attempt_that_is_no_longer_the_current_one_changes_nothing() {
    let bench = Bench::new().await;
    let (job, execution) = bench.execution(skill(), json!({"topic": "x"})).await;
    bench
        .tenant
        .admin
        .execute(
            "update public.jobs set attempt = 2 where id = $1",
            &[&job.id],
        )
        .await
        .unwrap();
    bench.run(&job, None).await;
    assert_eq!(bench.read(execution).await["status"], "queued");
}

#[tokio::test]
async fn what_the_author_or_the_caller_did_wrong_is_final_and_named() {
    let bench = Bench::new().await;
    let needs_topic = json!({"type": "object", "required": ["topic"]});
    let cases = [
        (
            Skill {
                schema: needs_topic,
                ..skill()
            },
            "invalid_input",
        ),
        (
            Skill {
                schema: json!({"type": "strnig"}),
                ..skill()
            },
            "invalid_schema",
        ),
        (skill(), "template_error"),
        (
            Skill {
                template: "{% for %}",
                ..skill()
            },
            "template_error",
        ),
        (
            Skill {
                template: "x",
                model: "nobody/model",
                ..skill()
            },
            "model_not_available",
        ),
        (
            Skill {
                template: "no json",
                parameters: json!({"response_format": "json"}),
                ..skill()
            },
            "vendor_malformed",
        ),
    ];
    for (skill, code) in cases {
        let retryable = code == "vendor_malformed";
        let execution = bench.execute(skill, json!({}), None).await;
        assert_eq!(execution["error_code"], code, "{execution}");
        assert_eq!(
            execution["status"],
            if retryable { "queued" } else { "failed" },
            "{execution}"
        );
    }
}

#[tokio::test]
async fn json_output_is_parsed() {
    let bench = Bench::new().await;
    let skill = Skill {
        template: "{{ input | tojson }}",
        parameters: json!({"response_format": {"type": "json_object"}}),
        ..skill()
    };
    let execution = bench.execute(skill, json!({"a": [1, null]}), None).await;
    assert_eq!(
        execution["output"]["json"],
        json!({"a": [1, null]}),
        "{execution}"
    );
}

#[tokio::test]
async fn text_that_postgres_cannot_hold_is_recorded_all_the_same() {
    let bench = Bench::new().await;
    let skill = Skill {
        template: "x",
        model: "fixed/one",
        ..skill()
    };
    let execution = bench
        .execute(skill, json!({}), Some(Fixed(answer("a\0b"))))
        .await;
    assert_eq!(execution["output"]["text"], "a\u{fffd}b", "{execution}");
    assert_eq!(bench.used("llm_tokens").await, 1_500);
}

#[tokio::test]
async fn an_output_that_is_too_large_is_an_error_and_is_still_charged() {
    let bench = Bench::new().await;
    let skill = Skill {
        template: "x",
        model: "fixed/one",
        ..skill()
    };
    let execution = bench
        .execute(skill, json!({}), Some(Fixed(answer(&"x".repeat(2 << 20)))))
        .await;
    assert_eq!(
        (&execution["status"], &execution["error_code"]),
        (&json!("failed"), &json!("output_too_large"))
    );
    assert_eq!(bench.used("llm_tokens").await, 1_500);
}

#[tokio::test]
async fn a_busy_vendor_puts_it_back_until_the_vendor_wants_it() {
    let bench = Bench::new().await;
    let busy = LlmError {
        retry_after: Some(Duration::from_secs(100)),
        ..LlmError::new(LlmFault::RateLimited, "too many")
    };
    let (job, execution) = bench
        .execution(
            Skill {
                template: "x",
                model: "fixed/one",
                ..skill()
            },
            json!({}),
        )
        .await;
    bench.run(&job, Some(Fixed(Err(busy)))).await;
    let execution = bench.read(execution).await;
    assert_eq!(
        (&execution["status"], &execution["error_code"]),
        (&json!("queued"), &json!("vendor_rate_limited"))
    );
    let waits = bench
        .tenant
        .job(job.id, "run_at > now() + interval '95 seconds'")
        .await;
    assert_eq!(waits.as_deref(), Some("true"));
}

#[tokio::test]
async fn a_cancelled_execution_does_not_succeed() {
    let bench = Bench::new().await;
    let (job, execution) = bench.execution(skill(), json!({"topic": "x"})).await;
    bench
        .tenant
        .value::<String>("select private.cancel_job($1)", &[&job.id])
        .await;
    bench.run(&job, None).await;
    assert_eq!(bench.read(execution).await["status"], "cancelled");
}

#[tokio::test]
async fn a_refusal_is_final_and_books_its_tokens_once() {
    let bench = Bench::new().await;
    let skill = Skill {
        template: "x",
        model: "fixed/one",
        ..skill()
    };
    let (job, execution) = bench.execution(skill, json!({})).await;
    let refused = LlmError::new(LlmFault::Refused, "the model declined");
    for _ in 0..2 {
        bench.run(&job, Some(Fixed(Err(refused.clone())))).await;
    }
    let execution = bench.read(execution).await;
    assert_eq!(
        (
            &execution["status"],
            &execution["error_code"],
            &execution["model"]
        ),
        (
            &json!("failed"),
            &json!("model_refused"),
            &json!("fixed/one-2026")
        )
    );
    assert_eq!(
        (&execution["input_tokens"], &execution["output_tokens"]),
        (&json!(1_000), &json!(10))
    );
    assert_eq!(bench.used("llm_tokens").await, 1_010);
}

#[tokio::test]
async fn an_attempt_that_fails_is_paid_for_beside_the_one_that_does_not() {
    let bench = Bench::new().await;
    let skill = Skill {
        template: "x",
        model: "fixed/one",
        ..skill()
    };
    let (mut job, execution) = bench.execution(skill, json!({})).await;
    let broken = LlmError::new(LlmFault::Truncated, "the answer broke off");
    bench.run(&job, Some(Fixed(Err(broken)))).await;
    assert_eq!(bench.read(execution).await["status"], "queued");
    bench
        .tenant
        .admin
        .execute(
            "update public.jobs set status = 'running', attempt = 2, locked_by = $2, locked_until = now() + interval '1 hour'
             where id = $1",
            &[&job.id, &bench.queue.worker()],
        )
        .await
        .unwrap();
    job.attempt = 2;
    bench.run(&job, Some(Fixed(answer("done")))).await;
    let execution = bench.read(execution).await;
    assert_eq!(execution["status"], "succeeded", "{execution}");
    assert_eq!(
        (&execution["input_tokens"], &execution["output_tokens"]),
        (&json!(2_000), &json!(510))
    );
    assert_eq!(bench.used("llm_tokens").await, 2_510);
}

#[tokio::test]
async fn a_call_that_is_cancelled_or_runs_out_of_time_is_paid_for_as_far_as_it_came() {
    for (cancelled, status, code) in [
        (true, "cancelled", "cancelled"),
        (false, "queued", "timeout"),
    ] {
        let bench = Bench::new().await;
        let skill = Skill {
            template: "x",
            model: "fixed/one",
            ..skill()
        };
        let (mut job, execution) = bench.execution(skill, json!({})).await;
        job.timeout = Duration::from_secs(if cancelled { 30 } else { 2 });
        let (began, mut begins) = tokio::sync::mpsc::channel(1);
        let (lease, _) = Running::default().enter(job.id, Instant::now() + Duration::from_secs(60));
        let cancelling = async {
            begins.recv().await.unwrap();
            if cancelled {
                bench
                    .tenant
                    .value::<String>("select private.cancel_job($1)", &[&job.id])
                    .await;
                lease.stop(Stop::Cancelled);
            }
        };
        tokio::join!(
            bench.run_leased(&job, Some(Arc::new(Endless(began))), &lease),
            cancelling
        );
        let execution = bench.read(execution).await;
        assert_eq!(
            (&execution["status"], &execution["error_code"]),
            (&json!(status), &json!(code)),
            "{execution}"
        );
        assert_eq!(bench.used("llm_tokens").await, 703);
        assert_eq!(execution["input_tokens"], json!(700));
    }
}

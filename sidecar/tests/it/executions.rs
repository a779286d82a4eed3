//! Executions from prompt to record. The jobs are held by the test's own worker from the start, so that no other one
//! takes them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use kijko_sidecar::{
    jobs::{
        Handler, Job, Queue,
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

/// A vendor that begins its answer and is never done. It counts at the start, or not before the end.
struct Endless(tokio::sync::mpsc::Sender<()>, bool);

impl Provider for Endless {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn complete(&self, request: CompletionRequest) -> BoxFuture<'_, Result<Completion, LlmError>> {
        Box::pin(async move {
            request.progress.update(|reached| {
                reached.answer_bytes = 400;
                if self.1 {
                    reached.usage = Usage::new(700, 3);
                }
            });
            self.0.send(()).await.unwrap();
            std::future::pending().await
        })
    }
}

/// A vendor that only counts its calls.
struct Counting(&'static str, Arc<std::sync::atomic::AtomicUsize>);

impl Provider for Counting {
    fn name(&self) -> &'static str {
        self.0
    }

    fn complete(&self, _: CompletionRequest) -> BoxFuture<'_, Result<Completion, LlmError>> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Box::pin(async { answer("called") })
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
        let tenant = Tenant::new().await;
        let price = "insert into public.llm_models (id, input_microusd_per_mtok, output_microusd_per_mtok, cache_write_1h_microusd_per_mtok)
                     values ('fixed/*', 1000000, 2000000, 4000000) on conflict do nothing";
        tenant.admin.batch_execute(price).await.unwrap();
        Self {
            tenant,
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
            kind: ExecutionHandler::KIND.to_owned(),
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
        self.run_with(job, models, lease).await;
    }

    async fn run_with(&self, job: &Job, models: Models, lease: &Lease) {
        let sandbox = Arc::new(Sandbox::new(PathBuf::from(env!(
            "CARGO_BIN_EXE_kijko-sidecar"
        ))));
        let handler = Arc::new(ExecutionHandler::new(
            models,
            4_000,
            sandbox,
            Metrics::default(),
        ));
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
    // It was the vendor's fault and not the job's.
    let uncounted = bench.tenant.job(job.id, "uncounted_attempts").await;
    assert_eq!(uncounted.as_deref(), Some("1"));
}

#[tokio::test]
async fn what_a_vendor_is_asked_for_is_what_its_kind_says() {
    let tenant = Tenant::new().await;
    let mut models = Models::default();
    models.add(Arc::new(Echo));
    let sandbox = Arc::new(Sandbox::new(PathBuf::from(env!(
        "CARGO_BIN_EXE_kijko-sidecar"
    ))));
    let handler = ExecutionHandler::new(models.clone(), 4_096, sandbox, Metrics::default());
    let mut kinds = handler.kinds();
    kinds.sort();
    assert_eq!(kinds, ["execution", "execution.echo"]);
    // Whose name the database reads off a model is the provider that is asked for it.
    let named = |provider| Arc::new(Named(provider)) as Arc<dyn Provider>;
    for provider in ["openai", "anthropic", "gemini"] {
        models.add(named(provider));
    }
    for model in [
        "echo/echo",
        "openai/meta/llama",
        "gpt-4o",
        "chatgpt-4o-latest",
        "o3-mini",
        "anything",
        "anthropic/claude",
        "claude-sonnet-4-5",
        "gemini-2.5-pro",
        "gemini/x",
    ] {
        let kind: String = tenant
            .value("select private.executions_job_kind($1)", &[&model])
            .await;
        let (provider, _) = models.pick(model).unwrap();
        assert_eq!(kind, format!("execution.{}", provider.name()), "{model}");
    }
    let nobodys: String = tenant
        .value("select private.executions_job_kind('acme/one')", &[])
        .await;
    assert_eq!(nobodys, "execution");
    assert!(models.pick("acme/one").is_err());
}

/// A vendor that is never asked.
struct Named(&'static str);

impl Provider for Named {
    fn name(&self) -> &'static str {
        self.0
    }

    fn complete(&self, _: CompletionRequest) -> BoxFuture<'_, Result<Completion, LlmError>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_cancelled_execution_does_not_succeed() {
    let bench = Bench::new().await;
    let (job, execution) = bench.execution(skill(), json!({"topic": "x"})).await;
    bench
        .tenant
        .value::<String>("select private.jobs_cancel($1)", &[&job.id])
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
                    .value::<String>("select private.jobs_cancel($1)", &[&job.id])
                    .await;
                lease.stop(Stop::Cancelled);
            }
        };
        tokio::join!(
            bench.run_leased(&job, Some(Arc::new(Endless(began, true))), &lease),
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

/// What becomes of a call in the middle of its answer when it has to stop.
async fn stopped(counts: bool, reason: Stop) -> (Bench, Value) {
    let bench = Bench::new().await;
    let skill = Skill {
        template: "x",
        model: "fixed/one",
        ..skill()
    };
    let (job, execution) = bench.execution(skill, json!({})).await;
    let (began, mut begins) = tokio::sync::mpsc::channel(1);
    let (lease, _) = Running::default().enter(job.id, Instant::now() + Duration::from_secs(60));
    let stopping = async {
        begins.recv().await.unwrap();
        lease.stop(reason);
    };
    tokio::join!(
        bench.run_leased(&job, Some(Arc::new(Endless(began, counts))), &lease),
        stopping
    );
    let execution = bench.read(execution).await;
    (bench, execution)
}

#[tokio::test]
async fn a_call_that_is_handed_back_is_paid_for_as_far_as_it_came() {
    let (bench, execution) = stopped(true, Stop::Shutdown).await;
    let job: Uuid = serde_json::from_value(execution["job_id"].clone()).unwrap();
    // Another sidecar may have it by now.
    assert!(
        bench
            .tenant
            .events(job)
            .await
            .contains(&"released".to_owned())
    );
    assert_eq!(execution["input_tokens"], json!(700), "{execution}");
    assert_eq!(bench.used("llm_tokens").await, 703);
    assert_eq!(bench.used("llm_cost_microusd").await, 706);
    assert_eq!(bench.held().await, 0);
}

#[tokio::test]
async fn nobody_pays_for_a_call_whose_lease_is_lost() {
    let (bench, execution) = stopped(true, Stop::LeaseLost).await;
    assert_eq!(
        (&execution["status"], &execution["input_tokens"]),
        (&json!("running"), &json!(0)),
        "the job is another worker's"
    );
    let job: Uuid = serde_json::from_value(execution["job_id"].clone()).unwrap();
    bench
        .tenant
        .admin
        .execute(
            "update public.jobs set locked_until = now() - interval '1 minute' where id = $1",
            &[&job],
        )
        .await
        .unwrap();
    bench
        .tenant
        .value::<i32>("select private.jobs_requeue_expired()", &[])
        .await;
    assert_eq!(bench.used("llm_tokens").await, 0);
    assert_eq!(bench.held().await, 0);
}

#[tokio::test]
async fn what_came_of_an_answer_is_estimated_when_its_vendor_has_not_counted() {
    let (bench, execution) = stopped(false, Stop::Shutdown).await;
    assert_eq!(execution["output_tokens"], json!(100), "{execution}");
    let input = execution["input_tokens"].as_i64().unwrap();
    assert!(input > 0);
    assert_eq!(bench.used("llm_tokens").await, 100 + input);
}

#[tokio::test]
async fn parallel_calls_use_no_more_than_there_is() {
    let bench = Bench::new().await;
    let mut runs = Vec::new();
    for _ in 0..20 {
        let skill = Skill {
            template: "{{ topic }}",
            parameters: json!({"delay_ms": 500}),
            ..skill()
        };
        // Two tokens a word, of the question and of the answer: two such calls fit into 100,000.
        let topic = "a ".repeat(20_000);
        runs.push(bench.reserved(skill, json!({"topic": topic})).await);
    }
    assert_eq!(bench.used("executions").await, 20);
    futures_util::future::join_all(runs.iter().map(|(job, _)| bench.run(job, None))).await;
    let mut ended = std::collections::BTreeMap::<String, usize>::new();
    for (_, execution) in &runs {
        let execution = bench.read(*execution).await;
        let how = format!("{} {}", execution["status"], execution["error_code"]);
        *ended.entry(how).or_default() += 1;
    }
    let wanted = [
        (r#""failed" "quota_exceeded""#.to_owned(), 18),
        (r#""succeeded" null"#.to_owned(), 2),
    ];
    assert_eq!(ended.into_iter().collect::<Vec<_>>(), wanted);
    assert_eq!(bench.used("llm_tokens").await, 80_000);
    assert_eq!(
        bench.used("executions").await,
        2,
        "what is refused costs nothing"
    );
    assert_eq!(bench.held().await, 0);
}

#[tokio::test]
async fn an_input_that_the_schema_refuses_costs_nothing() {
    let bench = Bench::new().await;
    let skill = Skill {
        schema: json!({"type": "object", "properties": {"topic": {"pattern": "^(?!eo:)"}}}),
        ..skill()
    };
    let (job, execution) = bench.reserved(skill, json!({"topic": "eo:saluton"})).await;
    assert_eq!(bench.used("executions").await, 1);
    bench.run(&job, None).await;
    assert_eq!(bench.read(execution).await["error_code"], "invalid_input");
    assert_eq!(bench.used("executions").await, 0);
}

#[tokio::test]
async fn no_model_is_called_without_a_price() {
    for (model, parameters, code) in [
        ("unpriced/one", json!({}), "model_not_priced"),
        ("gpt-0-unpriced", json!({}), "model_not_priced"),
        (
            "fixed/one",
            json!({"service_tier": "priority"}),
            "model_not_priced",
        ),
        (
            "fixed/one",
            json!({"max_tokens": 3_000_000}),
            "quota_exceeded",
        ),
    ] {
        let bench = Bench::new().await;
        let skill = Skill {
            template: "x",
            model,
            parameters,
            ..skill()
        };
        let (job, execution) = bench.execution(skill, json!({})).await;
        let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (lease, _) = Running::default().enter(job.id, Instant::now() + Duration::from_secs(60));
        let mut models = Models::default();
        for name in ["unpriced", "openai", "fixed"] {
            models.add(Arc::new(Counting(name, calls.clone())));
        }
        bench.run_with(&job, models, &lease).await;
        let execution = bench.read(execution).await;
        assert_eq!(
            (&execution["status"], &execution["error_code"]),
            (&json!("failed"), &json!(code)),
            "{execution}"
        );
        assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 0);
        assert_eq!(bench.used("llm_tokens").await, 0);
    }
}

#[tokio::test]
async fn writes_that_the_cache_keeps_an_hour_are_billed_at_their_price() {
    let bench = Bench::new().await;
    let skill = Skill {
        template: "x",
        model: "fixed/one",
        ..skill()
    };
    let completion = Completion {
        usage: Usage {
            cache_write: 600,
            cache_write_1h: 200,
            ..Usage::new(1_000, 100)
        },
        ..answer("done").unwrap()
    };
    let execution = bench
        .execute(skill, json!({}), Some(Fixed(Ok(completion))))
        .await;
    // 800 * 1 + 200 * 4 + 100 * 2
    assert_eq!(execution["cost_microusd"], json!(1_800), "{execution}");
    assert_eq!(bench.used("llm_cost_microusd").await, 1_800);
}

#[tokio::test]
async fn numbers_reach_the_prompt_and_the_output_digit_by_digit() {
    let bench = Bench::new().await;
    let skill = Skill {
        template: "{{ input | tojson }}",
        parameters: json!({"response_format": "json"}),
        ..skill()
    };
    let input: Value =
        serde_json::from_str(r#"{"a": 18446744073709551616, "b": 12345678901234.123456}"#).unwrap();
    let (job, execution) = bench.execution(skill, input).await;
    bench.run(&job, None).await;
    let digits: String = bench
        .tenant
        .value(
            "select (output ->> 'text') || (output -> 'json')::text from public.executions where id = $1",
            &[&execution],
        )
        .await;
    assert_eq!(
        digits,
        r#"{"a": 18446744073709551616, "b": 12345678901234.123456}"#.repeat(2)
    );
}

//! How an execution fails.

use kijko_core::jobs::Registry;

use super::*;

#[tokio::test]
async fn mistakes_of_the_author_or_the_caller_are_final_and_have_a_code() {
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
async fn a_busy_vendor_delays_the_execution_as_it_asks() {
    let bench = Bench::new().await;
    let busy = LlmError {
        retry_after: Some(Duration::from_secs(100)),
        ..LlmError::new(LlmFault::RateLimited, "too many")
    };
    let (job, execution) = bench.execution(fixed_skill(), json!({})).await;
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
async fn the_kind_of_an_execution_names_the_provider_that_is_called() {
    let tenant = Tenant::new().await;
    let mut models = Models::default();
    models.add(Arc::new(Echo));
    let mut registry = Registry::default();
    Arc::new(handler(db(), models.clone(), Tracer::off())).register(&mut registry);
    assert_eq!(registry.kinds(), ["execution", "execution.echo"]);
    // The database derives the same provider from a model's name.
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
    let unknown: String = tenant
        .value("select private.executions_job_kind('acme/one')", &[])
        .await;
    assert_eq!(unknown, "execution");
    assert!(models.pick("acme/one").is_err());
}

/// A vendor that is never called.
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
async fn a_refusal_is_final_and_records_its_tokens_once() {
    let bench = Bench::new().await;
    let (job, execution) = bench.execution(fixed_skill(), json!({})).await;
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

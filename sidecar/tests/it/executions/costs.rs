//! Limits and prices.

use super::*;

#[tokio::test]
async fn parallel_calls_stay_within_the_limit() {
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
        let calls = Arc::new(AtomicUsize::new(0));
        let lease = lease(&job);
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
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        assert_eq!(bench.used("llm_tokens").await, 0);
    }
}

#[tokio::test]
async fn cache_writes_kept_for_an_hour_are_billed_at_their_price() {
    let bench = Bench::new().await;
    let completion = Completion {
        usage: Usage {
            cache_write: 600,
            cache_write_1h: 200,
            ..Usage::new(1_000, 100)
        },
        ..answer("done").unwrap()
    };
    let execution = bench
        .execute(fixed_skill(), json!({}), Some(Fixed(Ok(completion))))
        .await;
    // 800 * 1 + 200 * 4 + 100 * 2
    assert_eq!(execution["cost_microusd"], json!(1_800), "{execution}");
    assert_eq!(bench.used("llm_cost_microusd").await, 1_800);
}

//! What an execution ends with.

use kijko_core::telemetry::capture::Capture;

use super::*;
use crate::support::line_of;

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
async fn an_attempt_that_was_replaced_changes_nothing() {
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
async fn text_that_postgres_cannot_store_is_recorded_with_a_replacement() {
    let bench = Bench::new().await;
    let execution = bench
        .execute(fixed_skill(), json!({}), Some(Fixed(answer("a\0b"))))
        .await;
    assert_eq!(execution["output"]["text"], "a\u{fffd}b", "{execution}");
    assert_eq!(bench.used("llm_tokens").await, 1_500);
}

#[tokio::test]
async fn an_output_that_is_too_large_is_an_error_and_is_still_charged() {
    let bench = Bench::new().await;
    let execution = bench
        .execute(
            fixed_skill(),
            json!({}),
            Some(Fixed(answer(&"x".repeat(2 << 20)))),
        )
        .await;
    assert_eq!(
        (&execution["status"], &execution["error_code"]),
        (&json!("failed"), &json!("output_too_large"))
    );
    assert_eq!(bench.used("llm_tokens").await, 1_500);
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
async fn the_line_of_an_execution_names_model_and_tokens_and_no_content() {
    let log = Capture::start();
    let bench = Bench::new().await;
    let (job, execution) = bench
        .execution(skill(), json!({"topic": "the secret topic"}))
        .await;
    bench.run(&job, None).await;
    let line = line_of(&log, job.id);
    for (name, value) in [
        ("kind", json!("execution")),
        ("execution_id", json!(execution)),
        ("model", json!("echo/echo")),
        ("input_tokens", json!(4)),
        ("output_tokens", json!(4)),
        ("outcome", json!("succeeded")),
    ] {
        assert_eq!(line[name], value, "{name} of {line}");
    }
    let (job, _) = bench.execution(fixed_skill(), json!({})).await;
    let refused = LlmError::new(LlmFault::Refused, "the model declined");
    bench.run(&job, Some(Fixed(Err(refused)))).await;
    let line = line_of(&log, job.id);
    assert_eq!(
        (&line["outcome"], &line["error_code"], &line["input_tokens"]),
        (&json!("dead"), &json!("model_refused"), &json!(1_000))
    );
    assert!(!log.text().contains("secret topic"));
}

//! A call that ends early is charged as far as it came.

use super::*;

#[tokio::test]
async fn a_failed_attempt_is_charged_beside_the_one_that_succeeds() {
    let bench = Bench::new().await;
    let (mut job, execution) = bench.execution(fixed_skill(), json!({})).await;
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
async fn a_call_that_is_cancelled_or_times_out_is_charged_as_far_as_it_came() {
    for (cancelled, status, code) in [
        (true, "cancelled", "cancelled"),
        (false, "queued", "timeout"),
    ] {
        let bench = Bench::new().await;
        let (mut job, execution) = bench.execution(fixed_skill(), json!({})).await;
        job.timeout = Duration::from_secs(if cancelled { 30 } else { 2 });
        let (began, mut begins) = tokio::sync::mpsc::channel(1);
        let lease = lease(&job);
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
    let (job, execution) = bench.execution(fixed_skill(), json!({})).await;
    let (began, mut begins) = tokio::sync::mpsc::channel(1);
    let lease = lease(&job);
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
async fn a_call_that_is_handed_back_is_charged_as_far_as_it_came() {
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
async fn a_call_whose_lease_is_lost_is_not_charged() {
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
async fn a_partial_answer_without_a_count_is_estimated() {
    let (bench, execution) = stopped(false, Stop::Shutdown).await;
    assert_eq!(execution["output_tokens"], json!(100), "{execution}");
    let input = execution["input_tokens"].as_i64().unwrap();
    assert!(input > 0);
    assert_eq!(bench.used("llm_tokens").await, 100 + input);
}

//! Jobs from claim to record.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use kijko_core::telemetry::{canonical, capture::Capture};
use serde_json::json;

use super::*;
use crate::support::{Tenant, line_of, settings, unique_kind};

fn failure(retryable: bool, retry_after: Option<Duration>) -> HandlerError {
    HandlerError::Failed(Failure {
        code: "wrong".into(),
        message: "it went wrong".into(),
        retryable,
        retry_after,
        outage: false,
    })
}

#[tokio::test]
async fn jobs_run_to_their_results_and_never_more_at_once_than_there_are_slots() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("run"));
    let jobs = join_all((0..20).map(|n| tenant.enqueue(&kind, json!({"n": n})))).await;
    let (now, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let high_water = most.clone();
    let working = Working::start(
        &settings(&[]),
        handler(&kind, move |job| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(30)).await;
                // A busy machine claims the next one later: the first wait until all slots were taken.
                for _ in 0..500 {
                    if most.load(Ordering::SeqCst) >= 4 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(json!({"twice": job.payload["n"].as_i64().unwrap() * 2}))
            }
        }),
        options(),
    );
    for (n, job) in jobs.iter().enumerate() {
        tenant.job_becomes(*job, "status", "succeeded").await;
        assert_eq!(
            tenant.job(*job, "result ->> 'twice'").await,
            Some((n * 2).to_string())
        );
    }
    working.stop().await;
    assert_eq!(high_water.load(Ordering::SeqCst), 4);
    assert_eq!(
        tenant.events(jobs[0]).await,
        ["queued", "claimed", "succeeded"]
    );
}

#[tokio::test]
async fn a_notification_wakes_the_worker_long_before_it_polls() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("wake"));
    let settings = settings(&[]);
    let slow = Options {
        poll: Duration::from_secs(300),
        listen: true,
        ..options()
    };
    let working = Working::start(&settings, handler(&kind, |_| async { Ok(json!({})) }), slow);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    let job = tenant.enqueue(&kind, json!({})).await;
    tenant.job_becomes(job, "status", "succeeded").await;
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    working.stop().await;
}

#[tokio::test]
async fn a_failure_is_retried_later_or_is_final() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("fail"));
    let [again, never] = [true, false].map(|retryable| json!({"retryable": retryable}));
    let (again, never) = (
        tenant.enqueue(&kind, again).await,
        tenant.enqueue(&kind, never).await,
    );
    let work = handler(&kind, |job| async move {
        Err(failure(
            job.payload["retryable"].as_bool().unwrap(),
            Some(Duration::from_secs(500)),
        ))
    });
    let working = Working::start(&settings(&[]), work, options());
    tenant.job_becomes(again, "error_code", "wrong").await;
    tenant.job_becomes(never, "status", "dead").await;
    working.stop().await;
    assert_eq!(tenant.job(again, "status").await.as_deref(), Some("queued"));
    assert_eq!(
        tenant
            .job(again, "run_at > now() + interval '490 seconds'")
            .await
            .as_deref(),
        Some("true")
    );
    assert_eq!(
        tenant.job(never, "error").await.as_deref(),
        Some("it went wrong")
    );
}

#[tokio::test]
async fn a_panic_fails_that_job_and_no_other() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("panic"));
    let (bad, good) = (
        tenant.enqueue(&kind, json!({"panic": true})).await,
        tenant.enqueue(&kind, json!({})).await,
    );
    let work = handler(&kind, |job| async move {
        assert!(
            job.payload.get("panic").is_none(),
            "the secret of the panic"
        );
        Ok(json!({}))
    });
    let working = Working::start(&settings(&[]), work, options());
    tenant.job_becomes(good, "status", "succeeded").await;
    tenant.job_becomes(bad, "error_code", "internal").await;
    assert!(!tenant.job(bad, "error").await.unwrap().contains("secret"));
    working.stop().await;
}

#[tokio::test]
async fn an_attempt_has_its_time_limit() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("timeout"));
    let job = tenant.enqueue(&kind, json!({})).await;
    tenant
        .admin
        .execute(
            "update public.jobs set timeout_seconds = 1 where id = $1",
            &[&job],
        )
        .await
        .unwrap();
    let (hanging, interrupted) = hanging(&kind);
    let working = Working::start(&settings(&[]), hanging, options());
    tenant.job_becomes(job, "error_code", "timeout").await;
    assert!(interrupted.load(Ordering::SeqCst));
    working.stop().await;
}

#[tokio::test]
async fn several_workers_run_each_job_once() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("once"));
    let jobs = join_all((0..60).map(|_| tenant.enqueue(&kind, json!({})))).await;
    let runs = Arc::<AtomicUsize>::default();
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let runs = runs.clone();
            let work = handler(&kind, move |_| {
                runs.fetch_add(1, Ordering::SeqCst);
                async { Ok(json!({})) }
            });
            Working::start(&settings(&[]), work, options())
        })
        .collect();
    for job in jobs {
        tenant.job_becomes(job, "status", "succeeded").await;
    }
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(runs.load(Ordering::SeqCst), 60);
}

#[tokio::test]
async fn each_job_has_one_line_with_what_its_handler_added() {
    let log = Capture::start();
    let (tenant, kind) = (Tenant::new().await, unique_kind("line"));
    let (good, bad) = (
        tenant.enqueue(&kind, json!({"secret": "hidden"})).await,
        tenant.enqueue(&kind, json!({"fail": true})).await,
    );
    let work = handler(&kind, |job| async move {
        canonical::add("thing", "a name");
        match job.payload.get("fail") {
            Some(_) => Err(failure(false, None)),
            None => Ok(json!({"result": "hidden"})),
        }
    });
    let working = Working::start(&settings(&[]), work, options());
    tenant.job_becomes(good, "status", "succeeded").await;
    tenant.job_becomes(bad, "status", "dead").await;
    working.stop().await;
    let line = line_of(&log, good);
    for (name, value) in [
        ("message", json!("job")),
        ("kind", json!(kind)),
        ("org_id", json!(tenant.org_id)),
        ("attempt", json!(1)),
        ("outcome", json!("succeeded")),
        ("thing", json!("a name")),
    ] {
        assert_eq!(line[name], value, "{name} of {line}");
    }
    assert!(line["duration_ms"].is_u64() && line["waited_ms"].is_u64());
    assert!(line.get("error_code").is_none());
    let line = line_of(&log, bad);
    assert_eq!(
        (&line["outcome"], &line["error_code"], &line["retryable"]),
        (&json!("dead"), &json!("wrong"), &json!(false))
    );
    assert!(!log.text().contains("hidden"));
}

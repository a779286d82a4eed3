//! A job is ours while its lease lasts.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use kijko_core::db::DbError;
use serde_json::json;

use super::*;
use crate::support::{Tenant, db, eventually, settings, unique_kind};

#[tokio::test]
async fn heartbeats_keep_a_job_that_takes_longer_than_its_lease() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("long"));
    let job = tenant.enqueue(&kind, json!({})).await;
    let work = handler(&kind, |_| async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        Ok(json!({}))
    });
    let short = Options {
        lease: Duration::from_secs(3),
        ..options()
    };
    let working = Working::start(&settings(&[]), work, short);
    tenant.job_becomes(job, "status", "succeeded").await;
    working.stop().await;
    assert_eq!(tenant.job(job, "attempt").await.as_deref(), Some("1"));
}

/// One statement that holds the job, waits, and ends it.
struct SlowRecord(Db);

#[derive(Deserialize)]
struct Slow {}

impl JobKind for Slow {
    const KIND: &'static str = "test";
    const RECORDS_FOR_LONG: bool = true;
}

impl Handler for SlowRecord {
    type Payload = Slow;

    async fn run(&self, _: &Queue, _: &Job, _: Slow) -> Result<Value, HandlerError> {
        Ok(json!({}))
    }

    async fn record_success(&self, queue: &Queue, job: &Job, _: &Value) -> Result<bool, DbError> {
        let sql = "select private.jobs_add_event($1, $2, 'recording') and pg_sleep(3) is not null and exists ( \
                   select 1 from private.jobs_complete($1, jsonb_build_array(jsonb_build_object('id', $2::uuid, 'attempt', $3::integer, 'result', '{}'::jsonb))))";
        let worker = queue.worker();
        self.0.scalar(sql, &[&worker, &job.id, &job.attempt]).await
    }
}

#[tokio::test]
async fn a_statement_that_holds_the_job_may_take_longer_than_its_lease() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("slow_record"));
    let job = tenant.enqueue(&kind, json!({})).await;
    let short = Options {
        lease: Duration::from_secs(1),
        ..options()
    };
    let working = Working::start(&settings(&[]), only(&kind, SlowRecord(db())), short);
    tenant.job_becomes(job, "status", "succeeded").await;
    working.stop().await;
    assert_eq!(tenant.job(job, "attempt").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_job_whose_lease_went_to_another_worker_stops_and_writes_nothing() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("lost"));
    let job = tenant.enqueue(&kind, json!({})).await;
    let (hanging, interrupted) = hanging(&kind);
    let short = Options {
        lease: Duration::from_secs(3),
        ..options()
    };
    let working = Working::start(&settings(&[]), hanging, short);
    tenant.job_becomes(job, "status", "running").await;
    let steal = "update public.jobs set locked_by = 'another', locked_until = now() + interval '1 hour' where id = $1";
    tenant.admin.execute(steal, &[&job]).await.unwrap();
    eventually("the handler is interrupted", || {
        interrupted.load(Ordering::SeqCst)
    })
    .await;
    working.stop().await;
    assert_eq!(
        tenant.job(job, "locked_by").await.as_deref(),
        Some("another")
    );
    assert_eq!(tenant.job(job, "status").await.as_deref(), Some("running"));
}

#[tokio::test]
async fn a_running_job_can_be_cancelled_at_once() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("cancel"));
    let job = tenant.enqueue(&kind, json!({})).await;
    let (hanging, interrupted) = hanging(&kind);
    // Heartbeats come every 100 s here: it is the notification that makes it fast.
    let listening = Options {
        lease: Duration::from_secs(300),
        listen: true,
        ..options()
    };
    let working = Working::start(&settings(&[]), hanging, listening);
    tenant.job_becomes(job, "status", "running").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    assert_eq!(
        tenant
            .value::<String>("select private.jobs_cancel($1)", &[&job])
            .await,
        "running"
    );
    tenant.job_becomes(job, "status", "cancelled").await;
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    assert!(interrupted.load(Ordering::SeqCst));
    working.stop().await;
}

#[tokio::test]
async fn at_shutdown_short_jobs_finish_and_long_ones_are_handed_back_uncounted() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("stop"));
    let (short, long) = (
        tenant.enqueue(&kind, json!({"ms": 300})).await,
        tenant.enqueue(&kind, json!({"ms": 60_000})).await,
    );
    let work = handler(&kind, |job| async move {
        tokio::time::sleep(Duration::from_millis(job.payload["ms"].as_u64().unwrap())).await;
        Ok(json!({}))
    });
    let hasty = Options {
        grace: Duration::from_secs(1),
        ..options()
    };
    let working = Working::start(&settings(&[]), work, hasty);
    let leases = working.leases.clone();
    eventually("both run", || leases.count() == 2).await;
    let start = Instant::now();
    working.stop().await;
    assert!(start.elapsed() < Duration::from_secs(6));
    assert_eq!(
        tenant.job(short, "status").await.as_deref(),
        Some("succeeded")
    );
    assert_eq!(tenant.job(long, "status").await.as_deref(), Some("queued"));
    assert_eq!(
        tenant
            .job(long, "attempt - uncounted_attempts")
            .await
            .as_deref(),
        Some("0")
    );
    assert_eq!(
        tenant.job(long, "run_at <= now()").await.as_deref(),
        Some("true")
    );
}

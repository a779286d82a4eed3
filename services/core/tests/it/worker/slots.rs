//! Slots that long jobs leave free for short ones.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::*;
use crate::support::{Tenant, settings, unique_kind};

#[derive(Deserialize)]
struct Anybody {}

impl JobKind for Anybody {
    const KIND: &'static str = "test";
    const CLASS: JobClass = JobClass::Short;
}

struct Quick;

impl Handler for Quick {
    type Payload = Anybody;

    async fn run(&self, _: &Queue, _: &Job, _: Anybody) -> Result<Value, HandlerError> {
        Ok(json!({}))
    }
}

fn quick(kind: &str) -> Registry {
    only(kind, Quick)
}

/// A kind whose jobs end when the semaphore has a permit for each.
fn slow(kind: &str) -> (Registry, Arc<Semaphore>) {
    let may_end = Arc::new(Semaphore::new(0));
    let permits = may_end.clone();
    let registry = handler(kind, move |_| {
        let permits = permits.clone();
        async move {
            permits.acquire().await.expect("it is not closed").forget();
            Ok(json!({}))
        }
    });
    (registry, may_end)
}

async fn count_running(jobs: &[(&Tenant, Uuid)]) -> usize {
    let mut running = 0;
    for (tenant, job) in jobs {
        let status = tenant.job(*job, "status").await;
        running += usize::from(status.as_deref() == Some("running"));
    }
    running
}

#[tokio::test]
async fn short_jobs_run_while_long_ones_of_several_tenants_hold_every_other_slot() {
    let (long, short) = (unique_kind("long"), unique_kind("short"));
    let hostile = join_all((0..3).map(|_| Tenant::new())).await;
    let mut held = Vec::new();
    for tenant in &hostile {
        for _ in 0..3 {
            held.push((tenant, tenant.enqueue(&long, json!({})).await));
        }
    }
    let (mut registry, may_end) = slow(&long);
    registry.merge(quick(&short));
    let slots = Options {
        concurrency: 2,
        short_slots: 1,
        ..options()
    };
    let working = Working::start(&settings(&[]), registry, slots);
    while count_running(&held).await < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let tenant = Tenant::new().await;
    for _ in 0..5 {
        let job = tenant.enqueue(&short, json!({})).await;
        tenant.job_becomes(job, "status", "succeeded").await;
        assert_eq!(
            count_running(&held).await,
            2,
            "long jobs take no slot of short ones"
        );
    }
    // A slot that is freed goes to the long ones that wait.
    may_end.add_permits(held.len());
    for (tenant, job) in &held {
        tenant.job_becomes(*job, "status", "succeeded").await;
    }
    working.stop().await;
}

/// Short jobs that end when the semaphore has a permit for each.
struct Held(Arc<Semaphore>);

impl Handler for Held {
    type Payload = Anybody;

    async fn run(&self, _: &Queue, _: &Job, _: Anybody) -> Result<Value, HandlerError> {
        let permit = self.0.acquire().await.expect("it is not closed");
        permit.forget();
        Ok(json!({}))
    }
}

#[tokio::test]
async fn long_jobs_run_while_short_ones_of_many_tenants_wait_for_every_slot() {
    let (long, short) = (unique_kind("long"), unique_kind("short"));
    let hostile = join_all((0..6).map(|_| Tenant::new())).await;
    let mut checks = Vec::new();
    for tenant in &hostile {
        for _ in 0..2 {
            checks.push((tenant, tenant.enqueue(&short, json!({})).await));
        }
        // As checks of skills, which go before all else.
        let sql = "update public.jobs set priority = 10 where org_id = $1 and kind = $2";
        let urgent = tenant.admin.execute(sql, &[&tenant.org_id, &short]).await;
        assert_eq!(urgent.expect("the superuser may"), 2);
    }
    let may_end = Arc::new(Semaphore::new(0));
    let mut registry = only(&short, Held(may_end.clone()));
    let (long_registry, long_may_end) = slow(&long);
    registry.merge(long_registry);
    let slots = Options {
        concurrency: 3,
        short_slots: 1,
        ..options()
    };
    let working = Working::start(&settings(&[]), registry, slots);
    while count_running(&checks).await < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let tenant = Tenant::new().await;
    long_may_end.add_permits(5);
    for _ in 0..5 {
        let job = tenant.enqueue(&long, json!({})).await;
        tenant.job_becomes(job, "status", "succeeded").await;
        assert_eq!(
            count_running(&checks).await,
            2,
            "short jobs take half of all slots"
        );
    }
    may_end.add_permits(checks.len());
    for (tenant, job) in &checks {
        tenant.job_becomes(*job, "status", "succeeded").await;
    }
    working.stop().await;
}

#[tokio::test]
async fn a_worker_that_runs_no_jobs_runs_no_short_ones() {
    let (tenant, short) = (Tenant::new().await, unique_kind("short"));
    let job = tenant.enqueue(&short, json!({})).await;
    let none = Options {
        concurrency: 0,
        short_slots: 2,
        ..options()
    };
    let working = Working::start(&settings(&[]), quick(&short), none);
    tokio::time::sleep(Duration::from_millis(300)).await;
    working.stop().await;
    assert_eq!(tenant.job(job, "status").await.as_deref(), Some("queued"));
}

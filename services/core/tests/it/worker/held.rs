//! An organization for whose lock its jobs wait, as for rows that another transaction holds: the jobs of others do not.

use kijko_core::db::DbError;
use serde_json::json;

use super::*;
use crate::support::{Tenant, db, settings, unique_kind};

/// More than a pool has connections.
const MANY: usize = 12;

/// When a job takes the lock of its organization.
#[derive(Clone, Copy)]
enum When {
    Beginning,
    Recording,
    /// Some jobs so, others so.
    Either,
}

/// Takes a lock of the organization, before or after the work.
struct Locks {
    db: Db,
    when: When,
}

impl Locks {
    fn is_first(&self, job: &Job) -> bool {
        match self.when {
            When::Beginning => true,
            When::Recording => false,
            When::Either => job.id.as_u128().is_multiple_of(2),
        }
    }

    async fn lock(&self, job: &Job) -> Result<bool, DbError> {
        let sql = "select pg_advisory_xact_lock_shared(hashtextextended($1, 0))::text = ''";
        self.db.scalar(sql, &[&job.org_id.to_string()]).await
    }
}

impl Handler for Locks {
    type Payload = Anything;

    async fn run(&self, queue: &Queue, job: &Job, _: Anything) -> Result<Value, HandlerError> {
        if self.is_first(job) {
            queue.begin(|| self.lock(job)).await?;
        }
        Ok(json!({}))
    }

    async fn record_success(
        &self,
        queue: &Queue,
        job: &Job,
        result: &Value,
    ) -> Result<bool, DbError> {
        if !self.is_first(job) {
            self.lock(job).await?;
        }
        queue.complete(job, result).await
    }
}

/// Another transaction holds the organization until this is dropped.
async fn hold(tenant: &Tenant) -> Tenant {
    let holder = Tenant::new().await;
    holder.admin.batch_execute("begin").await.unwrap();
    let lock = "select pg_advisory_xact_lock(hashtextextended($1, 0))::text";
    let org = tenant.org_id.to_string();
    holder.admin.query(lock, &[&org]).await.unwrap();
    holder
}

async fn others_go_on(when: When) {
    let (held, other) = (Tenant::new().await, Tenant::new().await);
    let kind = unique_kind("held");
    let mut jobs = Vec::new();
    for _ in 0..MANY {
        jobs.push(held.enqueue(&kind, json!({})).await);
    }
    let holder = hold(&held).await;
    let registry = only(&kind, Locks { db: db(), when });
    let options = Options {
        concurrency: MANY,
        lease: Duration::from_secs(120),
        ..options()
    };
    let working = Working::start(&settings(&[]), registry, options);
    for job in &jobs {
        held.job_becomes(*job, "attempt", "1").await;
    }
    for _ in 0..5 {
        let job = other.enqueue(&kind, json!({})).await;
        other.job_becomes(job, "status", "succeeded").await;
    }
    for job in &jobs {
        let status = held.job(*job, "status").await;
        assert!(
            matches!(status.as_deref(), Some("queued" | "running")),
            "{status:?}"
        );
    }
    drop(holder);
    for job in &jobs {
        held.job_becomes(*job, "status", "succeeded").await;
        let counted = held.job(*job, "attempt - uncounted_attempts").await;
        assert_eq!(counted.as_deref(), Some("1"));
    }
    working.stop().await;
}

#[tokio::test]
async fn jobs_that_cannot_begin_are_handed_back_and_those_of_others_go_on() {
    others_go_on(When::Beginning).await;
}

#[tokio::test]
async fn jobs_that_cannot_be_recorded_leave_connections_and_slots_to_others() {
    others_go_on(When::Recording).await;
}

#[tokio::test]
async fn jobs_that_cannot_be_recorded_let_those_that_cannot_begin_be_handed_back() {
    others_go_on(When::Either).await;
}

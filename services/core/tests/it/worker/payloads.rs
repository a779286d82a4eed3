//! Payloads have a type, and kinds have a registry.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;

use super::*;
use crate::support::{Tenant, settings, unique_kind};

#[derive(Deserialize)]
struct Doubling {
    n: i64,
}

impl JobKind for Doubling {
    const KIND: &'static str = "test";
}

/// Doubles `n` and counts its runs.
struct Double(Arc<AtomicUsize>);

impl Handler for Double {
    type Payload = Doubling;

    async fn run(&self, _: &Queue, _: &Job, payload: Doubling) -> Result<Value, HandlerError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(json!({"twice": payload.n * 2}))
    }
}

#[tokio::test]
async fn a_payload_of_another_type_fails_the_job_without_another_try() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("typed"));
    let mut bad = Vec::new();
    for payload in [json!({}), json!({"n": "two"}), json!({"n": 1.5})] {
        bad.push(tenant.enqueue(&kind, payload).await);
    }
    let good = tenant.enqueue(&kind, json!({"n": 21, "more": true})).await;
    let runs = Arc::<AtomicUsize>::default();
    let registry = only(&kind, Double(runs.clone()));
    let working = Working::start(&settings(&[]), registry, options());
    tenant.job_becomes(good, "result ->> 'twice'", "42").await;
    for job in bad {
        tenant.job_becomes(job, "status", "dead").await;
        let code = tenant.job(job, "error_code").await;
        assert_eq!(code.as_deref(), Some("invalid_payload"));
        assert_eq!(tenant.job(job, "attempt").await.as_deref(), Some("1"));
    }
    working.stop().await;
    assert_eq!(
        runs.load(Ordering::SeqCst),
        1,
        "no handler saw a bad payload"
    );
}

#[tokio::test]
async fn jobs_of_unregistered_kinds_are_never_claimed() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("known"));
    let mut others = Vec::new();
    for other in [unique_kind("other"), format!("{kind}.x"), "test".to_owned()] {
        others.push(tenant.enqueue(&other, json!({"n": 1})).await);
    }
    let known = tenant.enqueue(&kind, json!({"n": 1})).await;
    let registry = only(&kind, Double(Arc::default()));
    let working = Working::start(&settings(&[]), registry, options());
    tenant.job_becomes(known, "status", "succeeded").await;
    let later = tenant.enqueue(&kind, json!({"n": 2})).await;
    tenant.job_becomes(later, "status", "succeeded").await;
    working.stop().await;
    for other in others {
        assert_eq!(tenant.job(other, "status").await.as_deref(), Some("queued"));
        assert_eq!(tenant.events(other).await, ["queued"]);
    }
}

//! A database that is unreachable, or refuses a result.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::support::{Tenant, eventually, redirect, settings, unique_kind};

#[tokio::test]
async fn a_lease_that_ended_while_the_database_was_away_stops_the_job() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("away"));
    let (settings, wire) = cuttable(settings(&[("KIJKO_DB_TIMEOUT_SECONDS", "1")])).await;
    let job = tenant.enqueue(&kind, json!({})).await;
    let (hanging, interrupted) = hanging(&kind);
    let short = Options {
        lease: Duration::from_secs(2),
        ..options()
    };
    let working = Working::start(&settings, hanging, short);
    tenant.job_becomes(job, "status", "running").await;
    let start = Instant::now();
    wire.cut();
    eventually("the handler is interrupted", || {
        interrupted.load(Ordering::SeqCst)
    })
    .await;
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    wire.mend();
    // The same worker takes it up again by itself, as a second attempt.
    tenant.job_becomes(job, "attempt", "2").await;
    working.stop.cancel();
    working.task.abort();
}

#[tokio::test]
async fn a_result_that_is_ready_while_the_database_is_away_is_recorded_when_it_is_back() {
    let (tenant, kind) = (Tenant::new().await, unique_kind("back"));
    let (settings, wire) = cuttable(settings(&[("KIJKO_DB_TIMEOUT_SECONDS", "1")])).await;
    let jobs = join_all((0..4).map(|_| tenant.enqueue(&kind, json!({})))).await;
    let runs = Arc::<AtomicUsize>::default();
    let counter = runs.clone();
    let work = handler(&kind, move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            Ok(json!({"done": true}))
        }
    });
    let listening = Options {
        listen: true,
        ..options()
    };
    let working = Working::start(&settings, work, listening);
    let leases = working.leases.clone();
    eventually("all run", || leases.count() == 4).await;
    wire.cut();
    tokio::time::sleep(Duration::from_secs(2)).await;
    wire.mend();
    for job in jobs {
        tenant.job_becomes(job, "status", "succeeded").await;
        assert_eq!(tenant.job(job, "attempt").await.as_deref(), Some("1"));
    }
    // And it goes on working: what is queued now is found.
    let next = tenant.enqueue(&kind, json!({})).await;
    tenant.job_becomes(next, "status", "succeeded").await;
    working.stop().await;
    assert_eq!(runs.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_refused_result_is_a_failure_of_its_job_only() {
    let settings = settings(&[]);
    let (tenant, kind) = (Tenant::new().await, unique_kind("refused"));
    let mut jobs = Vec::new();
    for n in 0..12 {
        jobs.push(tenant.enqueue(&kind, json!({"n": n})).await);
    }
    // All end at the same time, so that they are recorded together; no jsonb holds a NUL.
    let together = Arc::new(tokio::sync::Barrier::new(12));
    let handler = handler(&kind, move |job| {
        let together = together.clone();
        async move {
            together.wait().await;
            let text = if job.payload["n"] == 5 { "\0" } else { "fine" };
            Ok(json!({"text": text}))
        }
    });
    let working = Working::start(
        &settings,
        handler,
        Options {
            concurrency: 12,
            ..options()
        },
    );
    for (n, job) in jobs.iter().enumerate() {
        if n == 5 {
            tenant.job_becomes(*job, "error_code", "internal").await;
            tenant.job_becomes(*job, "status", "queued").await;
        } else {
            tenant.job_becomes(*job, "status", "succeeded").await;
            tenant.job_becomes(*job, "result ->> 'text'", "fine").await;
        }
    }
    working.stop().await;
}

#[tokio::test]
async fn a_transient_refusal_is_retried_for_a_while_and_affects_no_other_job() {
    let tenant = Tenant::new().await;
    for code in ["0A000", "53100", "57014"] {
        let kind = unique_kind(&format!("e{}", code.to_lowercase()));
        let name = kind.replace('.', "_");
        tenant
            .admin
            .batch_execute(&format!(
                "create function public.{name}() returns trigger language plpgsql as $$
                   begin raise exception using errcode = '{code}'; end $$;
                 create trigger {name} before update of status on public.jobs for each row
                   when (new.kind = '{kind}' and new.status = 'succeeded' and new.payload ? 'refused') execute function public.{name}()"
            ))
            .await
            .unwrap();
        let refused = tenant.enqueue(&kind, json!({"refused": true})).await;
        let others = join_all((0..3).map(|_| tenant.enqueue(&kind, json!({})))).await;

        let patient = Options {
            lease: Duration::from_secs(30),
            retry_limit: Duration::from_secs(1),
            ..options()
        };
        let work = handler(&kind, |_| async { Ok(json!({})) });
        let working = Working::start(&settings(&[]), work, patient);
        for other in others {
            tenant.job_becomes(other, "status", "succeeded").await;
            assert_eq!(tenant.job(other, "attempt").await.as_deref(), Some("1"));
        }
        tenant.job_becomes(refused, "error_code", "internal").await;
        assert_eq!(
            tenant.job(refused, "status").await.as_deref(),
            Some("queued"),
            "{code}: it is tried again"
        );
        working.stop().await;
        tenant
            .admin
            .batch_execute(&format!(
                "drop trigger {name} on public.jobs; drop function public.{name}(); delete from public.jobs where kind = '{kind}'"
            ))
            .await
            .unwrap();
    }
}

/// A wire to the database that can be cut: open connections break, new ones are dropped.
struct Wire(Arc<tokio::sync::watch::Sender<bool>>);

impl Wire {
    fn cut(&self) {
        self.0.send_replace(false);
    }

    fn mend(&self) {
        self.0.send_replace(true);
    }
}

async fn cuttable(mut settings: Settings) -> (Settings, Wire) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = redirect(&mut settings, listener.local_addr().unwrap().port());
    let up = Arc::new(tokio::sync::watch::Sender::new(true));
    let state = up.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (mut state, far) = (state.subscribe(), far.clone());
            tokio::spawn(async move {
                if !*state.borrow_and_update() {
                    return;
                }
                let mut far = TcpStream::connect(far).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    _ = state.wait_for(|up| !up) => {}
                }
            });
        }
    });
    (settings, Wire(up))
}

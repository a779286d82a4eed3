//! The worker against a real queue, with handlers made for each test.

mod held;
mod jobs;
mod leases;
mod outages;
mod payloads;
mod slots;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use kijko_core::{
    Settings,
    db::{Db, Listener, Wakeups},
    jobs::{
        Failure, Handler, HandlerError, Job, JobClass, JobKind, Queue, Registry, Worker,
        WorkerConfig, leases::Leases, metrics::JobSeries,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{no_wakeups, unique};

type Work = dyn Fn(Job) -> BoxFuture<'static, Result<Value, HandlerError>> + Send + Sync;

/// Any payload.
#[derive(Deserialize)]
#[serde(transparent)]
struct Anything(#[allow(dead_code, reason = "tests read the job's own payload")] Value);

impl JobKind for Anything {
    const KIND: &'static str = "test";
}

struct Scripted(Box<Work>);

impl Handler for Scripted {
    type Payload = Anything;

    async fn run(&self, _: &Queue, job: &Job, _: Anything) -> Result<Value, HandlerError> {
        (self.0)(job.clone()).await
    }
}

/// A registry with this kind alone, which the test's own worker claims.
fn handler<F>(kind: &str, work: impl Fn(Job) -> F + Send + Sync + 'static) -> Registry
where
    F: Future<Output = Result<Value, HandlerError>> + Send + 'static,
{
    only(kind, Scripted(Box::new(move |job| Box::pin(work(job)))))
}

fn only<H: Handler>(kind: &str, handler: H) -> Registry {
    let variant = kind.strip_prefix("test.").expect("a kind of a test");
    let mut registry = Registry::default();
    registry.register_variants([variant], Arc::new(handler));
    registry
}

/// A running worker; `stop` stops it and waits for its end.
struct Working {
    leases: Arc<Leases>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Working {
    fn start(settings: &Settings, registry: Registry, options: Options) -> Self {
        let db = Db::new(&settings.database).expect("a pool");
        let config = WorkerConfig {
            concurrency: options.concurrency,
            short_slots: options.short_slots,
            lease: options.lease,
            poll: options.poll,
            retry_limit: options.retry_limit,
            shutdown_grace: options.grace,
            queue_age_warning: Duration::from_secs(60),
        };
        let queue = Queue::new(
            db.clone(),
            unique("worker"),
            config.lease,
            config.retry_limit,
        );
        let wakeups = match options.listen {
            true => listen(settings),
            false => no_wakeups(),
        };
        let leases = Arc::<Leases>::default();
        let series = Arc::new(JobSeries::new(db, leases.clone(), config.concurrency));
        let worker = Worker::new(queue, registry, config, leases.clone(), wakeups, series);
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let stop = stop.clone();
            async move { worker.run(stop).await }
        });
        Self { leases, stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.task)
            .await
            .expect("it stops in time")
            .expect("it does not panic");
    }
}

struct Options {
    concurrency: usize,
    short_slots: usize,
    lease: Duration,
    poll: Duration,
    retry_limit: Duration,
    grace: Duration,
    listen: bool,
}

/// Polls fast, so that most tests need no listener.
fn options() -> Options {
    Options {
        concurrency: 4,
        short_slots: 0,
        lease: Duration::from_secs(10),
        poll: Duration::from_millis(50),
        retry_limit: Duration::from_secs(60),
        grace: Duration::from_secs(10),
        listen: false,
    }
}

fn listen(settings: &Settings) -> Arc<Wakeups> {
    let (wakeups, database) = (Arc::<Wakeups>::default(), settings.database.clone());
    let shared = wakeups.clone();
    tokio::spawn(async move {
        let listener = Listener {
            config: database,
            wakeups: shared,
            session_checked: true,
        };
        listener.run(CancellationToken::new()).await
    });
    wakeups
}

/// Sets a flag when the handler's future is dropped before its end.
struct Interrupted(Arc<AtomicBool>);

impl Drop for Interrupted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn hanging(kind: &str) -> (Registry, Arc<AtomicBool>) {
    let interrupted = Arc::<AtomicBool>::default();
    let flag = interrupted.clone();
    let handler = handler(kind, move |_| {
        let guard = Interrupted(flag.clone());
        async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(guard);
            Ok(json!({}))
        }
    });
    (handler, interrupted)
}

//! The worker against a real queue, with handlers made for each test.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, join_all};
use kijko_sidecar::{
    config::{Config, WorkerConfig},
    db::{Db, Listener, Wakeups},
    jobs::{Failure, Handler, HandlerError, Job, Queue, Worker, running::Running},
    telemetry::Metrics,
};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::support::{Tenant, config, eventually, silence, unique};

type Work = dyn Fn(Job) -> BoxFuture<'static, Result<Value, HandlerError>> + Send + Sync;

struct Scripted {
    kind: String,
    work: Box<Work>,
}

impl Handler for Scripted {
    fn kinds(&self) -> Vec<String> {
        vec![self.kind.clone()]
    }

    fn run<'a>(
        &'a self,
        _queue: &'a Queue,
        job: &'a Job,
    ) -> BoxFuture<'a, Result<Value, HandlerError>> {
        (self.work)(job.clone())
    }
}

fn handler<F>(kind: &str, work: impl Fn(Job) -> F + Send + Sync + 'static) -> Arc<dyn Handler>
where
    F: Future<Output = Result<Value, HandlerError>> + Send + 'static,
{
    Arc::new(Scripted {
        kind: kind.to_owned(),
        work: Box::new(move |job| Box::pin(work(job))),
    })
}

/// A running worker; it is stopped and waited for by `stop`.
struct Working {
    running: Arc<Running>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Working {
    fn start(config: &Config, handler: Arc<dyn Handler>, settings: Settings) -> Self {
        let db = Db::new(&config.database).expect("a pool");
        let queue = Queue::new(db, unique("worker"), settings.lease);
        let wakeups = if settings.listen {
            listen(config)
        } else {
            silence()
        };
        let worker_config = WorkerConfig {
            concurrency: settings.concurrency,
            lease: settings.lease,
            poll: settings.poll,
            patience: Duration::from_secs(60),
            shutdown_grace: settings.grace,
            queue_age_warning: Duration::from_secs(60),
        };
        let worker = Worker::new(
            queue,
            vec![handler],
            worker_config,
            wakeups,
            Metrics::default(),
        );
        let (running, stop) = (worker.running(), CancellationToken::new());
        let task = tokio::spawn({
            let stop = stop.clone();
            async move { worker.run(stop).await }
        });
        Self {
            running,
            stop,
            task,
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.task)
            .await
            .expect("it stops in time")
            .expect("it does not panic");
    }
}

struct Settings {
    concurrency: usize,
    lease: Duration,
    poll: Duration,
    grace: Duration,
    listen: bool,
}

/// Polls fast, so that most tests need no listener.
fn settings() -> Settings {
    Settings {
        concurrency: 4,
        lease: Duration::from_secs(10),
        poll: Duration::from_millis(50),
        grace: Duration::from_secs(10),
        listen: false,
    }
}

fn listen(config: &Config) -> Arc<Wakeups> {
    let (wakeups, database) = (Arc::<Wakeups>::default(), config.database.clone());
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

fn failure(retryable: bool, retry_after: Option<Duration>) -> HandlerError {
    HandlerError::Failed(Failure {
        code: "wrong".into(),
        message: "it went wrong".into(),
        retryable,
        retry_after,
        outage: false,
    })
}

/// Sets a flag when the handler's future is dropped before its end.
struct Interrupted(Arc<AtomicBool>);

impl Drop for Interrupted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn hanging(kind: &str) -> (Arc<dyn Handler>, Arc<AtomicBool>) {
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

#[tokio::test]
async fn jobs_run_to_their_results_and_never_more_at_once_than_there_are_slots() {
    let (tenant, kind) = (Tenant::new().await, unique("run"));
    let jobs = join_all((0..20).map(|n| tenant.enqueue(&kind, json!({"n": n})))).await;
    let (now, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let high_water = most.clone();
    let working = Working::start(
        &config(&[]),
        handler(&kind, move |job| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(30)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(json!({"twice": job.payload["n"].as_i64().unwrap() * 2}))
            }
        }),
        settings(),
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
    let (tenant, kind) = (Tenant::new().await, unique("wake"));
    let config = config(&[]);
    let slow = Settings {
        poll: Duration::from_secs(300),
        listen: true,
        ..settings()
    };
    let working = Working::start(&config, handler(&kind, |_| async { Ok(json!({})) }), slow);
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
    let (tenant, kind) = (Tenant::new().await, unique("fail"));
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
    let working = Working::start(&config(&[]), work, settings());
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
    let (tenant, kind) = (Tenant::new().await, unique("panic"));
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
    let working = Working::start(&config(&[]), work, settings());
    tenant.job_becomes(good, "status", "succeeded").await;
    tenant.job_becomes(bad, "error_code", "internal").await;
    assert!(!tenant.job(bad, "error").await.unwrap().contains("secret"));
    working.stop().await;
}

#[tokio::test]
async fn an_attempt_has_its_time_limit() {
    let (tenant, kind) = (Tenant::new().await, unique("timeout"));
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
    let working = Working::start(&config(&[]), hanging, settings());
    tenant.job_becomes(job, "error_code", "timeout").await;
    assert!(interrupted.load(Ordering::SeqCst));
    working.stop().await;
}

#[tokio::test]
async fn heartbeats_keep_a_job_that_takes_longer_than_its_lease() {
    let (tenant, kind) = (Tenant::new().await, unique("long"));
    let job = tenant.enqueue(&kind, json!({})).await;
    let work = handler(&kind, |_| async {
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        Ok(json!({}))
    });
    let short = Settings {
        lease: Duration::from_secs(1),
        ..settings()
    };
    let working = Working::start(&config(&[]), work, short);
    tenant.job_becomes(job, "status", "succeeded").await;
    working.stop().await;
    assert_eq!(tenant.job(job, "attempt").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_job_whose_lease_went_to_another_worker_stops_and_writes_nothing() {
    let (tenant, kind) = (Tenant::new().await, unique("lost"));
    let job = tenant.enqueue(&kind, json!({})).await;
    let (hanging, interrupted) = hanging(&kind);
    let short = Settings {
        lease: Duration::from_secs(3),
        ..settings()
    };
    let working = Working::start(&config(&[]), hanging, short);
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
    let (tenant, kind) = (Tenant::new().await, unique("cancel"));
    let job = tenant.enqueue(&kind, json!({})).await;
    let (hanging, interrupted) = hanging(&kind);
    // Heartbeats come every 100 s here: it is the notification that makes it fast.
    let listening = Settings {
        lease: Duration::from_secs(300),
        listen: true,
        ..settings()
    };
    let working = Working::start(&config(&[]), hanging, listening);
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
    let (tenant, kind) = (Tenant::new().await, unique("stop"));
    let (short, long) = (
        tenant.enqueue(&kind, json!({"ms": 300})).await,
        tenant.enqueue(&kind, json!({"ms": 60_000})).await,
    );
    let work = handler(&kind, |job| async move {
        tokio::time::sleep(Duration::from_millis(job.payload["ms"].as_u64().unwrap())).await;
        Ok(json!({}))
    });
    let hasty = Settings {
        grace: Duration::from_secs(1),
        ..settings()
    };
    let working = Working::start(&config(&[]), work, hasty);
    let running = working.running.clone();
    eventually("both run", || running.count() == 2).await;
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

#[tokio::test]
async fn several_workers_run_each_job_once() {
    let (tenant, kind) = (Tenant::new().await, unique("once"));
    let jobs = join_all((0..60).map(|_| tenant.enqueue(&kind, json!({})))).await;
    let runs = Arc::<AtomicUsize>::default();
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let runs = runs.clone();
            let work = handler(&kind, move |_| {
                runs.fetch_add(1, Ordering::SeqCst);
                async { Ok(json!({})) }
            });
            Working::start(&config(&[]), work, settings())
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
async fn a_lease_that_ended_while_the_database_was_away_stops_the_job() {
    let (tenant, kind) = (Tenant::new().await, unique("away"));
    let (config, wire) = cuttable(config(&[("KIJKO_DB_TIMEOUT_SECONDS", "1")])).await;
    let job = tenant.enqueue(&kind, json!({})).await;
    let (hanging, interrupted) = hanging(&kind);
    let short = Settings {
        lease: Duration::from_secs(2),
        ..settings()
    };
    let working = Working::start(&config, hanging, short);
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
    let (tenant, kind) = (Tenant::new().await, unique("back"));
    let (config, wire) = cuttable(config(&[("KIJKO_DB_TIMEOUT_SECONDS", "1")])).await;
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
    let listening = Settings {
        listen: true,
        ..settings()
    };
    let working = Working::start(&config, work, listening);
    let running = working.running.clone();
    eventually("all run", || running.count() == 4).await;
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

async fn cuttable(mut config: Config) -> (Config, Wire) {
    let postgres = &config.database.postgres;
    let (host, port) = match (&postgres.get_hosts()[0], postgres.get_ports()) {
        (tokio_postgres::config::Host::Tcp(host), ports) => {
            (host.clone(), ports.first().copied().unwrap_or(5432))
        }
        (host, _) => panic!("the test database is reached by TCP, not {host:?}"),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut through = tokio_postgres::Config::new();
    through
        .host("127.0.0.1")
        .port(listener.local_addr().unwrap().port());
    through
        .user(postgres.get_user().unwrap())
        .password(postgres.get_password().unwrap());
    through
        .dbname(postgres.get_dbname().unwrap())
        .ssl_mode(tokio_postgres::config::SslMode::Disable);
    config.database.postgres = through;

    let up = Arc::new(tokio::sync::watch::Sender::new(true));
    let state = up.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (mut state, host) = (state.subscribe(), host.clone());
            tokio::spawn(async move {
                if !*state.borrow_and_update() {
                    return;
                }
                let mut far = TcpStream::connect((host, port)).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    _ = state.wait_for(|up| !up) => {}
                }
            });
        }
    });
    (config, Wire(up))
}

#[tokio::test]
async fn a_result_that_is_refused_is_a_failure_and_takes_no_other_along() {
    let config = config(&[]);
    let (tenant, kind) = (Tenant::new().await, unique("refused"));
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
        &config,
        handler,
        Settings {
            concurrency: 12,
            ..settings()
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

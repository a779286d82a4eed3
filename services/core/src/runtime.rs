//! Putting the parts together, and taking them down in order.

use std::{future::IntoFuture, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    db::{
        Channel, DatabaseConfig, DatabaseSeries, Db, DbError, Listener, SessionCheck, Wakeups,
        check_session,
    },
    domain::{Background, Context, Domain, SetupError},
    http::{
        HttpSeries, RouteLimits, Server,
        connections::{Connections, Received, UNREAD},
        operators, public,
    },
    jobs::{
        Queue, Registry, Worker,
        checks::{ListenerCheck, QueueCheck, WorkerCheck},
        leases::Leases,
        metrics::JobSeries,
        slots::Slots,
    },
    settings::Settings,
    shutdown,
    start::Start,
    telemetry::{
        metrics::{Metrics, Series},
        readiness::Check,
        sentry,
        traces::Traces,
    },
};

/// How long the last spans may take.
const FLUSH: Duration = Duration::from_secs(3);

/// Why a service ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No async runtime.
    #[error("the runtime did not start: {0}")]
    Runtime(io::Error),
    /// Signals cannot be heard.
    #[error("signals cannot be handled: {0}")]
    Signals(io::Error),
    /// The address is taken or not ours.
    #[error("cannot listen on {address} ({variable}): {error}")]
    Bind {
        /// What was to be bound.
        address: SocketAddr,
        /// The setting.
        variable: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// A server stopped.
    #[error("the HTTP server ended: {0}")]
    Serve(io::Error),
    /// The database's configuration cannot work.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A domain cannot be made.
    #[error("a domain cannot start: {0}")]
    Domain(SetupError),
    /// A part panicked: a bug that must be seen.
    #[error("a part of the service panicked: {0}")]
    Panicked(tokio::task::JoinError),
    /// LISTEN is lost behind a transaction pooler.
    #[error(
        "DATABASE_URL goes through a transaction pooler, where notifications are lost; use a session connection \
         (the database's own port, or the pooler's session mode)"
    )]
    TransactionPooler,
}

/// The parts of a service, put together and not yet running.
pub struct Assembly {
    /// For the proxy in front.
    pub public: Router,
    /// For operators.
    pub operators: Router,
    /// The worker.
    pub worker: Worker,
    /// What the listener wakes.
    pub wakeups: Arc<Wakeups>,
    /// The kinds of jobs that run here.
    pub kinds: Vec<String>,
    /// The series of `/metrics`.
    pub metrics: Arc<Metrics>,
    /// What goes on beside requests and jobs.
    pub background: Vec<Background>,
    /// Exports spans.
    pub traces: Traces,
}

/// Makes every part. Nothing is connected yet.
pub fn assemble(settings: Settings, stop: &CancellationToken) -> Result<Assembly, StartError> {
    let Settings {
        service,
        database,
        http,
        worker,
        domains,
        traces,
        ..
    } = settings;
    let traces =
        Traces::new(service, traces.as_ref()).map_err(|error| StartError::Domain(error.into()))?;
    let db = Db::new(&database)?;
    let context = Context {
        db: db.clone(),
        max_body_bytes: http.max_body_bytes,
        request_timeout: http.request_timeout,
        shutdown_grace: worker.shutdown_grace,
        tracer: traces.tracer.clone(),
        runs_jobs: worker.concurrency > 0,
    };
    let domains = domains
        .into_iter()
        .map(|setup| setup(&context).map_err(StartError::Domain))
        .collect::<Result<Vec<_>, _>>()?;
    let parts = Parts::of(domains);

    let (wakeups, leases) = (Arc::<Wakeups>::default(), Arc::<Leases>::default());
    wakeups.also_for(parts.channels);
    let slots = Slots::new(&worker, &parts.jobs).total();
    let jobs = Arc::new(JobSeries::new(db.clone(), leases.clone(), slots));
    // A service without jobs does not know the queue, and its login may not look at it.
    let has_jobs = !parts.jobs.kinds().is_empty();
    let server = Server {
        service,
        config: http,
        limits: Arc::new(parts.limits),
        series: Arc::new(HttpSeries::default()),
        db: db.clone(),
        has_queue: has_jobs,
        tracer: traces.tracer.clone(),
    };
    let mut series: Vec<Arc<dyn Series>> = vec![
        server.series.clone(),
        Arc::new(DatabaseSeries::new(db.clone(), wakeups.clone())),
        sentry::series(),
    ];
    if service.traces {
        series.push(traces.series());
    }
    series.extend(parts.series);
    let mut checks: Vec<Arc<dyn Check>> = Vec::new();
    if has_jobs {
        jobs.add_kinds(parts.jobs.kinds());
        series.push(jobs.clone());
        checks.push(Arc::new(QueueCheck {
            db: db.clone(),
            age_warning: worker.queue_age_warning,
        }));
        checks.push(Arc::new(ListenerCheck {
            wakeups: wakeups.clone(),
            needed: slots > 0,
        }));
        checks.push(Arc::new(WorkerCheck {
            leases: leases.clone(),
            slots,
            stop: stop.clone(),
        }));
    }
    checks.extend(parts.checks);

    let metrics = Arc::new(Metrics::new(service, series));
    let kinds = parts.jobs.kinds();
    let queue = Queue::new(db, worker_name(), worker.lease, worker.retry_limit);
    Ok(Assembly {
        public: public(&server, parts.routes),
        operators: operators(&server, metrics.clone(), checks),
        worker: Worker::new(queue, parts.jobs, worker, leases, wakeups.clone(), jobs),
        wakeups,
        kinds,
        metrics,
        background: parts.background,
        traces,
    })
}

/// What all domains bring together.
#[derive(Default)]
struct Parts {
    routes: Router,
    limits: RouteLimits,
    jobs: Registry,
    series: Vec<Arc<dyn Series>>,
    checks: Vec<Arc<dyn Check>>,
    channels: Vec<Channel>,
    background: Vec<Background>,
}

impl Parts {
    fn of(domains: Vec<Domain>) -> Self {
        let mut parts = Self::default();
        for domain in domains {
            parts.routes = parts.routes.merge(domain.routes);
            parts.limits.extend(domain.limits);
            parts.jobs.merge(domain.jobs);
            parts.series.extend(domain.series);
            parts.checks.extend(domain.checks);
            parts.channels.extend(domain.channels);
            parts.background.extend(domain.background);
        }
        parts
    }
}

/// Where the two routers listen.
pub struct Sockets {
    /// For the proxy in front.
    pub public: TcpListener,
    /// For operators.
    pub operators: TcpListener,
}

impl Sockets {
    async fn bind(settings: &Settings) -> Result<Self, StartError> {
        let listeners = settings.service.listeners;
        Ok(Self {
            public: bind(settings.http.public, listeners.public.0).await?,
            operators: bind(settings.http.operators, listeners.operators.0).await?,
        })
    }
}

async fn bind(address: SocketAddr, variable: &'static str) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| StartError::Bind {
        address,
        variable,
        error,
    })
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(settings: Settings) -> Result<(), StartError> {
    let stop = CancellationToken::new();
    shutdown::on_signals(stop.clone()).map_err(StartError::Signals)?;
    let sockets = Sockets::bind(&settings).await?;
    run_until(settings, sockets, stop).await
}

/// The same with the sockets and the end in the caller's hands.
pub async fn run_until(
    settings: Settings,
    sockets: Sockets,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let (database, grace) = (settings.database.clone(), settings.worker.shutdown_grace);
    let session_checked = refuse_pooler(&database).await?;
    let start = Start::of(&settings, &sockets.public, &sockets.operators);
    let assembly = assemble(settings, &stop)?;
    start.log(&assembly.kinds);

    let exporting = assembly.traces.start();
    let mut parts = JoinSet::new();
    parts.spawn(listen(
        database,
        assembly.wakeups,
        session_checked,
        stop.clone(),
    ));
    parts.spawn(work(assembly.worker, stop.clone()));
    for (socket, router) in [
        (sockets.public, assembly.public),
        (sockets.operators, assembly.operators),
    ] {
        parts.spawn(serve(socket, router, grace, stop.clone()));
    }
    for background in assembly.background {
        parts.spawn(go_on(background, stop.clone()));
    }
    let result = supervise(parts, &stop).await;
    // Last: spans of what has ended until now.
    if let Some(exporting) = exporting {
        exporting.finish(FLUSH).await;
    }
    result
}

/// Background work that has ended is no reason to end the service.
async fn go_on(background: Background, stop: CancellationToken) -> Result<(), StartError> {
    background(stop.clone()).await;
    stop.cancelled().await;
    Ok(())
}

async fn listen(
    config: DatabaseConfig,
    wakeups: Arc<Wakeups>,
    session_checked: bool,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let listener = Listener {
        config,
        wakeups,
        session_checked,
    };
    match listener.run(stop).await {
        SessionCheck::Session => Ok(()),
        SessionCheck::TransactionPooler => Err(StartError::TransactionPooler),
    }
}

async fn work(worker: Worker, stop: CancellationToken) -> Result<(), StartError> {
    match worker.is_active() {
        true => worker.run(stop).await,
        false => stop.cancelled().await,
    }
    Ok(())
}

/// Requests in progress may finish within the grace period. It ends the wait for a client that sent half a request.
async fn serve(
    socket: TcpListener,
    router: Router,
    grace: Duration,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let connections = Connections::new(socket, UNREAD);
    let service = router.into_make_service_with_connect_info::<Received>();
    let server =
        axum::serve(connections, service).with_graceful_shutdown(stop.clone().cancelled_owned());
    let deadline = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        served = server.into_future() => served.map_err(StartError::Serve),
        () = deadline => {
            tracing::warn!("closing connections whose requests did not end");
            Ok(())
        }
    }
}

/// No part ends by itself. The first one that ends stops the others, which are waited for: running jobs get their grace in any
/// case. The first error is the one reported.
async fn supervise(
    mut parts: JoinSet<Result<(), StartError>>,
    stop: &CancellationToken,
) -> Result<(), StartError> {
    let mut result = Ok(());
    while let Some(ended) = parts.join_next().await {
        stop.cancel();
        result = result.and(ended.unwrap_or_else(|error| Err(StartError::Panicked(error))));
    }
    tracing::info!("stopped");
    result
}

/// Checked before anything runs, so that a wrong URL ends in one clear line. An unreachable database does not end the start:
/// the listener checks it later.
async fn refuse_pooler(config: &DatabaseConfig) -> Result<bool, StartError> {
    match check_session(config).await {
        Ok(SessionCheck::Session) => Ok(true),
        Ok(SessionCheck::TransactionPooler) => Err(StartError::TransactionPooler),
        Err(error @ DbError::Tls(_)) => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "the database does not answer yet; starting without it");
            Ok(false)
        }
    }
}

/// Host and process for the operator, and something random: a process id comes again, an owner of leases must not.
fn worker_name() -> String {
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let host: String = host.chars().take(64).collect();
    format!("{host}:{}:{}", std::process::id(), Uuid::new_v4().simple())
}

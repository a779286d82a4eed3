//! Putting the parts together, and taking them down in order.

use std::{future::IntoFuture, io, sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    config::{Config, DatabaseConfig},
    db::{Db, DbError, Listener, SessionCheck, Wakeups, check_session},
    http::{AppState, router},
    jobs::{Handler, Queue, Worker, execution::ExecutionHandler},
    llm::{LlmError, Models},
    sandbox::Sandbox,
    shutdown,
    telemetry::Metrics,
};

/// Why the sidecar ended other than by being asked to.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No async runtime.
    #[error("the runtime did not start: {0}")]
    Runtime(io::Error),
    /// Signals cannot be heard.
    #[error("signals cannot be handled: {0}")]
    Signals(io::Error),
    /// The address is taken or not ours.
    #[error("cannot listen on {address} (KIJKO_SIDECAR_BIND): {error}")]
    Bind {
        /// What was to be bound.
        address: std::net::SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The server stopped.
    #[error("the HTTP server ended: {0}")]
    Serve(io::Error),
    /// The database's configuration cannot work.
    #[error(transparent)]
    Database(#[from] DbError),
    /// A vendor's client cannot be set up.
    #[error("the model vendor's client: {0}")]
    Llm(#[from] LlmError),
    /// This program cannot be found to start sandboxes.
    #[error("the sandbox: {0}")]
    Sandbox(io::Error),
    /// The listener, the worker or the server panicked: a bug that must be seen.
    #[error("a part of the sidecar panicked: {0}")]
    Panicked(tokio::task::JoinError),
    /// LISTEN is lost behind a transaction pooler.
    #[error(
        "DATABASE_URL goes through a transaction pooler, where notifications are lost; use a session connection \
         (the database's own port, or the pooler's session mode)"
    )]
    TransactionPooler,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<(), AppError> {
    let stop = CancellationToken::new();
    shutdown::on_signals(stop.clone()).map_err(AppError::Signals)?;
    let address = config.http.bind;
    let socket = TcpListener::bind(address)
        .await
        .map_err(|error| AppError::Bind { address, error })?;
    run_until(config, socket, stop).await
}

/// The same with the socket and the end in the caller's hands.
pub async fn run_until(
    config: Config,
    socket: TcpListener,
    stop: CancellationToken,
) -> Result<(), AppError> {
    let session_checked = refuse_pooler(&config.database).await?;
    let db = Db::new(&config.database)?;
    let (metrics, wakeups) = (Metrics::default(), Arc::<Wakeups>::default());
    let models = Models::new(&config.llm)?;
    let providers = models.names();
    let worker = worker(&config, &db, models, &wakeups, &metrics)?;
    let state = AppState {
        db,
        metrics,
        http: config.http.clone(),
        worker: config.worker.clone(),
        running: worker.running(),
        wakeups: wakeups.clone(),
        providers: providers.clone(),
        stripe: Arc::new(config.stripe.clone()),
        stop: stop.clone(),
    };
    announce(&config, &socket, &providers);

    let mut parts = JoinSet::new();
    parts.spawn(listen(
        config.database.clone(),
        wakeups,
        session_checked,
        stop.clone(),
    ));
    parts.spawn(work(worker, config.worker.concurrency, stop.clone()));
    parts.spawn(serve(
        socket,
        state,
        config.worker.shutdown_grace,
        stop.clone(),
    ));
    supervise(parts, &stop).await
}

async fn listen(
    config: DatabaseConfig,
    wakeups: Arc<Wakeups>,
    session_checked: bool,
    stop: CancellationToken,
) -> Result<(), AppError> {
    match (Listener {
        config,
        wakeups,
        session_checked,
    })
    .run(stop)
    .await
    {
        SessionCheck::Session => Ok(()),
        SessionCheck::TransactionPooler => Err(AppError::TransactionPooler),
    }
}

async fn work(worker: Worker, concurrency: usize, stop: CancellationToken) -> Result<(), AppError> {
    match concurrency {
        0 => stop.cancelled().await,
        _ => worker.run(stop).await,
    }
    Ok(())
}

/// Requests in progress may finish within the grace period. It ends the wait for a client that sent half a request.
async fn serve(
    socket: TcpListener,
    state: AppState,
    grace: Duration,
    stop: CancellationToken,
) -> Result<(), AppError> {
    let server =
        axum::serve(socket, router(state)).with_graceful_shutdown(stop.clone().cancelled_owned());
    let patience = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        served = server.into_future() => served.map_err(AppError::Serve),
        () = patience => {
            tracing::warn!("closing connections whose requests did not end");
            Ok(())
        }
    }
}

/// No part ends before it is told to, so the first that ends tells the others, and they are waited for: running jobs get
/// their grace whatever happened. The first trouble is the one reported.
async fn supervise(
    mut parts: JoinSet<Result<(), AppError>>,
    stop: &CancellationToken,
) -> Result<(), AppError> {
    let mut result = Ok(());
    while let Some(ended) = parts.join_next().await {
        stop.cancel();
        result = result.and(ended.unwrap_or_else(|error| Err(AppError::Panicked(error))));
    }
    tracing::info!("stopped");
    result
}

/// Checked before anything runs, so that a wrong URL ends in one clear line. A database that is away is no reason to
/// end: it is asked again when it is back.
async fn refuse_pooler(config: &DatabaseConfig) -> Result<bool, AppError> {
    match check_session(config).await {
        Ok(SessionCheck::Session) => Ok(true),
        Ok(SessionCheck::TransactionPooler) => Err(AppError::TransactionPooler),
        Err(error @ DbError::Tls(_)) => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "the database does not answer yet; starting without it");
            Ok(false)
        }
    }
}

fn worker(
    config: &Config,
    db: &Db,
    models: Models,
    wakeups: &Arc<Wakeups>,
    metrics: &Metrics,
) -> Result<Worker, AppError> {
    let queue = Queue::new(db.clone(), worker_name(), config.worker.lease)
        .with_patience(config.worker.patience);
    let sandbox = Arc::new(Sandbox::of_this_program().map_err(AppError::Sandbox)?);
    let handlers: Vec<Arc<dyn Handler>> = vec![Arc::new(ExecutionHandler::new(
        models,
        config.llm.default_max_tokens,
        sandbox,
        metrics.clone(),
    ))];
    Ok(Worker::new(
        queue,
        handlers,
        config.worker.clone(),
        wakeups.clone(),
        metrics.clone(),
    ))
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

fn announce(config: &Config, socket: &TcpListener, providers: &[&str]) {
    let address = socket
        .local_addr()
        .map(|address| address.to_string())
        .unwrap_or_default();
    let postgres = &config.database.postgres;
    tracing::info!(
        version = crate::VERSION,
        address,
        database_user = postgres.get_user(),
        database = postgres.get_dbname(),
        database_hosts = ?postgres.get_hosts(),
        concurrency = config.worker.concurrency,
        providers = providers.join(","),
        "the sidecar starts"
    );
}

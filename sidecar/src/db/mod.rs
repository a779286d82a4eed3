//! Postgres: a pool for single statements, and one more connection that listens.
//!
//! Everything the sidecar does in the database is one call of one function in schema `private`, so the pool offers
//! exactly that: one statement, one time limit, one error type.

mod cancel;
mod listener;
mod session;
mod tls;

use std::{
    fmt,
    time::{Duration, Instant},
};

use cancel::{CANCELLING, Call};
use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod,
    Runtime, Timeouts,
};
pub use listener::{Listener, Wakeups};
pub use session::{SessionCheck, check_session};
pub use tls::connector;
use tokio_postgres::{Row, error::SqlState, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{backoff::Backoff, config::DatabaseConfig};

/// Why a statement gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DbError {
    /// TLS could not be set up at all; a matter of configuration.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// No connection, or it broke.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time; the statement was cancelled and its connection closed.
    #[error("the database did not answer within {0:?}")]
    TimedOut(Duration),
    /// Postgres answered with an error.
    #[error("the database refused: {code} {message}")]
    Refused {
        /// The SQLSTATE.
        code: String,
        /// Postgres' message; for the log only.
        message: String,
        /// Whether the same call may succeed later.
        transient: bool,
    },
    /// An answer of an unexpected shape: the migrations and this build do not belong together.
    #[error("the database answered something unexpected: {0}")]
    Unexpected(String),
}

impl DbError {
    /// Whether waiting and calling again makes sense.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) => true,
            Self::Refused { transient, .. } => *transient,
            Self::Tls(_) | Self::Unexpected(_) => false,
        }
    }

    /// Whether the database itself is unreachable, whatever the statement.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { code, .. } => {
                code.starts_with("08") || matches!(code.as_str(), "57P01" | "57P02" | "57P03")
            }
            Self::Tls(_) | Self::TimedOut(_) | Self::Unexpected(_) => false,
        }
    }

    /// Whether it is what was sent that cannot be taken: no value of its type, more than a check allows, nested too deep.
    pub fn is_about_the_data(&self) -> bool {
        matches!(self, Self::Refused { code, .. }
            if code.starts_with("22") || code.starts_with("54") || code == SqlState::CHECK_VIOLATION.code())
    }
}

impl From<tokio_postgres::Error> for DbError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(db) => Self::Refused {
                code: db.code().code().to_owned(),
                message: db.message().to_owned(),
                transient: is_transient(db.code()),
            },
            None => Self::Unreachable(with_causes(&error)),
        }
    }
}

/// Connection trouble, resources, shutdown and start-up, serialization and locks pass by themselves; so does a
/// statement whose plan was cached before a migration changed its function, since the cache is emptied on errors.
fn is_transient(code: &SqlState) -> bool {
    let class = &code.code()[..2];
    matches!(class, "08" | "40" | "53" | "57" | "58")
        || [
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::FEATURE_NOT_SUPPORTED,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ]
        .contains(code)
}

/// An error with its causes in one line; most crates keep the interesting part in `source`.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// How full the pool is.
#[derive(Debug, Clone, Copy)]
pub struct PoolUse {
    /// Connections that exist.
    pub open: usize,
    /// Of these, connections that are waiting for work.
    pub idle: usize,
    /// The most there may be.
    pub max: usize,
    /// Callers that wait for a connection.
    pub waiting: usize,
}

/// The server's statement timeout is this much longer than ours: it covers clients that vanished without cancelling.
const SERVER_LEEWAY: Duration = Duration::from_secs(5);

/// The pool.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
    tls: MakeRustlsConnect,
    timeout: Duration,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db")
            .field("pool", &self.pool)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl Db {
    /// Makes the pool. Nothing is connected yet: the database may come up after the sidecar.
    pub fn new(config: &DatabaseConfig) -> Result<Self, DbError> {
        let tls = connector(&config.tls)?;
        let manager = Manager::from_config(
            config.postgres.clone(),
            tls.clone(),
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let timeout = config.timeout;
        let limit = Some(timeout);
        let pool = Pool::builder(manager)
            .max_size(config.pool_size)
            .timeouts(Timeouts {
                wait: limit,
                create: limit,
                recycle: limit,
            })
            .post_create(Hook::async_fn(move |client, _| {
                Box::pin(limit_statements(client, timeout))
            }))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| DbError::Unreachable(error.to_string()))?;
        Ok(Self { pool, tls, timeout })
    }

    /// Runs one statement and returns its rows. When it takes too long, or its caller drops it, it is cancelled on the
    /// server: an abandoned statement must not take effect later.
    pub async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DbError> {
        let client = self.pool.get().await.map_err(pool_error)?;
        let call = Call::new(client, self.tls.clone());
        let mut answer = std::pin::pin!(async {
            let statement = call.client().prepare_cached(sql).await?;
            call.client().query(&statement, params).await
        });
        match tokio::time::timeout(self.timeout, &mut answer).await {
            Ok(Ok(rows)) => {
                call.ended();
                Ok(rows)
            }
            Ok(Err(error)) => {
                call.client().statement_cache.clear();
                call.ended();
                Err(error.into())
            }
            Err(_) => {
                call.cancel().await;
                // The statement may have finished at the last moment; then its answer counts.
                match tokio::time::timeout(CANCELLING, &mut answer).await {
                    Ok(Ok(rows)) => Ok(rows),
                    _ => Err(DbError::TimedOut(self.timeout)),
                }
            }
        }
    }

    /// Runs one statement and reads each of its rows.
    pub async fn all<T, C: FromIterator<T>>(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        read: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
    ) -> Result<C, DbError> {
        let rows = self.query(sql, params).await?;
        rows.iter()
            .map(read)
            .collect::<Result<C, _>>()
            .map_err(unexpected)
    }

    /// Runs one statement that returns exactly one row, and reads it.
    pub async fn one<T>(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
        read: impl FnOnce(&Row) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, DbError> {
        let rows = self.query(sql, params).await?;
        match rows.as_slice() {
            [row] => read(row).map_err(unexpected),
            rows => Err(DbError::Unexpected(format!(
                "{} rows instead of one",
                rows.len()
            ))),
        }
    }

    /// The same of one column.
    pub async fn scalar<T>(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<T, DbError>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        self.one(sql, params, |row| row.try_get(0)).await
    }

    /// Asks for a sign of life and says how long it took.
    pub async fn ping(&self) -> Result<Duration, DbError> {
        let start = Instant::now();
        self.scalar::<i32>("select 1", &[])
            .await
            .map(|_| start.elapsed())
    }

    /// How full the pool is.
    pub fn pool_use(&self) -> PoolUse {
        let status = self.pool.status();
        PoolUse {
            open: status.size,
            idle: status.available,
            max: status.max_size,
            waiting: status.waiting,
        }
    }
}

/// Retries until the call succeeds or fails permanently. While the database is unreachable it retries without end; the
/// caller sets the limit (a lease, for example). Transient errors and timeouts of a reachable database are retried for
/// `patience`.
pub async fn persist<T, F>(patience: Duration, call: impl Fn() -> F) -> Result<T, DbError>
where
    F: Future<Output = Result<T, DbError>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut refused_since = None;
    loop {
        match call().await {
            Err(error) if error.is_transient() => {
                if error.is_away() {
                    refused_since = None;
                } else if refused_since.get_or_insert_with(Instant::now).elapsed() >= patience {
                    return Err(error);
                }
                let delay = backoff.next_delay();
                tracing::warn!(%error, retry_in_ms = delay.as_millis() as u64, "the database did not take a call yet");
                tokio::time::sleep(delay).await;
            }
            done => return done,
        }
    }
}

/// A row that cannot be read.
fn unexpected(error: tokio_postgres::Error) -> DbError {
    DbError::Unexpected(with_causes(&error))
}

/// A client that was killed or cut off cancels nothing.
async fn limit_statements(client: &mut ClientWrapper, timeout: Duration) -> Result<(), HookError> {
    let limit = (timeout + SERVER_LEEWAY).as_millis();
    let set = format!("set statement_timeout = {limit}");
    match tokio::time::timeout(timeout, client.batch_execute(&set)).await {
        Ok(set) => set.map_err(HookError::Backend),
        Err(_) => Err(HookError::message("the server is silent")),
    }
}

fn pool_error(error: PoolError) -> DbError {
    match error {
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
            error.into()
        }
        other => DbError::Unreachable(with_causes(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_pass_by_themselves_are_transient() {
        for state in [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::TOO_MANY_CONNECTIONS,
        ] {
            assert!(is_transient(&state), "{state:?}");
        }
        for state in [
            SqlState::INSUFFICIENT_PRIVILEGE,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::INVALID_PASSWORD,
        ] {
            assert!(!is_transient(&state), "{state:?}");
        }
    }
}

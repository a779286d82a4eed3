//! The pool. Everything that a service does in the database is one call of one function, so the pool offers exactly that: one
//! statement, one time limit, one error type; and the same as a caller, behind a statement that admits them.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Pool, PoolError, RecyclingMethod,
    Runtime, Timeouts,
};
use futures_util::future::{join, join3};
use tokio_postgres::{Row, Statement, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    cancel::{CANCEL_TIMEOUT, Call},
    config::DatabaseConfig,
    error::{DbError, is_refusal, with_causes},
    lock_wait::LockWait,
    shares::{self, Share, Shares},
    tls::connector,
};
use crate::telemetry::canonical;

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

/// Names the connection, and says how long it waits for a lock. A statement with parameters, so that views of statements have one
/// line for it and not one for each name.
const NAME: &str = "select pg_catalog.set_config('application_name', $1, false), pg_catalog.set_config('lock_timeout', $2, false)";
/// The setting of a connection in the pool.
const NO_LOCK_TIMEOUT: &str = "0";

/// The pool.
#[derive(Clone)]
pub struct Db {
    pool: Pool,
    tls: MakeRustlsConnect,
    timeout: Duration,
    shares: Arc<Shares>,
    /// The name of its connections.
    name: Arc<str>,
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
    /// Makes the pool. Nothing is connected yet: the database may come up after this process.
    pub fn new(config: &DatabaseConfig) -> Result<Self, DbError> {
        let tls = connector(&config.tls, config.identity.as_ref())?;
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
        let name = config.postgres.get_application_name();
        Ok(Self {
            pool,
            tls,
            timeout,
            shares: Arc::new(Shares::new(config.pool_size)),
            name: name.unwrap_or_default().into(),
        })
    }

    /// Runs one statement and returns its rows. When it takes too long, or its caller drops it, it is cancelled on the
    /// server: an abandoned statement must not take effect later. Within a request or job its connection is called by the id of
    /// that, in `pg_stat_activity` and in the lines of the server.
    pub async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DbError> {
        let wait = LockWait::current();
        let mut tries = wait.tries();
        loop {
            match self.query_once(wait, sql, params).await {
                Err(error) if error.is_held() => match tries.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(error),
                },
                answer => return answer,
            }
        }
    }

    async fn query_once(
        &self,
        wait: LockWait,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DbError> {
        let _share = self.share(wait).await?;
        let call = self.call().await?;
        let name = canonical::id().map(|id| format!("{} {id}", self.name));
        let answer = async {
            let statement = call.client().prepare_cached(sql).await?;
            match &name {
                Some(name) => {
                    self.query_named((name, wait), &call, &statement, params)
                        .await
                }
                None => call.client().query(&statement, params).await,
            }
        };
        self.answer(&call, answer).await
    }

    /// The same for a statement that names its connection itself.
    pub async fn query_unnamed(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DbError> {
        let call = self.call().await?;
        let answer = async {
            let statement = call.client().prepare_cached(sql).await?;
            call.client().query(&statement, params).await
        };
        self.answer(&call, answer).await
    }

    /// Runs two statements in one transaction: the first admits a request, and says whether it did; the second is the request. None: it
    /// was not admitted. As with PostgREST, what the first sets for the transaction, such as the role and the statement timeout, counts for
    /// the second. The first also names the connection.
    pub async fn query_admitted(
        &self,
        admission: (&str, &[&(dyn ToSql + Sync)]),
        request: (&str, &[&(dyn ToSql + Sync)]),
    ) -> Result<Option<Vec<Row>>, DbError> {
        let call = self.call().await?;
        let answer = query_admitted(call.client(), admission, request);
        self.answer(&call, answer).await
    }

    /// One of the connections that the jobs of this task's organization may hold. Who waits briefly for locks waits briefly for it, too:
    /// the organization's other jobs wait for one.
    async fn share(&self, wait: LockWait) -> Result<Option<Share>, DbError> {
        let Some(org) = shares::current() else {
            return Ok(None);
        };
        let limit = wait.limit().unwrap_or(self.timeout);
        match tokio::time::timeout(limit, self.shares.take(org)).await {
            Ok(share) => Ok(Some(share)),
            Err(_) if wait == LockWait::Brief => Err(DbError::held(
                "the organization's jobs hold as many connections as they may",
            )),
            Err(_) => Err(DbError::TimedOut(limit)),
        }
    }

    async fn call(&self) -> Result<Call, DbError> {
        let client = self.pool.get().await.map_err(pool_error)?;
        Ok(Call::new(client, self.tls.clone()))
    }

    /// What a call answers in time.
    async fn answer<T>(
        &self,
        call: &Call,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, DbError> {
        let mut answer = std::pin::pin!(answer);
        match tokio::time::timeout(self.timeout, &mut answer).await {
            Ok(Ok(rows)) => {
                call.ended();
                Ok(rows)
            }
            Ok(Err(error)) => {
                if !is_refusal(&error) {
                    call.client().statement_cache.clear();
                }
                call.ended();
                Err(error.into())
            }
            Err(_) => {
                call.cancel().await;
                // The statement may have finished at the last moment; then its answer counts.
                match tokio::time::timeout(CANCEL_TIMEOUT, &mut answer).await {
                    Ok(Ok(rows)) => Ok(rows),
                    _ => Err(DbError::TimedOut(self.timeout)),
                }
            }
        }
    }

    /// The three statements are sent together, so that the names cost no time of the network, and no connection that returns to
    /// the pool has kept one.
    async fn query_named(
        &self,
        (name, wait): (&str, LockWait),
        call: &Call,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let client = call.client();
        let naming = client.prepare_cached(NAME).await?;
        let (own, lock_wait) = (&*self.name, wait.setting());
        // Names do not fail, and a statement that took effect is not reported as failed.
        let (_, rows, _) = join3(
            client.query(&naming, &[&name, &lock_wait]),
            client.query(statement, params),
            client.query(&naming, &[&own, &NO_LOCK_TIMEOUT]),
        )
        .await;
        rows
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

    /// Runs one statement that returns exactly one row, and reads its first column.
    pub async fn scalar<T>(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<T, DbError>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        self.one(sql, params, |row| row.try_get(0)).await
    }

    /// Asks for an answer and measures how long it takes.
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

/// The transaction has ended when this returns. It is begun with the first statement and committed with the second, so that it costs
/// no time of the network.
async fn query_admitted(
    client: &ClientWrapper,
    admission: (&str, &[&(dyn ToSql + Sync)]),
    request: (&str, &[&(dyn ToSql + Sync)]),
) -> Result<Option<Vec<Row>>, tokio_postgres::Error> {
    let admit = client.prepare_cached(admission.0).await?;
    let (begun, admitted) = join(
        client.batch_execute("begin"),
        client.query_one(&admit, admission.1),
    )
    .await;
    let admitted = begun
        .and(admitted)
        .and_then(|row| row.try_get::<_, bool>(0));
    let statement = match admitted {
        Ok(true) => client.prepare_cached(request.0).await.map(Some),
        Ok(false) => Ok(None),
        Err(error) => Err(error),
    };
    let Ok(Some(statement)) = statement else {
        client.batch_execute("rollback").await?;
        return statement.map(|_| None);
    };
    // After an error, to commit is to roll back.
    let (rows, ended) = join(
        client.query(&statement, request.1),
        client.batch_execute("commit"),
    )
    .await;
    let rows = rows?;
    ended?;
    Ok(Some(rows))
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
            DbError::from(error).without_connection()
        }
        other => DbError::Unreachable(with_causes(&other)),
    }
}

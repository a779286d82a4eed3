//! The pool, the session check, and what the sidecar's role may do.

use std::time::{Duration, Instant};

use kijko_sidecar::{
    db::{Db, DbError, SessionCheck, check_session},
    jobs::queue,
};

use crate::support::{config, db};

async fn refused(db: &Db, sql: &str) -> String {
    match db.query(sql, &[]).await {
        Err(DbError::Refused { code, .. }) => code,
        other => panic!("{sql}: {other:?}"),
    }
}

#[tokio::test]
async fn the_role_reads_no_table_and_becomes_nobody_else() {
    let db = db();
    assert_eq!(
        db.scalar::<String>("select session_user::text", &[])
            .await
            .unwrap(),
        "kijko_sidecar"
    );
    for sql in [
        "select 1 from public.jobs",
        "select 1 from public.executions",
        "select 1 from public.skills",
        "select 1 from auth.users",
        "update public.jobs set status = 'queued'",
        "set role service_role",
        "set role postgres",
        "select private.jobs_cancel(gen_random_uuid())",
        "select private.jobs_purge()",
        "create table public.mine (id int)",
        "create temporary table mine (id int)",
    ] {
        assert_eq!(refused(&db, sql).await, "42501", "{sql}");
    }
}

#[tokio::test]
async fn a_direct_connection_is_a_session() {
    assert_eq!(
        check_session(&config(&[]).database).await.unwrap(),
        SessionCheck::Session
    );
}

#[tokio::test]
async fn a_statement_that_takes_too_long_costs_one_connection_and_not_the_pool() {
    let config = config(&[
        ("KIJKO_DB_TIMEOUT_SECONDS", "1"),
        ("KIJKO_DB_POOL_SIZE", "1"),
    ]);
    let db = Db::new(&config.database).unwrap();
    let start = Instant::now();
    let slow = db.query("select 1 from pg_catalog.pg_sleep(10)", &[]).await;
    assert!(matches!(slow, Err(DbError::TimedOut(_))), "{slow:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(db.ping().await.is_ok());
    assert_eq!(db.pool_use().max, 1);
}

#[tokio::test]
async fn a_wrong_password_is_refused_for_good_and_is_in_no_message() {
    let mut config = config(&[]);
    config.database.postgres.password("hunter2");
    let error = Db::new(&config.database).unwrap().ping().await.unwrap_err();
    assert!(
        !error.is_transient() && !format!("{error} {error:?}").contains("hunter2"),
        "{error}"
    );
}

#[tokio::test]
async fn the_queue_can_be_measured() {
    assert!(queue::stats(&db()).await.is_ok());
}

//! The pool, the listener and the session check.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kijko_core::{
    db::{Db, DbError, Listener, SessionCheck, Wakeups, check_session},
    jobs::queue,
    telemetry::canonical::{self, Fields},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::support::{Tenant, db, eventually, redirect, settings, unique};

#[tokio::test]
async fn a_direct_connection_is_a_session() {
    assert_eq!(
        check_session(&settings(&[]).database).await.unwrap(),
        SessionCheck::Session
    );
}

#[tokio::test]
async fn a_statement_that_takes_too_long_costs_one_connection_and_not_the_pool() {
    let settings = settings(&[
        ("KIJKO_DB_TIMEOUT_SECONDS", "1"),
        ("KIJKO_DB_POOL_SIZE", "1"),
    ]);
    let db = Db::new(&settings.database).unwrap();
    let start = Instant::now();
    let slow = db.query("select 1 from pg_catalog.pg_sleep(10)", &[]).await;
    assert!(matches!(slow, Err(DbError::TimedOut(_))), "{slow:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(db.ping().await.is_ok());
    assert_eq!(db.pool_use().max, 1);
}

#[tokio::test]
async fn a_wrong_password_is_a_permanent_error_and_is_in_no_message() {
    let mut settings = settings(&[]);
    settings.database.postgres.password("hunter2");
    let error = Db::new(&settings.database)
        .unwrap()
        .ping()
        .await
        .unwrap_err();
    assert!(
        !error.is_transient() && !format!("{error} {error:?}").contains("hunter2"),
        "{error}"
    );
    // No answer to the statement.
    assert!(matches!(error, DbError::Unexpected(_)), "{error:?}");
}

#[tokio::test]
async fn a_request_is_one_transaction_with_its_admission_which_ends_with_it() {
    let settings = settings(&[("KIJKO_DB_POOL_SIZE", "1")]);
    let db = Db::new(&settings.database).unwrap();
    let admit = "select set_config('kijko_test.caller', $1, true) <> 'nobody'";
    let ask = "select current_setting('kijko_test.caller')";
    let left = async || {
        let sql = "select coalesce(current_setting('kijko_test.caller', true), '')";
        db.scalar::<String>(sql, &[]).await.unwrap()
    };
    let asked = db.query_admitted((admit, &[&"ada"]), (ask, &[])).await;
    assert_eq!(asked.unwrap().unwrap()[0].get::<_, String>(0), "ada");
    assert_eq!(left().await, "");
    let asked = db.query_admitted((admit, &[&"nobody"]), (ask, &[])).await;
    assert!(asked.unwrap().is_none());
    assert_eq!(left().await, "");
    let fails = "select $1::text = 'ada' and 1 / (random() * 0)::integer = 1";
    for (admission, request) in [
        (fails, ask),
        (admit, "select 1 / (random() * 0)::integer"),
        (admit, "select nothing"),
    ] {
        let asked = db
            .query_admitted((admission, &[&"ada"]), (request, &[]))
            .await;
        assert!(matches!(asked, Err(DbError::Refused { .. })), "{request}");
        assert_eq!(left().await, "", "{request}");
    }
    assert_eq!(db.pool_use().open, 1);
}

#[tokio::test]
async fn the_queue_can_be_measured() {
    assert!(queue::stats(&db()).await.is_ok());
}

async fn running_with(tenant: &Tenant, marker: &str) -> i64 {
    tenant
        .value(
            "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like '%' || $1 || '%'",
            &[&marker],
        )
        .await
}

async fn until_running(tenant: &Tenant, marker: &str, wanted: i64) {
    let start = Instant::now();
    while running_with(tenant, marker).await != wanted {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "there are never {wanted} on the server"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_statement_without_a_waiting_caller_is_cancelled_on_the_server() {
    let (tenant, marker) = (Tenant::new().await, unique("sleep"));
    let settings = settings(&[
        ("KIJKO_DB_TIMEOUT_SECONDS", "2"),
        ("KIJKO_DB_POOL_SIZE", "1"),
    ]);
    let db = Db::new(&settings.database).unwrap();
    let sql = format!("select 1 from pg_catalog.pg_sleep(300) -- {marker}");
    let slow = db.query(&sql, &[]).await;
    assert!(matches!(slow, Err(DbError::TimedOut(_))), "{slow:?}");
    until_running(&tenant, &marker, 0).await;

    let dropped = tokio::spawn({
        let (db, sql) = (db.clone(), sql.clone());
        async move { db.query(&sql, &[]).await }
    });
    until_running(&tenant, &marker, 1).await;
    dropped.abort();
    until_running(&tenant, &marker, 0).await;
    assert!(db.ping().await.is_ok(), "and the pool has its connection");
}

#[tokio::test]
async fn a_statement_has_the_id_of_its_request_and_an_idle_connection_has_none() {
    let tenant = Tenant::new().await;
    let mut settings = settings(&[("KIJKO_DB_POOL_SIZE", "1")]);
    let own = unique("service");
    settings.database.postgres.application_name(&own);
    let db = Db::new(&settings.database).unwrap();
    let name = async |db: &Db| {
        let sql = "select current_setting('application_name')";
        db.scalar::<String>(sql, &[]).await.unwrap()
    };
    let idle = async || {
        let sql = "select application_name from pg_stat_activity where state = 'idle' and pid = $1";
        let pid: i32 = db.scalar("select pg_backend_pid()", &[]).await.unwrap();
        tenant.value::<String>(sql, &[&pid]).await
    };
    assert_eq!(name(&db).await, own);
    canonical::scope(Fields::of("abc-1", None), async {
        let named = format!("{own} abc-1");
        assert_eq!(name(&db).await, named);
        let (carried, alone) = (db.clone(), db.clone());
        let task = tokio::spawn(canonical::carried(async move { name(&carried).await }));
        assert_eq!(task.await.unwrap(), named);
        let task = tokio::spawn(async move { name(&alone).await });
        assert_eq!(task.await.unwrap(), own);
        let failed = db.query("select 1 / (random() * 0)::integer", &[]).await;
        assert!(matches!(failed, Err(DbError::Refused { .. })), "{failed:?}");
        assert_eq!(idle().await, own);
    })
    .await;
    assert_eq!(name(&db).await, own);
    let hostile = Fields::of("x'; --", None);
    canonical::scope(hostile, async {
        assert!(name(&db).await.ends_with("--"), "it is a value");
    })
    .await;
    assert_eq!(idle().await, own);
}

#[tokio::test]
async fn the_server_ends_the_statement_of_a_vanished_client() {
    let settings = settings(&[("KIJKO_DB_TIMEOUT_SECONDS", "7")]);
    let limit: String = Db::new(&settings.database)
        .unwrap()
        .scalar("select current_setting('statement_timeout')", &[])
        .await
        .unwrap();
    assert_eq!(limit, "12s");
}

#[tokio::test]
async fn the_listener_recovers_from_a_server_that_accepts_and_stays_silent() {
    let mut settings = settings(&[("KIJKO_DB_TIMEOUT_SECONDS", "1")]);
    let near = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = redirect(&mut settings, near.local_addr().unwrap().port());
    let speaks = Arc::new(AtomicBool::new(false));
    let accepted = Arc::new(AtomicUsize::new(0));
    tokio::spawn({
        let (speaks, accepted) = (speaks.clone(), accepted.clone());
        async move {
            let mut silent = Vec::new();
            while let Ok((mut client, _)) = near.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                if !speaks.load(Ordering::SeqCst) {
                    // Connections that were accepted in silence stay silent.
                    silent.push(client);
                    continue;
                }
                let mut server = TcpStream::connect(far.clone()).await.unwrap();
                tokio::spawn(async move {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        }
    });

    for session_checked in [true, false] {
        speaks.store(false, Ordering::SeqCst);
        let before = accepted.load(Ordering::SeqCst);
        let wakeups = Arc::<Wakeups>::default();
        let stop = CancellationToken::new();
        let listener = Listener {
            config: settings.database.clone(),
            wakeups: wakeups.clone(),
            session_checked,
        };
        let task = tokio::spawn(listener.run(stop.clone()));
        eventually("the listener tries again", || {
            accepted.load(Ordering::SeqCst) > before + 2
        })
        .await;
        assert!(!wakeups.connected());
        speaks.store(true, Ordering::SeqCst);
        eventually("the listener is connected", || wakeups.connected()).await;
        stop.cancel();
        task.await.unwrap();
    }
}

//! A database that is slow, silent, or refuses what it took before.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, join_all};
use kijko_sidecar::{
    config::WorkerConfig,
    db::{Db, DbError, Listener, Wakeups},
    jobs::{Handler, HandlerError, Job, Queue, Worker},
    telemetry::Metrics,
};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::support::{Tenant, config, eventually, silence, unique};

/// Does nothing, well.
struct Idle(String);

impl Handler for Idle {
    fn kinds(&self) -> Vec<String> {
        vec![self.0.clone()]
    }

    fn run<'a>(
        &'a self,
        _queue: &'a Queue,
        _job: &'a Job,
    ) -> BoxFuture<'a, Result<Value, HandlerError>> {
        Box::pin(async { Ok(json!({})) })
    }
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
async fn a_statement_that_nobody_waits_for_any_more_ends_on_the_server() {
    let (tenant, marker) = (Tenant::new().await, unique("sleep"));
    let config = config(&[
        ("KIJKO_DB_TIMEOUT_SECONDS", "2"),
        ("KIJKO_DB_POOL_SIZE", "1"),
    ]);
    let db = Db::new(&config.database).unwrap();
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
async fn the_server_ends_what_a_vanished_client_left() {
    let config = config(&[("KIJKO_DB_TIMEOUT_SECONDS", "7")]);
    let limit: String = Db::new(&config.database)
        .unwrap()
        .scalar("select current_setting('statement_timeout')", &[])
        .await
        .unwrap();
    assert_eq!(limit, "12s");
}

#[tokio::test]
async fn a_refusal_that_may_pass_is_put_up_with_for_a_while_and_takes_no_other_job_along() {
    let tenant = Tenant::new().await;
    for code in ["0A000", "53100", "57014"] {
        let kind = unique(&code.to_lowercase());
        tenant
            .admin
            .batch_execute(&format!(
                "create function public.{kind}() returns trigger language plpgsql as $$
                   begin raise exception using errcode = '{code}'; end $$;
                 create trigger {kind} before update of status on public.jobs for each row
                   when (new.kind = '{kind}' and new.status = 'succeeded' and new.payload ? 'refused') execute function public.{kind}()"
            ))
            .await
            .unwrap();
        let refused = tenant.enqueue(&kind, json!({"refused": true})).await;
        let others = join_all((0..3).map(|_| tenant.enqueue(&kind, json!({})))).await;

        let queue = Queue::new(
            Db::new(&config(&[]).database).unwrap(),
            unique("worker"),
            Duration::from_secs(30),
        )
        .with_patience(Duration::from_secs(1));
        let settings = WorkerConfig {
            concurrency: 4,
            lease: Duration::from_secs(30),
            poll: Duration::from_millis(50),
            patience: Duration::from_secs(1),
            shutdown_grace: Duration::from_secs(5),
            queue_age_warning: Duration::from_secs(60),
        };
        let handlers: Vec<Arc<dyn Handler>> = vec![Arc::new(Idle(kind.clone()))];
        let worker = Worker::new(queue, handlers, settings, silence(), Metrics::default());
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let stop = stop.clone();
            async move { worker.run(stop).await }
        });
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
        stop.cancel();
        task.await.unwrap();
        tenant
            .admin
            .batch_execute(&format!(
                "drop trigger {kind} on public.jobs; drop function public.{kind}(); delete from public.jobs where kind = '{kind}'"
            ))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_stays_silent_does_not_make_the_listener_deaf_for_good() {
    let mut config = config(&[("KIJKO_DB_TIMEOUT_SECONDS", "1")]);
    let postgres = config.database.postgres.clone();
    let far = match &postgres.get_hosts()[0] {
        tokio_postgres::config::Host::Tcp(host) => (host.clone(), postgres.get_ports()[0]),
        host => panic!("the test database is reached by TCP, not {host:?}"),
    };
    let near = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut through = tokio_postgres::Config::new();
    through
        .host("127.0.0.1")
        .port(near.local_addr().unwrap().port())
        .user(postgres.get_user().unwrap())
        .password(postgres.get_password().unwrap())
        .dbname(postgres.get_dbname().unwrap())
        .ssl_mode(tokio_postgres::config::SslMode::Disable);
    config.database.postgres = through;
    let speaks = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    tokio::spawn({
        let (speaks, accepted) = (speaks.clone(), accepted.clone());
        async move {
            let mut silent = Vec::new();
            while let Ok((mut client, _)) = near.accept().await {
                accepted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                if !speaks.load(std::sync::atomic::Ordering::SeqCst) {
                    // Those that were accepted in silence stay so.
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
        speaks.store(false, std::sync::atomic::Ordering::SeqCst);
        let before = accepted.load(std::sync::atomic::Ordering::SeqCst);
        let wakeups = Arc::<Wakeups>::default();
        let stop = CancellationToken::new();
        let listener = Listener {
            config: config.database.clone(),
            wakeups: wakeups.clone(),
            session_checked,
        };
        let task = tokio::spawn(listener.run(stop.clone()));
        eventually("it tries again", || {
            accepted.load(std::sync::atomic::Ordering::SeqCst) > before + 2
        })
        .await;
        assert!(!wakeups.connected());
        speaks.store(true, std::sync::atomic::Ordering::SeqCst);
        eventually("it listens", || wakeups.connected()).await;
        stop.cancel();
        task.await.unwrap();
    }
}

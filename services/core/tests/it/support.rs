//! What the tests of this crate and of the sidecar share: the two connections, an organization, and jobs in any state.

#![allow(dead_code, reason = "each of the two uses a part")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kijko_core::{
    Service, Settings,
    db::{Db, Wakeups},
    jobs::Queue,
    service::Listeners,
    telemetry::capture::Capture,
};
use serde_json::Value;
use tokio_postgres::{
    Client, NoTls,
    config::{Host, SslMode},
    types::ToSql,
};
use uuid::Uuid;

/// A service without domains.
pub const SERVICE: Service = Service {
    name: "kijko-sidecar",
    version: "0.0.0",
    manual: "docs/reference/settings.md",
    listeners: Listeners {
        public: ("TEST_BIND", "127.0.0.1:0"),
        operators: ("TEST_OPERATORS_BIND", "127.0.0.1:0"),
    },
    traces: false,
    streams: false,
};

/// A variable that the runner sets.
pub fn required(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set; run `./kijko test sidecar`, which sets it"))
}

/// The settings for the test database.
pub fn settings(more: &[(&str, &str)]) -> Settings {
    Settings::from_lookup(SERVICE, &[], &environment(more)).expect("the test settings are valid")
}

/// Variables as a service finds them, with the test database.
pub fn environment(more: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    let url = required("KIJKO_TEST_DATABASE_URL");
    move |name| match name {
        "DATABASE_URL" => Some(url.clone()),
        _ => more
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned()),
    }
}

/// Sends the connections of these settings to a port of this machine. Returns where they went before.
pub fn redirect(settings: &mut Settings, port: u16) -> (String, u16) {
    let postgres = &settings.database.postgres;
    let host = match &postgres.get_hosts()[0] {
        Host::Tcp(host) => host.clone(),
        host => panic!("the test database is reached by TCP, not {host:?}"),
    };
    let before = (host, postgres.get_ports().first().copied().unwrap_or(5432));
    let mut through = tokio_postgres::Config::new();
    through
        .host("127.0.0.1")
        .port(port)
        .user(postgres.get_user().unwrap())
        .password(postgres.get_password().unwrap())
        .dbname(postgres.get_dbname().unwrap())
        .ssl_mode(SslMode::Disable);
    settings.database.postgres = through;
    before
}

/// The pool, as the sidecar has it.
pub fn db() -> Db {
    Db::new(&settings(&[]).database).expect("a pool")
}

/// A queue as seen by a worker of its own.
pub fn queue(db: &Db, lease: Duration) -> Queue {
    let retry_limit = Duration::from_secs(60);
    Queue::new(db.clone(), unique("worker"), lease, retry_limit)
}

/// A kind of job that no other test has, under the prefix `test.`.
pub fn unique_kind(what: &str) -> String {
    format!("test.{what}_{}", Uuid::new_v4().simple())
}

/// A name that no other test has.
pub fn unique(what: &str) -> String {
    format!("test_{what}_{}", Uuid::new_v4().simple())
}

/// The superuser's connection and an organization.
pub struct Tenant {
    pub admin: Client,
    pub org_id: Uuid,
}

impl Tenant {
    /// Signs up a user, who gets a personal organization.
    pub async fn new() -> Self {
        let (admin, connection) =
            tokio_postgres::connect(&required("KIJKO_TEST_ADMIN_DATABASE_URL"), NoTls)
                .await
                .expect("the superuser's connection");
        tokio::spawn(connection);
        let user = Uuid::new_v4();
        admin
            .execute(
                "insert into auth.users (id, email, email_confirmed_at, aud, role) values ($1, $2, now(), 'authenticated', 'authenticated')",
                &[&user, &format!("{user}@example.test")],
            )
            .await
            .expect("a user");
        let org_id = admin
            .query_one(
                "select org_id from public.memberships where user_id = $1",
                &[&user],
            )
            .await
            .expect("a personal organization")
            .get(0);
        Self { admin, org_id }
    }

    /// One value.
    pub async fn value<T>(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> T
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        self.admin
            .query_one(sql, params)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
            .get(0)
    }

    /// Queues a job that is due now.
    pub async fn enqueue(&self, kind: &str, payload: Value) -> Uuid {
        self.value(
            "insert into public.jobs (org_id, kind, payload) values ($1, $2, $3) returning id",
            &[&self.org_id, &kind, &payload],
        )
        .await
    }

    /// A column of a job as text.
    pub async fn job(&self, id: Uuid, column: &str) -> Option<String> {
        self.value(
            &format!("select ({column})::text from public.jobs where id = $1"),
            &[&id],
        )
        .await
    }

    /// The events of a job in order.
    pub async fn events(&self, id: Uuid) -> Vec<String> {
        let sql = "select event from public.job_events where job_id = $1 order by seq";
        self.admin
            .query(sql, &[&id])
            .await
            .expect("events")
            .iter()
            .map(|row| row.get(0))
            .collect()
    }

    /// Waits until a column of a job has this value.
    pub async fn job_becomes(&self, id: Uuid, column: &str, wanted: &str) {
        let start = Instant::now();
        loop {
            let now = self.job(id, column).await;
            if now.as_deref() == Some(wanted) {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{column} of the job is {now:?}, not {wanted}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "this never happened: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Wakeups without a listener.
pub fn no_wakeups() -> Arc<Wakeups> {
    Arc::default()
}

/// The canonical line of a job.
pub fn line_of(log: &Capture, job: Uuid) -> Value {
    let mut lines = log.lines("kijko::job");
    lines.retain(|line| line["job_id"] == job.to_string());
    assert_eq!(lines.len(), 1, "one line for the job: {}", log.text());
    lines.remove(0)
}

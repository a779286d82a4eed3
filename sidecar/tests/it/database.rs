//! What the sidecar's role may do.

use kijko_core::db::{Db, DbError};

use crate::support::db;

async fn refused(db: &Db, sql: &str) -> String {
    match db.query(sql, &[]).await {
        Err(DbError::Refused { code, .. }) => code,
        other => panic!("{sql}: {other:?}"),
    }
}

#[tokio::test]
async fn the_role_reads_no_table_and_can_become_no_other() {
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

//! The database functions of this domain; the only SQL.

use kijko_core::db::{Db, DbError};
use serde_json::Value;

const POSITION: &str = "select private.observability_log_position($1)";
const RETAINED: &str = "select used, unused from private.observability_retained_wal()";
const RECORD: &str = "select private.observability_record_requests($1, $2, $3, $4)";

/// How far a file has been read.
pub(super) async fn position(db: &Db, file: &str) -> Result<u64, DbError> {
    let position: i64 = db.scalar(POSITION, &[&file]).await?;
    Ok(position.max(0).unsigned_abs())
}

/// The most WAL that a replication slot holds back: of those that are used, and of the others.
pub(super) async fn retained(db: &Db) -> Result<(i64, i64), DbError> {
    db.one(RETAINED, &[], |row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .await
}

/// Records the requests between two positions. Returns how far the file has been read: another reader may have been faster.
pub(super) async fn record(
    db: &Db,
    file: &str,
    (since, until): (u64, u64),
    requests: &Value,
) -> Result<u64, DbError> {
    let [since, until] = [since, until].map(|at| i64::try_from(at).unwrap_or(i64::MAX));
    let position: i64 = db
        .scalar(RECORD, &[&file, &since, &until, requests])
        .await?;
    Ok(position.max(0).unsigned_abs())
}

//! The database function of this domain; the only SQL.

use kijko_core::db::{Db, DbError};

const EMIT_THRESHOLDS: &str = "select private.notifications_emit_thresholds($1)";

/// Crossings that one call takes.
pub(super) const MAX_CROSSINGS: i32 = 1_000;

/// Notifies of crossings, and returns how many it took.
pub(super) async fn emit_thresholds(db: &Db) -> Result<i32, DbError> {
    db.scalar(EMIT_THRESHOLDS, &[&MAX_CROSSINGS]).await
}

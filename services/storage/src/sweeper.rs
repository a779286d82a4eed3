//! The end of uploads whose service has ended, and of bytes that no row names any more. Several instances may sweep at once.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use kijko_core::db::DbError;
use tokio_postgres::types::Json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::upload::Uploads;

const BATCH: i32 = 100;
/// A store in a network answers later than a disk.
const DELETIONS_AT_A_TIME: usize = 8;

/// Sweeps until `stop`.
pub async fn run(uploads: Arc<Uploads>, stop: CancellationToken) {
    loop {
        if let Err(error) = sweep(&uploads, &stop).await {
            tracing::warn!(%error, "unneeded bytes were not deleted; the next round tries again");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(uploads.config.sweep) => {}
        }
    }
}

async fn sweep(uploads: &Uploads, stop: &CancellationToken) -> Result<(), DbError> {
    let (db, series) = (&uploads.database.0, &uploads.series);
    let swept: i32 = db
        .scalar("select storage_service.sweep_uploads($1)", &[&BATCH])
        .await?;
    series.swept.inc_by(swept.unsigned_abs().into());
    let keep = uploads.config.keep_deleted.as_secs_f64();
    while !stop.is_cancelled() {
        let sql = "select blob, multipart from storage_service.take_deletions($1, make_interval(secs => $2))";
        let taken: Vec<(Uuid, Option<String>)> = db
            .all(sql, &[&BATCH, &keep], |row| {
                Ok((row.try_get(0)?, row.try_get(1)?))
            })
            .await?;
        if taken.is_empty() {
            break;
        }
        let done: Vec<Uuid> = stream::iter(taken)
            .map(|(version, multipart)| delete(uploads, version, multipart))
            .buffer_unordered(DELETIONS_AT_A_TIME)
            .filter_map(std::future::ready)
            .collect()
            .await;
        series.deleted.inc_by(done.len() as u64);
        db.query("select storage_service.deletions_done($1)", &[&done])
            .await?;
    }
    let Json(backlog): Json<serde_json::Value> =
        db.scalar("select storage_service.backlog()", &[]).await?;
    let count = |name: &str| backlog[name].as_i64().unwrap_or(0);
    series.under_way.set(count("uploads"));
    series.deletions_due.set(count("deletions"));
    Ok(())
}

/// The version if its bytes are gone.
async fn delete(uploads: &Uploads, version: Uuid, multipart: Option<String>) -> Option<Uuid> {
    match uploads.blobs.delete(version, multipart.as_deref()).await {
        Ok(()) => Some(version),
        Err(error) => {
            tracing::warn!(%error, %version, "bytes cannot be deleted; another try follows");
            None
        }
    }
}

//! What the indexer may call. Each call names the worker, the job and the attempt, and does nothing once the lease is lost.

use kijko_core::{
    db::{Db, DbError, retry_transient},
    jobs::{Job, Queue},
    secret::Secret,
};
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::types::{Json, ToSql};
use uuid::Uuid;

use crate::child::{Blob, Entry, Expected, File};

/// The year 9999, in seconds since 1970.
const MAX_TIME: i64 = 253_402_300_799;

/// What to index.
#[derive(Debug, Deserialize)]
pub struct Task {
    /// The repository.
    pub repository_id: Uuid,
    /// Its provider.
    pub provider: String,
    /// Its address.
    pub clone_url: String,
    /// The branch.
    pub branch: Option<String>,
    /// The commit that is indexed already.
    pub base_commit: Option<String>,
    /// Glob patterns; none: all files.
    pub include_paths: Vec<String>,
    /// Glob patterns.
    pub exclude_paths: Vec<String>,
    /// What the plan allows.
    pub limits: Limits,
    /// A token of the provider.
    pub token: Option<Secret>,
    /// The host that gets it.
    pub token_host: Option<String>,
}

/// What a plan allows for one branch.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Limits {
    /// Bytes of all files.
    pub repository_bytes: u64,
    /// Number of files.
    pub files: usize,
    /// Bytes of one file that is parsed.
    pub file_bytes: u64,
    /// Time of one attempt.
    pub seconds: u64,
}

/// The calls for one attempt of a job.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The database.
    pub db: &'a Db,
    /// The worker.
    pub queue: &'a Queue,
    /// The job.
    pub job: &'a Job,
}

impl Attempt<'_> {
    /// What to do; none if there is nothing to do any more.
    pub async fn begin(&self) -> Result<Option<Task>, DbError> {
        let task: Option<Json<Task>> = self
            .scalar("select private.code_index_begin($1, $2, $3)", &[])
            .await?;
        Ok(task.map(|Json(task)| task))
    }

    /// Says how far it is; false when it must stop.
    pub async fn progress(&self, phase: &str, done: usize, total: usize) -> Result<bool, DbError> {
        let number = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let sql = "select private.code_index_progress($1, $2, $3, $4, $5, $6)";
        let more: [&(dyn ToSql + Sync); 3] = [&phase, &number(done), &number(total)];
        let go_on: Option<bool> = self.scalar(sql, &more).await?;
        Ok(go_on.unwrap_or(false))
    }

    /// Those of these files whose blobs the organization lacks, or has without what their paths tell; none when the lease is lost.
    pub async fn missing(&self, files: &[File]) -> Result<Option<Vec<String>>, DbError> {
        let oids: Vec<&str> = files.iter().map(|file| file.oid.as_str()).collect();
        let paths = files.iter().map(|file| Expected::of(&file.path));
        let (languages, generated): (Vec<_>, Vec<_>) =
            paths.map(|it| (it.language, it.generated)).unzip();
        let sql = "select private.code_index_missing($1, $2, $3, $4, $5, $6)";
        self.scalar(sql, &[&oids, &languages, &generated]).await
    }

    /// Stores blobs; false when the lease is lost.
    pub async fn put(&self, blobs: &[Blob]) -> Result<bool, DbError> {
        let mut json = String::from("[");
        for (n, blob) in blobs.iter().enumerate() {
            json.push_str(if n == 0 { "" } else { "," });
            let written = blob.write_json(&mut json);
            written.map_err(|error| DbError::Unexpected(error.to_string()))?;
        }
        json.push(']');
        let sql = "select private.code_index_put($1, $2, $3, $4::text::jsonb)";
        let stored: Option<bool> = self.scalar(sql, &[&json]).await?;
        Ok(stored.unwrap_or(false))
    }

    /// Notes files; false when the lease is lost.
    pub async fn stage(&self, full: bool, entries: &[Entry]) -> Result<bool, DbError> {
        let sql = "select private.code_index_stage($1, $2, $3, $4, $5)";
        let staged: Option<bool> = self.scalar(sql, &[&full, &Json(entries)]).await?;
        Ok(staged.unwrap_or(false))
    }

    /// Moves the branch and ends the job; false when it has ended in another way, or is not ours.
    pub async fn commit(&self, commit: &str, committed_at: i64) -> Result<bool, DbError> {
        let sql = "select private.code_index_commit($1, $2, $3, $4, to_timestamp($5))";
        // A commit may have any time, and a timestamp not.
        let at = committed_at.clamp(0, MAX_TIME) as f64;
        let ended: Option<String> = self.scalar(sql, &[&commit, &at]).await?;
        Ok(ended.as_deref() == Some("succeeded"))
    }

    async fn scalar<T>(&self, sql: &str, more: &[&(dyn ToSql + Sync)]) -> Result<T, DbError>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        let worker = self.queue.worker();
        let first: [&(dyn ToSql + Sync); 3] = [&worker, &self.job.id, &self.job.attempt];
        let params = [&first, more].concat();
        retry_transient(self.queue.retry_limit(), || self.db.scalar(sql, &params)).await
    }
}

/// What a finished attempt hands on to [`Attempt::commit`].
pub fn result(commit: &str, committed_at: i64) -> Value {
    serde_json::json!({ "commit": commit, "committed_at": committed_at })
}

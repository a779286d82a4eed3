//! One job, step by step:
//!
//! 1. `begin`: what to index, with which limits.
//! 2. The commit of the branch, and the pack of what the cache lacks ([`crate::fetch`]).
//! 3. The child indexes the pack and lists the files that differ ([`crate::child`]).
//! 4. Page by page: which blobs the organization lacks; the child parses these; they are stored, and the page is staged.
//! 5. `commit`: the branch moves to the commit, at once with all files, and the job ends.
//!
//! A process that is killed at any step leaves nothing that counts: the next attempt finds the blobs that were stored, and stages
//! anew. When the cache is broken, the repository is fetched anew, once.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use kijko_core::{
    db::{Db, DbError},
    jobs::{Failure, Handler, HandlerError, Job, JobKind, Queue},
};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    cache::{Cache, Folder},
    child::{Blob, Child, ChildError, Entry, Expected, File, Open, SELF},
    config::Config,
    database::{self, Attempt, Task},
    fetch::{Fetcher, Source, Token},
    metrics::IndexerSeries,
    problem::{Problem, go_on, internal, over_limit},
};

/// Bytes of files, with what was parsed of them, after which a call is made.
const BATCH_BYTES: usize = 2 << 20;
/// Files in one call.
const BATCH_FILES: usize = 100;
/// A plan's bytes are those of files; of a pack that has their history, or files that are left out, so many times more.
const PACK_FACTOR: u64 = 2;
/// A small repository may have large files that are left out.
const MIN_PACK: u64 = 64 << 20;

/// `code.index`.
#[derive(Debug, Deserialize)]
pub struct Payload {
    /// The indexing job.
    #[allow(
        dead_code,
        reason = "the database finds it by the job; its presence is checked"
    )]
    indexing_job_id: Uuid,
}

impl JobKind for Payload {
    const KIND: &'static str = "code.index";
    const RECORDS_FOR_LONG: bool = true;
}

/// Indexes branches.
pub struct Index {
    /// The database.
    pub db: Db,
    /// The network.
    pub fetcher: Fetcher,
    /// The packs.
    pub cache: Arc<Cache>,
    /// The settings.
    pub config: Config,
    /// What operators see.
    pub series: Arc<IndexerSeries>,
}

impl Handler for Index {
    type Payload = Payload;

    async fn run(&self, queue: &Queue, job: &Job, _: Payload) -> Result<Value, HandlerError> {
        let attempt = self.attempt(queue, job);
        let Some(task) = queue.begin(|| attempt.begin()).await? else {
            return Err(HandlerError::Superseded);
        };
        let limit = Duration::from_secs(task.limits.seconds);
        let indexed = tokio::time::timeout(limit, self.index(attempt, &task)).await;
        let cache = self.cache.clone();
        match tokio::task::spawn_blocking(move || cache.trim()).await {
            Ok(Ok(bytes)) => {
                self.series
                    .cache_bytes
                    .set(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
            Ok(Err(error)) => tracing::warn!(%error, "the cache was not trimmed"),
            Err(error) => tracing::warn!(%error, "the cache was not trimmed"),
        }
        indexed.unwrap_or_else(|_| {
            let seconds = limit.as_secs();
            let text = format!("indexing took longer than {seconds} seconds");
            Err(Failure::transient("timeout", text).into())
        })
    }

    async fn record_success(
        &self,
        queue: &Queue,
        job: &Job,
        result: &Value,
    ) -> Result<bool, DbError> {
        let (Some(commit), Some(committed_at)) =
            (result["commit"].as_str(), result["committed_at"].as_i64())
        else {
            return Ok(false);
        };
        self.attempt(queue, job).commit(commit, committed_at).await
    }

    async fn record_failure(
        &self,
        queue: &Queue,
        job: &Job,
        failure: &Failure,
    ) -> Result<Option<String>, DbError> {
        let sql = "select private.code_index_fail($1, $2, $3, $4, $5, $6)";
        let message = failure.message.replace('\0', "\u{fffd}");
        let (worker, code) = (queue.worker(), failure.code.as_ref());
        self.db
            .scalar(
                sql,
                &[
                    &worker,
                    &job.id,
                    &job.attempt,
                    &code,
                    &message,
                    &failure.retryable,
                ],
            )
            .await
    }
}

impl Index {
    fn attempt<'a>(&'a self, queue: &'a Queue, job: &'a Job) -> Attempt<'a> {
        Attempt {
            db: &self.db,
            queue,
            job,
        }
    }

    async fn index(&self, attempt: Attempt<'_>, task: &Task) -> Result<Value, HandlerError> {
        go_on(attempt.progress("fetching", 0, 0).await?)?;
        let folder = self
            .cache
            .enter(task.repository_id, &source_of(task))
            .await
            .map_err(internal)?;
        match self.index_in(&folder, attempt, task).await {
            Err(Problem::Child(ChildError::Failed { code, message })) if code == "parse_failed" => {
                if folder.commits().map_err(internal)?.is_empty() {
                    return Err(Failure::permanent(code, message).into());
                }
                tracing::warn!(
                    message,
                    "the cache of a repository is broken; fetching it anew"
                );
                self.series.cache_resets.inc();
                folder.clear().map_err(internal)?;
                // Forgets what the first pass has staged: the branch may have moved between the two.
                let Some(task) = &attempt.begin().await? else {
                    return Err(HandlerError::Superseded);
                };
                self.index_in(&folder, attempt, task)
                    .await
                    .map_err(|problem| problem.reported(&self.series))
            }
            done => done.map_err(|problem| problem.reported(&self.series)),
        }
    }

    async fn index_in(
        &self,
        folder: &Folder,
        attempt: Attempt<'_>,
        task: &Task,
    ) -> Result<Value, Problem> {
        let known = folder.commits().map_err(internal)?;
        let time = Duration::from_secs(task.limits.seconds);
        let (commit, pack) = tokio::time::timeout(time / 2, self.fetch(folder, &known, task))
            .await
            .map_err(|_| too_slow(time / 2))??;
        go_on(attempt.progress("parsing", 0, 0).await?)?;
        let mut child = Child::start(SELF.as_ref(), self.config.child_memory_bytes, time)?;
        let base = task.base_commit.clone();
        let listed = child
            .open(Open {
                folder: folder.path().to_owned(),
                pack,
                commit: commit.clone(),
                base: base.filter(|base| known.contains(base)),
                include: task.include_paths.clone(),
                exclude: task.exclude_paths.clone(),
                max_files: task.limits.files,
                max_file_bytes: task.limits.file_bytes,
                max_bytes: task.limits.repository_bytes,
            })
            .await?;
        folder.remember(&commit).map_err(internal)?;
        let mut done = 0;
        go_on(attempt.progress("parsing", done, listed.files).await?)?;
        loop {
            let page = child.page().await?;
            if page.is_empty() {
                break;
            }
            self.store(&mut child, attempt, &page, (done, listed.files))
                .await?;
            let staged = attempt.stage(listed.full, &page).await;
            go_on(staged.map_err(|error| over_limit(error, "too_many_files"))?)?;
            done += page.len();
            go_on(attempt.progress("parsing", done, listed.files).await?)?;
        }
        go_on(attempt.progress("committing", done, listed.files).await?)?;
        Ok(database::result(&commit, listed.committed_at))
    }

    /// The commit of the branch, and the name of the pack that was fetched for it.
    async fn fetch(
        &self,
        folder: &Folder,
        known: &[String],
        task: &Task,
    ) -> Result<(String, Option<String>), Problem> {
        let max_bytes = task
            .limits
            .repository_bytes
            .saturating_mul(PACK_FACTOR)
            .max(MIN_PACK);
        let token = match (&task.token, &task.token_host) {
            (Some(secret), Some(host)) => Some(Token {
                host: host.clone(),
                user: user_of(&task.provider),
                secret: secret.clone(),
            }),
            _ => None,
        };
        let source = Source {
            clone_url: task.clone_url.clone(),
            branch: task.branch.clone(),
            token,
            max_bytes: max_bytes.min(self.config.pack_bytes),
            max_file_bytes: task.limits.file_bytes,
        };
        let mut remote = self.fetcher.connect(&source).await.map_err(Failure::from)?;
        let commit = remote
            .commit_of(source.branch.as_deref())
            .await
            .map_err(Failure::from)?;
        if known.contains(&commit) {
            return Ok((commit, None));
        }
        let (name, path) = folder.incoming();
        let bytes = remote
            .pack(&commit, known, &path)
            .await
            .map_err(Failure::from)?;
        self.series.packs.inc();
        self.series.fetched_bytes.inc_by(bytes);
        Ok((commit, Some(name)))
    }

    /// Parses and stores the blobs of a page that the organization lacks.
    async fn store(
        &self,
        child: &mut Child,
        attempt: Attempt<'_>,
        page: &[Entry],
        (done, total): (usize, usize),
    ) -> Result<(), Problem> {
        let mut files = files_of(page);
        if files.is_empty() {
            return Ok(());
        }
        let missing = attempt
            .missing(&files)
            .await?
            .ok_or(HandlerError::Superseded)?;
        let missing: HashSet<String> = missing.into_iter().collect();
        files.retain(|file| missing.contains(&file.oid));
        let known = done + page.len() - files.len();
        for (n, files) in files.chunks(BATCH_FILES).enumerate() {
            if n > 0 {
                let done = known + n * BATCH_FILES;
                go_on(attempt.progress("parsing", done, total).await?)?;
            }
            child.parse(files).await?;
            let (mut blobs, mut bytes) = (Vec::new(), 0);
            for file in files {
                let blob = child.blob(file).await?;
                // With what was parsed: of a small file that can be megabytes.
                bytes += blob.size();
                blobs.push(blob);
                if bytes >= BATCH_BYTES {
                    self.put(attempt, &mut blobs).await?;
                    bytes = 0;
                }
            }
            self.put(attempt, &mut blobs).await?;
        }
        Ok(())
    }

    async fn put(&self, attempt: Attempt<'_>, blobs: &mut Vec<Blob>) -> Result<(), Problem> {
        if !blobs.is_empty() {
            let stored = attempt.put(blobs).await;
            go_on(stored.map_err(|error| over_limit(error, "repository_too_large"))?)?;
            let skipped = blobs.iter().filter(|blob| blob.skipped.is_some()).count() as u64;
            self.series.skipped.inc_by(skipped);
            self.series.files.inc_by(blobs.len() as u64 - skipped);
            blobs.clear();
        }
        Ok(())
    }
}

/// What providers expect as the name beside a token.
fn user_of(provider: &str) -> &'static str {
    match provider {
        "github" => "x-access-token",
        _ => "oauth2",
    }
}

/// The blobs of a page, each with the path that tells most of it.
fn files_of(page: &[Entry]) -> Vec<File> {
    let mut paths = BTreeMap::<&str, &str>::new();
    for entry in page {
        let Some(oid) = entry.oid.as_deref() else {
            continue;
        };
        let path = paths.entry(oid).or_insert(&entry.path);
        if Expected::of(&entry.path).tells_more(Expected::of(path)) {
            *path = &entry.path;
        }
    }
    let file = |(oid, path): (&str, &str)| File {
        oid: oid.to_owned(),
        path: path.to_owned(),
    };
    paths.into_iter().map(file).collect()
}

/// Another attempt would hold a place for as long.
fn too_slow(limit: Duration) -> Failure {
    let text = format!("fetching took longer than {} seconds", limit.as_secs());
    Failure::permanent("fetch_timeout", text)
}

/// What the packs of a folder come from. With another limit, the server would leave out other files.
fn source_of(task: &Task) -> String {
    format!("{} {}", task.clone_url, task.limits.file_bytes)
}

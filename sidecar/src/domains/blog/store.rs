//! The database functions of the blog; the only SQL of this domain.

use kijko_core::{
    db::{Db, DbError},
    jobs::{Job, Queue},
    secret::Secret,
};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::render::Rendered;
use crate::answers::{self, Refusal};

/// What `private.blog_start_draft` and `private.blog_start_image` answer.
#[derive(Debug, Deserialize)]
pub(super) struct Started {
    pub org_id: Uuid,
    /// Of the call.
    pub ticket: String,
    pub request: Value,
    /// The ticket for the bytes of an image.
    pub upload: Option<Secret>,
}

/// It, or why no model is called; `None` when the lease was lost or nothing is to be done any more.
pub(super) type Start = Option<Result<Started, Refusal>>;

/// The functions.
#[derive(Debug, Clone)]
pub(super) struct Store {
    db: Db,
}

impl Store {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// The Markdown that is to be rendered; `None` when no revision waits for it any more.
    pub(super) async fn start_render(
        &self,
        post: Uuid,
        hash: &str,
    ) -> Result<Option<String>, DbError> {
        let sql = "select private.blog_start_render($1, $2)";
        self.db.scalar(sql, &[&post, &hash]).await
    }

    /// Records the HTML of a text; false when the post was deleted.
    pub(super) async fn record_render(
        &self,
        post: Uuid,
        hash: &str,
        rendered: &Rendered,
    ) -> Result<bool, DbError> {
        let sql = "select private.blog_record_render($1, $2, $3, $4)";
        self.db
            .scalar(sql, &[&post, &hash, &rendered.html, &rendered.words])
            .await
    }

    /// Ends and deletes the job; false when it is not ours.
    pub(super) async fn end_render(&self, queue: &Queue, job: &Job) -> Result<bool, DbError> {
        let sql = "select private.blog_end_render($1, $2, $3)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await
    }

    /// What a draft asks a model, its cost held.
    pub(super) async fn start_draft(&self, queue: &Queue, job: &Job) -> Result<Start, DbError> {
        let sql = "select private.blog_start_draft($1, $2, $3)";
        self.start(sql, queue, job).await
    }

    /// What an image asks a model, its cost held.
    pub(super) async fn start_image(&self, queue: &Queue, job: &Job) -> Result<Start, DbError> {
        let sql = "select private.blog_start_image($1, $2, $3)";
        self.start(sql, queue, job).await
    }

    async fn start(&self, sql: &str, queue: &Queue, job: &Job) -> Result<Start, DbError> {
        let answer: Option<Value> = self
            .db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await?;
        answers::read_some(sql, answer)
    }

    /// Ends an image and its job; false when it is not ours.
    pub(super) async fn finish_image(
        &self,
        queue: &Queue,
        job: &Job,
        result: &Value,
    ) -> Result<bool, DbError> {
        let sql = "select private.blog_finish_image($1, $2, $3, $4)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt, result])
            .await
    }

    /// Ends a draft and its job; false when it is not ours.
    pub(super) async fn finish_draft(
        &self,
        queue: &Queue,
        job: &Job,
        result: &Value,
    ) -> Result<bool, DbError> {
        let sql = "select private.blog_finish_draft($1, $2, $3, $4)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt, result])
            .await
    }
}

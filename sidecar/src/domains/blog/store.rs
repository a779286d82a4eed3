//! The database functions of the blog; the only SQL of this domain.

use kijko_core::{
    db::{Db, DbError},
    jobs::{Job, Queue},
};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::render::Rendered;

/// What `private.blog_start_draft` answers.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Started {
    Ready {
        org_id: Uuid,
        ticket: String,
        request: Value,
    },
    Refused {
        refused: String,
        message: String,
    },
}

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

    /// What a draft asks a model, its cost held; `None` when the lease was lost or the draft has ended.
    pub(super) async fn start_draft(
        &self,
        queue: &Queue,
        job: &Job,
    ) -> Result<Option<Started>, DbError> {
        let sql = "select private.blog_start_draft($1, $2, $3)";
        let answer: Option<Value> = self
            .db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await?;
        let started = answer.map(serde_json::from_value).transpose();
        started.map_err(|error| DbError::Unexpected(format!("blog_start_draft: {error}")))
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

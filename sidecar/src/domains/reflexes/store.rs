//! The database functions of reflexes; the only SQL of this domain.

use std::fmt;

use kijko_core::{
    db::{Db, DbError},
    jobs::{Job, Queue},
    secret::Secret,
};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{delivery::Delivery, signature::Verification};

/// The functions.
#[derive(Debug, Clone)]
pub(super) struct Store {
    db: Db,
}

/// How requests to a reflex are verified.
#[derive(Debug)]
pub(super) struct Verifier {
    pub verification: Verification,
    pub secrets: Vec<Secret>,
}

/// What became of a verified request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Receipt {
    /// Stored under this id: `received`, `refused`, or a `duplicate` of it.
    Stored { id: Uuid, status: String },
    /// Too many; the seconds to wait.
    RateLimited { retry_after: i32 },
    /// The reflex is gone.
    Gone,
}

/// What is to be done for a delivery; nothing when it has ended.
#[derive(Clone, Deserialize)]
pub(super) struct Work {
    #[serde(default)]
    pub filter: Option<String>,
    #[serde(default)]
    pub mapping: Value,
    #[serde(default)]
    pub variables: Option<Value>,
}

/// Payloads are nobody's business.
impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}

impl Store {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// `None` for an unknown reflex.
    pub(super) async fn verifier(&self, reflex: Uuid) -> Result<Option<Verifier>, DbError> {
        let sql =
            "select verification, signature_header, secrets from private.reflexes_verifier($1)";
        let found: Vec<(String, String, Vec<String>)> = self
            .db
            .all(sql, &[&reflex], |row| {
                Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
            })
            .await?;
        let Some((name, header, secrets)) = found.into_iter().next() else {
            return Ok(None);
        };
        let verification = Verification::new(&name, header)
            .ok_or_else(|| DbError::Unexpected(format!("the verification {name}")))?;
        Ok(Some(Verifier {
            verification,
            secrets: secrets.into_iter().map(Secret::new).collect(),
        }))
    }

    /// Without a secret nothing is verified, so an unknown repository needs no case of its own.
    pub(super) async fn repository_verifier(&self, repository: Uuid) -> Result<Verifier, DbError> {
        let sql = "select private.reflexes_repository_secrets($1)";
        let secrets: Vec<String> = self.db.scalar(sql, &[&repository]).await?;
        // As many signatures are computed for none as for one.
        let decoy = secrets.is_empty().then(|| Uuid::new_v4().to_string());
        Ok(Verifier {
            verification: Verification::Github,
            secrets: secrets.into_iter().chain(decoy).map(Secret::new).collect(),
        })
    }

    /// Counts a request that was not verified.
    pub(super) async fn rejected(&self, reflex: Uuid) -> Result<(), DbError> {
        self.db
            .query("select private.reflexes_rejected($1)", &[&reflex])
            .await
            .map(drop)
    }

    /// Stores a verified request; once this returns it is committed.
    pub(super) async fn ingest(
        &self,
        reflex: Uuid,
        delivery: &Delivery,
    ) -> Result<Receipt, DbError> {
        let sql = "select delivery_id, status, retry_after from private.reflexes_ingest($1, $2, $3, $4, $5, $6)";
        self.store(sql, reflex, delivery).await
    }

    /// Stores a verified delivery of a repository's webhook and fires its reflexes; once this returns it is committed.
    pub(super) async fn ingest_github(
        &self,
        repository: Uuid,
        delivery: &Delivery,
    ) -> Result<Receipt, DbError> {
        let sql = "select delivery_id, status, retry_after from private.reflexes_ingest_github($1, $2, $3, $4, $5, $6)";
        self.store(sql, repository, delivery).await
    }

    async fn store(&self, sql: &str, id: Uuid, delivery: &Delivery) -> Result<Receipt, DbError> {
        let receipt: (Option<Uuid>, Option<String>, Option<i32>) = self
            .db
            .one(
                sql,
                &[
                    &id,
                    &delivery.text,
                    &delivery.headers,
                    &delivery.event,
                    &delivery.external_id,
                    &delivery.body_hash,
                ],
                |row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)),
            )
            .await?;
        Ok(match receipt {
            (_, _, Some(retry_after)) => Receipt::RateLimited { retry_after },
            (Some(id), Some(status), None) => Receipt::Stored { id, status },
            _ => Receipt::Gone,
        })
    }

    /// What a job is to filter and map; `None` when its lease was lost.
    pub(super) async fn start(&self, queue: &Queue, job: &Job) -> Result<Option<Work>, DbError> {
        let sql = "select private.reflexes_start($1, $2, $3)";
        let work: Option<Value> = self
            .db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt])
            .await?;
        work.map(serde_json::from_value)
            .transpose()
            .map_err(|error| DbError::Unexpected(format!("reflexes_start: {error}")))
    }

    /// Ends a job with what the sandbox made of its delivery; false when its lease was lost.
    pub(super) async fn finish(
        &self,
        queue: &Queue,
        job: &Job,
        outcome: &Value,
    ) -> Result<bool, DbError> {
        let sql = "select private.reflexes_finish($1, $2, $3, $4)";
        self.db
            .scalar(sql, &[&queue.worker(), &job.id, &job.attempt, outcome])
            .await
    }
}

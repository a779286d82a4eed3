//! Recording results together: results that become ready while a call is under way are sent with the next one. A single result
//! is sent at once.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::sync::{
    Mutex as Gate,
    oneshot::{self, error::TryRecvError},
};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::job::Job;
use crate::db::{Db, DbError, on_behalf_of};

/// A larger call would save little more and hold its rows for longer.
const MAX_BATCH: usize = 500;

/// The results that are ready and not yet sent.
#[derive(Debug, Default)]
pub(super) struct ResultBatch {
    ready: Mutex<Vec<Ready>>,
    gate: Gate<()>,
}

#[derive(Debug)]
struct Ready {
    id: Uuid,
    entry: Value,
    answer: oneshot::Sender<Result<bool, DbError>>,
}

impl ResultBatch {
    /// Records this result, by whichever call takes it along; false when the lease was lost or the job was cancelled.
    /// May be dropped at any await. When the call is dropped, the others in it learn that they may repeat it.
    pub(super) async fn complete(
        &self,
        db: &Db,
        worker: &str,
        job: &Job,
        result: &Value,
    ) -> Result<bool, DbError> {
        let (answer, mut answered) = oneshot::channel();
        let entry = json!({"id": job.id, "attempt": job.attempt, "result": result});
        self.lock().push(Ready {
            id: job.id,
            entry,
            answer,
        });
        // The call before may have taken our result along; if not, we make the next one.
        let _turn = self.gate.lock().await;
        loop {
            match answered.try_recv() {
                Ok(recorded) => return recorded,
                Err(TryRecvError::Closed) => {
                    return Err(DbError::Unreachable(
                        "the call that recorded it was given up".to_owned(),
                    ));
                }
                Err(TryRecvError::Empty) => {
                    let batch = self.take();
                    // Results of other organizations are among them.
                    on_behalf_of(None, send(db, worker, batch)).await;
                }
            }
        }
    }

    fn take(&self) -> Vec<Ready> {
        let mut ready = self.lock();
        let count = ready.len().min(MAX_BATCH);
        ready.drain(..count).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send(db: &Db, worker: &str, batch: Vec<Ready>) {
    match record(db, worker, &batch).await {
        Ok(ended) => {
            for one in batch {
                // A receiver that was dropped has lost its lease; its result is recorded all the same.
                let _ = one.answer.send(outcome(&ended, one.id));
            }
        }
        // A result that is refused, even temporarily, must not affect the others.
        Err(DbError::Refused { .. }) if batch.len() > 1 => {
            for one in batch {
                let answer = record(db, worker, std::slice::from_ref(&one)).await;
                let _ = one
                    .answer
                    .send(answer.and_then(|ended| outcome(&ended, one.id)));
            }
        }
        Err(error) => {
            for one in batch {
                let _ = one.answer.send(Err(error.clone()));
            }
        }
    }
}

/// What became of a job that is still ours.
#[derive(Debug)]
struct Answer {
    status: String,
    code: Option<String>,
    message: Option<String>,
}

/// A missing job was lost; another transaction holds a job that is still running.
fn outcome(answers: &HashMap<Uuid, Answer>, id: Uuid) -> Result<bool, DbError> {
    let Some(answer) = answers.get(&id) else {
        return Ok(false);
    };
    match answer.status.as_str() {
        "running" => Err(DbError::refused(
            SqlState::LOCK_NOT_AVAILABLE.code(),
            "another transaction holds the job",
        )),
        "refused" => Err(DbError::refused(
            answer.code.as_deref().unwrap_or_default(),
            answer.message.as_deref().unwrap_or_default(),
        )),
        status => Ok(status == "succeeded"),
    }
}

async fn record(db: &Db, worker: &str, batch: &[Ready]) -> Result<HashMap<Uuid, Answer>, DbError> {
    let results = Value::Array(batch.iter().map(|one| one.entry.clone()).collect());
    db.all(
        "select id, status, code, message from private.jobs_complete($1, $2)",
        &[&worker, &results],
        |row| {
            let answer = Answer {
                status: row.try_get(1)?,
                code: row.try_get(2)?,
                message: row.try_get(3)?,
            };
            Ok((row.try_get(0)?, answer))
        },
    )
    .await
}

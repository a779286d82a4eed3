//! Deliveries that arrive while a transaction is under way go together in the next one. A single delivery is stored at once.
//! Each gets an answer of its own, and only after the commit.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kijko_core::db::{Db, DbError, storable};
use tokio::sync::{Semaphore, oneshot};

use super::store::{self, Ingested};

/// Batches at a time. With more, there would be one for each delivery.
const LANES: usize = 2;
/// A larger one would save little more, and its first delivery would wait for all others.
const MAX_BATCH: usize = 16;
/// Of all bodies together, unless a single one has more.
const MAX_BYTES: usize = 1 << 20;

/// The deliveries that wait for a lane.
pub(super) struct Batches {
    db: Db,
    waiting: Mutex<Vec<Waiting>>,
    lanes: Semaphore,
}

/// A verified event. Who drops `answer` instead of answering has the delivery stored alone.
struct Waiting {
    body: String,
    answer: oneshot::Sender<Result<Ingested, DbError>>,
}

impl Batches {
    pub(super) fn new(db: Db) -> Self {
        Self {
            db,
            waiting: Mutex::default(),
            lanes: Semaphore::new(LANES),
        }
    }

    /// Stores the event and applies it; once this returns it is committed. May be dropped at any await: the deliveries of
    /// the same batch are then stored alone.
    pub(super) async fn ingest(&self, body: &str) -> Result<Ingested, DbError> {
        let body = storable(body);
        let (answer, mut answered) = oneshot::channel();
        self.lock().push(Waiting {
            body: body.clone().into_owned(),
            answer,
        });
        let answered = loop {
            tokio::select! {
                biased;
                answer = &mut answered => break answer,
                lane = self.lanes.acquire() => {
                    let batch = self.take();
                    if batch.is_empty() {
                        // Ours is in another lane.
                        drop(lane);
                        break answered.await;
                    }
                    self.send(batch).await;
                }
            }
        };
        match answered {
            Ok(ingested) => ingested,
            Err(_) => store::ingest(&self.db, &body).await,
        }
    }

    /// The oldest ones. A sender that has gone away sends again.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.lock();
        waiting.retain(|one| !one.answer.is_closed());
        let mut bytes = 0;
        let fitting = waiting.iter().take(MAX_BATCH).take_while(|one| {
            bytes += one.body.len();
            bytes <= MAX_BYTES
        });
        let count = fitting.count().max(1).min(waiting.len());
        waiting.drain(..count).collect()
    }

    async fn send(&self, batch: Vec<Waiting>) {
        let bodies: Vec<&str> = batch.iter().map(|one| one.body.as_str()).collect();
        match store::ingest_all(&self.db, &bodies).await {
            Ok(ingested) => {
                for (one, ingested) in batch.into_iter().zip(ingested) {
                    let _ = one.answer.send(Ok(ingested));
                }
            }
            // One of them is no event, or waits for a lock. It must not affect the others.
            Err(DbError::Refused { .. }) => {}
            Err(error) => {
                for one in batch {
                    let _ = one.answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Settlements that wait at the same time go to the database in one transaction. Nobody waits for others: a settlement that finds
//! a free place goes at once, with all that wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use kijko_core::db::DbError;
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};
use uuid::Uuid;

use super::store::{Calls, Settled};

/// Transactions at once.
const MAX_RUNNING: usize = 2;
/// Settlements of a transaction.
const MAX_SIZE: usize = 32;

struct Due {
    call: Uuid,
    usage: Value,
    settled: oneshot::Sender<Option<Settled>>,
}

/// The settlements that wait.
pub(super) struct Batches {
    calls: Arc<dyn Calls>,
    waiting: Mutex<Vec<Due>>,
    running: Semaphore,
}

impl Batches {
    pub(super) fn new(calls: Arc<dyn Calls>) -> Self {
        Self {
            calls,
            waiting: Mutex::default(),
            running: Semaphore::new(MAX_RUNNING),
        }
    }

    /// Settles a call with others. An error says nothing of this one: it is settled by itself then.
    pub(super) async fn settle(
        &self,
        call: Uuid,
        usage: Value,
    ) -> Result<Option<Settled>, DbError> {
        let (settled, answer) = oneshot::channel();
        self.lock().push(Due {
            call,
            usage,
            settled,
        });
        // Closed never. Who comes after another one has taken its settlement along finds others, or none.
        if let Ok(_place) = self.running.acquire().await {
            let batch = {
                let mut waiting = self.lock();
                let size = waiting.len().min(MAX_SIZE);
                waiting.drain(..size).collect::<Vec<_>>()
            };
            self.run(batch).await;
        }
        let lost = |_| DbError::Unexpected("the batch of a settlement failed".to_owned());
        answer.await.map_err(lost)
    }

    async fn run(&self, mut batch: Vec<Due>) {
        if batch.len() == 1 {
            let due = batch.remove(0);
            match self.calls.settle(due.call, due.usage).await {
                Ok(settled) => drop(due.settled.send(settled)),
                Err(error) => tracing::debug!(%error, "a settlement failed at first"),
            }
            return;
        }
        if batch.is_empty() {
            return;
        }
        let mut usages = Vec::with_capacity(batch.len());
        let mut senders = HashMap::with_capacity(batch.len());
        for due in batch {
            usages.push((due.call, due.usage));
            senders.insert(due.call, due.settled);
        }
        match self.calls.settle_many(usages).await {
            Ok(settled) => {
                for (call, settled) in settled {
                    if let Some(sender) = senders.remove(&call) {
                        let _ = sender.send(settled);
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "a batch of settlements failed"),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Due>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

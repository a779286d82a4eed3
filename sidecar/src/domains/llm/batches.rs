//! Settlements go to the database in batches, of one transaction each. The first one goes at once; those that come in the moment
//! after it go together. So a batch costs a quiet gateway nothing, and a busy one saves a transaction for most of its calls.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kijko_core::db::DbError;
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};
use uuid::Uuid;

use super::store::{Calls, Settled};

/// From the start of a batch to that of the next one.
const APART: Duration = Duration::from_millis(15);
/// Batches at once.
const MAX_RUNNING: usize = 4;
/// Settlements of a batch.
const MAX_SIZE: usize = 64;

struct Due {
    call: Uuid,
    usage: Value,
    settled: oneshot::Sender<Option<Settled>>,
}

/// The settlements that wait.
pub(super) struct Batches {
    calls: Arc<dyn Calls>,
    waiting: Mutex<Vec<Due>>,
    /// Who has it starts the next batch.
    start: Arc<Semaphore>,
    running: Semaphore,
}

impl Batches {
    pub(super) fn new(calls: Arc<dyn Calls>) -> Self {
        Self {
            calls,
            waiting: Mutex::default(),
            start: Arc::new(Semaphore::new(1)),
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
        self.start().await;
        let lost = |_| DbError::Unexpected("the batch of a settlement failed".to_owned());
        answer.await.map_err(lost)
    }

    /// Settles what waits when its turn comes: nothing, if a former batch took it all along.
    async fn start(&self) {
        // They are never closed.
        let Ok(turn) = self.start.clone().acquire_owned().await else {
            return;
        };
        if self.lock().is_empty() {
            return;
        }
        let Ok(_place) = self.running.acquire().await else {
            return;
        };
        tokio::spawn(async move {
            tokio::time::sleep(APART).await;
            drop(turn);
        });
        let batch = {
            let mut waiting = self.lock();
            let size = waiting.len().min(MAX_SIZE);
            waiting.drain(..size).collect()
        };
        self.run(batch).await;
    }

    async fn run(&self, batch: Vec<Due>) {
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

    fn lock(&self) -> MutexGuard<'_, Vec<Due>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use serde_json::json;

    use super::{super::tests::fakes::Store, *};

    async fn settled(batches: &Batches, count: u128) -> usize {
        let calls = (0..count).map(|n| batches.settle(Uuid::from_u128(n), json!({})));
        let all = join_all(calls).await;
        all.iter().filter(|it| matches!(it, Ok(Some(_)))).count()
    }

    #[tokio::test]
    async fn the_first_goes_at_once_and_those_after_it_together() {
        let store = Arc::new(Store::default());
        let batches = Batches::new(store.clone());
        assert_eq!(settled(&batches, 5).await, 5);
        assert_eq!(*store.batches.lock().unwrap(), [1, 4]);
        // After a while the next one is a first one.
        tokio::time::sleep(APART * 2).await;
        assert_eq!(settled(&batches, 1).await, 1);
        assert_eq!(*store.batches.lock().unwrap(), [1, 4, 1]);
    }

    #[tokio::test]
    async fn a_batch_is_bounded_and_its_failure_is_that_of_all() {
        let store = Arc::new(Store::default());
        let batches = Batches::new(store.clone());
        assert_eq!(
            settled(&batches, 1 + MAX_SIZE as u128 + 3).await,
            MAX_SIZE + 4
        );
        assert_eq!(*store.batches.lock().unwrap(), [1, MAX_SIZE, 3]);
        *store.failures.lock().unwrap() = 2;
        tokio::time::sleep(APART * 2).await;
        assert_eq!(settled(&batches, 5).await, 0);
        assert_eq!(settled(&batches, 1).await, 1);
    }
}

//! How many requests to one webhook the database is asked about at once. While a row of an organization is held, its requests wait in the
//! database, each with a connection: a sender that goes on would soon have all of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kijko_core::error::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

const AT_ONCE: usize = 2;
/// As long as one waits for a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Those who ask or wait, by the webhook.
#[derive(Debug)]
pub(super) struct Lines {
    lines: Mutex<HashMap<Uuid, Arc<Semaphore>>>,
    patience: Duration,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            lines: Mutex::default(),
            patience: PATIENCE,
        }
    }
}

impl Lines {
    /// Waits until this one may ask, which it may until the permit is dropped.
    pub(super) async fn wait(&self, webhook: Uuid) -> Result<OwnedSemaphorePermit, Error> {
        let line = self.of(webhook);
        match tokio::time::timeout(self.patience, line.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Error::Unavailable {
                cause: "other requests to this webhook take too long".to_owned(),
            }),
        }
    }

    fn of(&self, webhook: Uuid) -> Arc<Semaphore> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        // Only this map has those in which nobody is.
        lines.retain(|_, line| Arc::strong_count(line) > 1);
        let line = lines.entry(webhook);
        line.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)))
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_to_one_webhook_wait_and_hold_up_no_other() {
        let lines = Lines {
            patience: Duration::from_millis(50),
            ..Lines::default()
        };
        let [held, free] = [1, 2].map(Uuid::from_u128);
        let mut asking = vec![lines.wait(held).await.unwrap()];
        asking.push(lines.wait(held).await.unwrap());
        assert!(matches!(
            lines.wait(held).await,
            Err(Error::Unavailable { .. })
        ));
        drop(lines.wait(free).await.unwrap());
        asking.pop();
        drop(lines.wait(held).await.unwrap());
        drop(asking);
        drop(lines.of(free));
        lines.of(held);
        assert_eq!(lines.lines.lock().unwrap().len(), 1);
    }
}

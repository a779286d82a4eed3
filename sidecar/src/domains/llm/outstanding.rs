//! Which settlements an organization still waits for. A call ends for its client before it is settled, so the client's next one may
//! be refused for what the former one holds; such a refusal counts only once that is settled.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

#[derive(Debug, Default)]
struct State {
    /// The number of the last settlement that began.
    last: u64,
    running: HashMap<Uuid, BTreeSet<u64>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    ended: Notify,
}

/// The settlements that go on.
#[derive(Debug, Clone, Default)]
pub(super) struct Outstanding(Arc<Shared>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Settling {
    shared: Arc<Shared>,
    organization: Uuid,
    number: u64,
}

/// All of an organization that went on at one time.
#[derive(Debug)]
pub(super) struct Earlier {
    shared: Arc<Shared>,
    organization: Uuid,
    last: u64,
}

impl Outstanding {
    pub(super) fn begin(&self, organization: Uuid) -> Settling {
        let mut state = lock(&self.0);
        state.last += 1;
        let number = state.last;
        let running = state.running.entry(organization).or_default();
        running.insert(number);
        Settling {
            shared: self.0.clone(),
            organization,
            number,
        }
    }

    /// None when there are none.
    pub(super) fn of(&self, organization: Uuid) -> Option<Earlier> {
        let state = lock(&self.0);
        state
            .running
            .contains_key(&organization)
            .then_some(Earlier {
                shared: self.0.clone(),
                organization,
                last: state.last,
            })
    }
}

impl Earlier {
    /// Whether they have ended in time.
    pub(super) async fn ended(self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            let ended = self.shared.ended.notified();
            tokio::pin!(ended);
            // Before looking: what ends in between is not missed.
            ended.as_mut().enable();
            if !self.go_on() {
                return true;
            }
            if timeout_at(end, ended).await.is_err() {
                return !self.go_on();
            }
        }
    }

    fn go_on(&self) -> bool {
        let state = lock(&self.shared);
        let running = state.running.get(&self.organization);
        let first = running.and_then(BTreeSet::first);
        first.is_some_and(|first| *first <= self.last)
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        if let Some(running) = state.running.get_mut(&self.organization) {
            running.remove(&self.number);
            if running.is_empty() {
                state.running.remove(&self.organization);
            }
        }
        drop(state);
        self.shared.ended.notify_waiters();
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn earlier_ones_are_waited_for_and_later_ones_are_not() {
        let outstanding = Outstanding::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let _stranger = outstanding.begin(other);
        assert!(outstanding.of(one).is_none());
        let first = outstanding.begin(one);
        let earlier = outstanding.of(one).unwrap();
        let _later = outstanding.begin(one);
        let waits = tokio::spawn(earlier.ended(Duration::from_secs(20)));
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(first);
        assert!(waits.await.unwrap());
        let late = outstanding.of(one).unwrap();
        assert!(!late.ended(Duration::from_millis(5)).await);
        drop(_later);
        assert!(outstanding.of(one).is_none());
    }
}

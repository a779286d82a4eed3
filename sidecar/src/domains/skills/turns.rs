//! Turns of checks: few run at once, and of one organization only one, so that its slow ones hold up no other's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// Each check that runs has a process of its own.
const MAX_AT_ONCE: usize = 4;

/// Who may run now.
#[derive(Debug)]
pub(super) struct Turns {
    all: Arc<Semaphore>,
    organizations: Mutex<HashMap<Uuid, Arc<Semaphore>>>,
}

/// A turn; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _of_organization: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MAX_AT_ONCE)),
            organizations: Mutex::default(),
        }
    }
}

impl Turns {
    /// Waits for a turn. The organization's own comes first: who waits for it holds no place of the others.
    pub(super) async fn take(&self, organization: Uuid) -> Option<Turn> {
        let own = self.of(organization).acquire_owned().await.ok()?;
        let all = self.all.clone().acquire_owned().await.ok()?;
        Some(Turn {
            _of_organization: own,
            _of_all: all,
        })
    }

    /// Organizations without a turn and without a waiting check are forgotten.
    fn of(&self, organization: Uuid) -> Arc<Semaphore> {
        let organizations = self.organizations.lock();
        let mut organizations = organizations.unwrap_or_else(PoisonError::into_inner);
        organizations.retain(|_, turn| Arc::strong_count(turn) > 1);
        let turn = organizations.entry(organization);
        turn.or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn an_organization_has_one_turn_and_leaves_the_others() {
        let turns = Turns::default();
        let [one, other] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let first = turns.take(one).await.unwrap();
        assert!(turns.take(one).now_or_never().is_none());
        assert!(turns.take(other).now_or_never().flatten().is_some());
        drop(first);
        assert!(turns.take(one).now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn four_run_at_once_and_those_who_ended_are_forgotten() {
        let turns = Turns::default();
        let mut held = Vec::new();
        for n in 0..4 {
            held.push(turns.take(Uuid::from_u128(n)).await.unwrap());
        }
        assert!(turns.take(Uuid::from_u128(4)).now_or_never().is_none());
        held.clear();
        assert!(turns.take(Uuid::from_u128(5)).await.is_some());
        assert_eq!(turns.organizations.lock().unwrap().len(), 1);
    }
}

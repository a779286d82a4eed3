//! Room for what is kept in memory of requests and answers: so much in all, and of it an eighth for each organization, so that one
//! does not keep the others out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use kijko_core::error::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::error::ApiError;

/// How long one waits until others have left room.
const PATIENCE: Duration = Duration::from_secs(10);
/// An organization's part.
const SHARE: usize = 8;
/// The parts of so many organizations are remembered before those that nobody uses are forgotten.
const MAX_KNOWN: usize = 1_024;

/// All of it, in KiB.
#[derive(Debug)]
pub(super) struct Rooms {
    all: Arc<Semaphore>,
    share: usize,
    patience: Duration,
    shares: Mutex<HashMap<Uuid, Weak<Semaphore>>>,
}

/// What one call has of it, until it is dropped.
#[derive(Debug)]
pub(super) struct Room {
    share: usize,
    patience: Duration,
    /// Of the organization first, so that nobody waits for their own share while they keep others waiting.
    of_organization: OwnedSemaphorePermit,
    of_all: OwnedSemaphorePermit,
    bytes: usize,
}

impl Rooms {
    pub(super) fn new(kib: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(kib)),
            share: kib / SHARE,
            patience: PATIENCE,
            shares: Mutex::default(),
        }
    }

    /// Room for nothing yet.
    pub(super) fn enter(&self, organization: Uuid) -> Option<Room> {
        let of_organization = self.of(organization).try_acquire_many_owned(0).ok()?;
        let of_all = self.all.clone().try_acquire_many_owned(0).ok()?;
        Some(Room {
            share: self.share,
            patience: self.patience,
            of_organization,
            of_all,
            bytes: 0,
        })
    }

    fn of(&self, organization: Uuid) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(&organization).and_then(Weak::upgrade) {
            return share;
        }
        if shares.len() >= MAX_KNOWN {
            shares.retain(|_, share| share.strong_count() > 0);
        }
        let share = Arc::new(Semaphore::new(self.share));
        shares.insert(organization, Arc::downgrade(&share));
        share
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.all.available_permits()
    }
}

impl Room {
    /// What is held of all, and of the organization's share.
    pub(super) fn into_permits(self) -> (OwnedSemaphorePermit, OwnedSemaphorePermit) {
        (self.of_all, self.of_organization)
    }

    /// Waits for room for so many bytes more. One call alone gets no more than the share: it can be had.
    pub(super) async fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        self.bytes = self.bytes.saturating_add(bytes);
        let wanted = self.bytes.div_ceil(1_024).min(self.share);
        let more = wanted.saturating_sub(self.of_all.num_permits()) as u32;
        if more == 0 {
            return Ok(());
        }
        let own = self
            .wait(&self.of_organization, more)
            .await
            .ok_or_else(|| ApiError::crowded("large requests"))?;
        let all = self.wait(&self.of_all, more).await.ok_or_else(|| {
            let cause = "too many large requests at once".to_owned();
            ApiError::from(Error::Unavailable { cause })
        })?;
        self.of_organization.merge(own);
        self.of_all.merge(all);
        Ok(())
    }

    async fn wait(&self, held: &OwnedSemaphorePermit, more: u32) -> Option<OwnedSemaphorePermit> {
        let room = held.semaphore().clone().acquire_many_owned(more);
        tokio::time::timeout(self.patience, room).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms() -> Rooms {
        Rooms {
            patience: Duration::from_millis(50),
            ..Rooms::new(8 * 64)
        }
    }

    #[tokio::test]
    async fn an_organization_has_its_share_and_no_more() {
        let rooms = rooms();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut first = rooms.enter(one).unwrap();
        // More than the share counts as the share.
        first.grow(1 << 20).await.unwrap();
        assert_eq!(rooms.free(), 7 * 64);
        let mut second = rooms.enter(one).unwrap();
        assert_eq!(second.grow(1).await.unwrap_err().code, "rate_limited");
        rooms.enter(other).unwrap().grow(64 << 10).await.unwrap();
        drop(first);
        let mut third = rooms.enter(one).unwrap();
        third.grow(1).await.unwrap();
        third.grow(1_023).await.unwrap();
        assert_eq!(rooms.free(), 8 * 64 - 1);
        drop((second, third));
        assert_eq!(rooms.free(), 8 * 64);
    }

    #[tokio::test]
    async fn all_together_have_what_there_is() {
        let rooms = rooms();
        let mut held = Vec::new();
        for organization in 0..8 {
            let mut room = rooms.enter(Uuid::from_u128(organization)).unwrap();
            room.grow(64 << 10).await.unwrap();
            held.push(room);
        }
        let mut late = rooms.enter(Uuid::from_u128(9)).unwrap();
        assert_eq!(late.grow(1).await.unwrap_err().status, 503);
        held.pop();
        late.grow(1).await.unwrap();
    }
}

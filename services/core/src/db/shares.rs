//! How many connections of the pool the jobs of one organization hold.
//!
//! Statements of a job wait while another transaction holds the rows of its organization, a long one or a lock by hand. Without shares,
//! as many such jobs as there are connections would stop all other jobs, requests and heartbeats for as long as statements may take.
//! So an organization's jobs hold as many connections as they leave free, and all jobs together leave one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::telemetry::canonical;

tokio::task_local! {
    static CURRENT: Option<Uuid>;
}

/// Runs `work` for this organization; None: for nobody's share.
pub(crate) async fn on_behalf_of<F: Future>(org: Option<Uuid>, work: F) -> F::Output {
    CURRENT.scope(org, work).await
}

/// Keeps `work`, which a task of its own runs, a part of the job that this task works on: it takes from the same share.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    on_behalf_of(current(), canonical::carried(work))
}

/// For whom this task works, if it is a job's.
pub(super) fn current() -> Option<Uuid> {
    CURRENT.try_with(|org| *org).ok().flatten()
}

/// The shares of a pool.
#[derive(Debug)]
pub(super) struct Shares {
    most: usize,
    held: Mutex<HashMap<Uuid, usize>>,
    freed: Notify,
}

impl Shares {
    /// Of a pool with so many connections.
    pub(super) fn new(connections: usize) -> Self {
        Self {
            most: connections.saturating_sub(1).max(1),
            held: Mutex::default(),
            freed: Notify::new(),
        }
    }

    /// Waits until the organization may hold one more.
    pub(super) async fn take(self: &Arc<Self>, org: Uuid) -> Share {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // From here on, so that none is missed.
            freed.as_mut().enable();
            if self.may_take(org) {
                return Share {
                    shares: self.clone(),
                    org,
                };
            }
            freed.await;
        }
    }

    fn may_take(&self, org: Uuid) -> bool {
        let mut held = self.lock();
        let free = self.most.saturating_sub(held.values().sum());
        let own = held.get(&org).copied().unwrap_or_default();
        let may = own < free;
        if may {
            held.insert(org, own + 1);
        }
        may
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection of an organization's jobs, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    org: Uuid,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.lock();
        if let Some(own) = held.get_mut(&self.org) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.org);
            }
        }
        drop(held);
        self.shares.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn all(shares: &Arc<Shares>, org: u128) -> Vec<Share> {
        let mut taken = Vec::new();
        let brief = Duration::from_millis(20);
        while let Ok(one) = tokio::time::timeout(brief, shares.take(Uuid::from_u128(org))).await {
            taken.push(one);
        }
        taken
    }

    #[tokio::test]
    async fn an_organization_holds_as_many_as_it_leaves_free() {
        let shares = Arc::new(Shares::new(8));
        let (a, b, c) = (
            all(&shares, 1).await,
            all(&shares, 2).await,
            all(&shares, 3).await,
        );
        assert_eq!((a.len(), b.len(), c.len()), (4, 2, 1));
        assert_eq!(
            all(&shares, 4).await.len(),
            0,
            "one is left for what is no job"
        );
        let waiting = tokio::spawn({
            let shares = shares.clone();
            async move { shares.take(Uuid::from_u128(4)).await }
        });
        tokio::task::yield_now().await;
        drop(b);
        waiting.await.unwrap();
        assert_eq!(
            all(&shares, 3).await.len(),
            1,
            "two are free, and it has one"
        );
        drop((a, c));
        assert_eq!(all(&shares, 3).await.len(), 4);
    }

    #[tokio::test]
    async fn a_task_that_a_job_starts_takes_from_its_share() {
        let org = Uuid::from_u128(1);
        let (carried, plain) = on_behalf_of(Some(org), async {
            let carried = tokio::spawn(carried(async { current() }));
            let plain = tokio::spawn(async { current() });
            (carried.await.unwrap(), plain.await.unwrap())
        })
        .await;
        assert_eq!((carried, plain), (Some(org), None));
    }

    #[tokio::test]
    async fn a_pool_of_one_serves_everybody_in_turn() {
        let shares = Arc::new(Shares::new(1));
        for org in 1..4 {
            assert_eq!(all(&shares, org).await.len(), 1);
        }
    }
}

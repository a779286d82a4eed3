//! The jobs that run here: until when each is ours, and how each is stopped.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{queue::Beat, registry::JobClass, slots::Running};

/// Why a running job must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The lease ended or went to another worker: nothing may be written any more.
    LeaseLost,
    /// A user cancelled it.
    Cancelled,
    /// This process stops; another worker runs the job again.
    Shutdown,
}

/// One running job.
#[derive(Debug)]
pub struct Lease {
    /// The job.
    pub id: Uuid,
    class: JobClass,
    until: watch::Sender<Instant>,
    stop: watch::Sender<Option<Stop>>,
    worked: CancellationToken,
    parked: AtomicBool,
    ended: CancellationToken,
}

impl Lease {
    fn new(id: Uuid, class: JobClass, until: Instant) -> Self {
        Self {
            id,
            class,
            until: watch::Sender::new(until),
            stop: watch::Sender::new(None),
            worked: CancellationToken::new(),
            parked: AtomicBool::new(false),
            ended: CancellationToken::new(),
        }
    }

    fn is_parked(&self) -> bool {
        self.parked.load(Ordering::Relaxed)
    }

    /// Until when the job is ours. Measured from before the database was asked, so it is never later than the
    /// end of the lease in the database.
    pub fn until(&self) -> Instant {
        *self.until.borrow()
    }

    /// Tells the job to stop; the first reason counts, except that a lost lease outweighs any other.
    pub fn stop(&self, reason: Stop) {
        self.stop.send_if_modified(|current| {
            let changes =
                current.is_none() || (reason == Stop::LeaseLost && *current != Some(reason));
            if changes {
                *current = Some(reason);
            }
            changes
        });
    }

    /// Waits until the job must stop.
    pub async fn stopped(&self) -> Stop {
        let requested = async {
            match self.stop.subscribe().wait_for(Option::is_some).await {
                Ok(reason) => reason.unwrap_or(Stop::LeaseLost),
                Err(_) => Stop::LeaseLost,
            }
        };
        tokio::select! {
            biased;
            reason = requested => reason,
            () = self.expired() => Stop::LeaseLost,
        }
    }

    /// Waits until the lease is over, however often it is extended meanwhile.
    pub async fn expired(&self) {
        let mut until = self.until.subscribe();
        loop {
            let deadline = *until.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return,
                changed = until.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Applies a heartbeat's answer, from what the database knew after `asked_at`: extended, to be cancelled, or lost.
    pub fn apply(&self, answer: &HashMap<Uuid, Beat>, asked_at: Instant, lease: Duration) {
        let Some(beat) = answer.get(&self.id) else {
            return self.stop(Stop::LeaseLost);
        };
        self.until.send_if_modified(|until| {
            let later = asked_at + lease;
            let extends = beat.extended && later > *until;
            if extends {
                *until = later;
            }
            extends
        });
        if beat.cancel_requested {
            self.stop(Stop::Cancelled);
        }
    }

    /// The work is done: what follows records how it ended.
    pub fn work_ended(&self) {
        self.worked.cancel();
    }

    /// Waits until recording has taken so long.
    pub async fn recorded_for(&self, limit: Duration) {
        self.worked.cancelled().await;
        tokio::time::sleep(limit).await;
    }

    /// Waits until the job has ended here.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

/// The leases of all jobs that run here.
#[derive(Debug, Default)]
pub struct Leases {
    leases: Mutex<HashMap<Uuid, Arc<Lease>>>,
    slot_freed: Notify,
}

impl Leases {
    /// Enters a job that was just claimed. The same job may still be running here from an earlier attempt whose lease
    /// ended unnoticed; that one is stopped and returned, to be waited for.
    pub fn enter(
        &self,
        id: Uuid,
        class: JobClass,
        until: Instant,
    ) -> (Arc<Lease>, Option<Arc<Lease>>) {
        let lease = Arc::new(Lease::new(id, class, until));
        let earlier = self.lock().insert(id, lease.clone());
        if let Some(earlier) = &earlier {
            earlier.stop(Stop::LeaseLost);
        }
        (lease, earlier)
    }

    /// Removes a job that ended, unless a later attempt has taken its place.
    pub fn leave(&self, lease: &Arc<Lease>) {
        lease.ended.cancel();
        let mut leases = self.lock();
        if leases
            .get(&lease.id)
            .is_some_and(|current| Arc::ptr_eq(current, lease))
        {
            leases.remove(&lease.id);
        }
        drop(leases);
        self.slot_freed.notify_one();
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// How many of each class take a slot.
    pub fn running(&self) -> Running {
        let leases = self.lock();
        let each = leases.values().filter(|lease| !lease.is_parked());
        let each = each.map(|lease| lease.class);
        each.fold(Running::default(), Running::and)
    }

    /// A job that only waits to be recorded leaves its slot to another one, unless `most` have done so.
    pub fn park(&self, lease: &Lease, most: usize) {
        let leases = self.lock();
        let parked = leases.values().filter(|lease| lease.is_parked()).count();
        if parked < most {
            lease.parked.store(true, Ordering::Relaxed);
            drop(leases);
            self.slot_freed.notify_one();
        }
    }

    /// Waits until a job has left since the last call.
    pub async fn slot_freed(&self) {
        self.slot_freed.notified().await;
    }

    /// Those that run now.
    pub fn snapshot(&self) -> Vec<Arc<Lease>> {
        self.lock().values().cloned().collect()
    }

    /// Tells every job to stop.
    pub fn stop_all(&self, reason: Stop) {
        self.lock().values().for_each(|lease| lease.stop(reason));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Lease>>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(300);

    const EXTENDED: Beat = Beat {
        cancel_requested: false,
        extended: true,
    };

    #[tokio::test]
    async fn a_lease_ends_by_itself_unless_it_is_extended() {
        let leases = Leases::default();
        let start = Instant::now();
        let (lease, _) = leases.enter(Uuid::from_u128(1), JobClass::Long, start + LEASE);
        tokio::time::sleep(LEASE / 2).await;
        let extended_at = Instant::now();
        lease.apply(&HashMap::from([(lease.id, EXTENDED)]), extended_at, LEASE);
        assert_eq!(lease.stopped().await, Stop::LeaseLost);
        assert!(extended_at.elapsed() >= LEASE);
    }

    #[tokio::test]
    async fn an_old_answer_does_not_shorten_a_lease() {
        let start = Instant::now();
        let (lease, _) = Leases::default().enter(Uuid::from_u128(1), JobClass::Long, start + LEASE);
        lease.apply(&HashMap::from([(lease.id, EXTENDED)]), start, LEASE / 2);
        assert_eq!(lease.until(), start + LEASE);
    }

    #[tokio::test]
    async fn a_job_whose_row_was_held_is_neither_extended_nor_lost() {
        let until = Instant::now() + LEASE;
        let (lease, _) = Leases::default().enter(Uuid::from_u128(1), JobClass::Long, until);
        let held = Beat {
            extended: false,
            ..EXTENDED
        };
        lease.apply(&HashMap::from([(lease.id, held)]), until, LEASE);
        assert_eq!(lease.until(), until);
        assert_eq!(*lease.stop.borrow(), None);
    }

    #[tokio::test]
    async fn a_heartbeat_reports_lost_and_cancelled_jobs() {
        let leases = Leases::default();
        let until = Instant::now() + LEASE;
        let [lost, cancelled] =
            [1, 2].map(|n| leases.enter(Uuid::from_u128(n), JobClass::Long, until).0);
        let answer = HashMap::from([(
            cancelled.id,
            Beat {
                cancel_requested: true,
                ..EXTENDED
            },
        )]);
        leases
            .snapshot()
            .iter()
            .for_each(|lease| lease.apply(&answer, Instant::now(), LEASE));
        assert_eq!(
            (lost.stopped().await, cancelled.stopped().await),
            (Stop::LeaseLost, Stop::Cancelled)
        );
    }

    #[tokio::test]
    async fn a_second_attempt_stops_the_first_and_outlives_its_leaving() {
        let leases = Leases::default();
        let until = Instant::now() + LEASE;
        let (first, none) = leases.enter(Uuid::from_u128(1), JobClass::Long, until);
        assert!(none.is_none());
        let (_second, earlier) = leases.enter(Uuid::from_u128(1), JobClass::Long, until);
        assert_eq!(earlier.unwrap().stopped().await, Stop::LeaseLost);
        leases.leave(&first);
        first.ended().await;
        assert_eq!(leases.count(), 1);
    }

    #[tokio::test]
    async fn a_job_that_waits_to_be_recorded_leaves_its_slot() {
        let leases = Leases::default();
        let until = Instant::now() + LEASE;
        let [first, second] =
            [1, 2].map(|n| leases.enter(Uuid::from_u128(n), JobClass::Long, until).0);
        let taken = || (leases.running().long, leases.count());
        first.work_ended();
        first.recorded_for(Duration::ZERO).await;
        leases.park(&first, 1);
        assert_eq!(taken(), (1, 2));
        leases.park(&second, 1);
        assert_eq!(taken(), (1, 2), "no more than one may");
        leases.leave(&first);
        leases.park(&second, 1);
        assert_eq!(taken(), (0, 1));
    }

    #[tokio::test]
    async fn a_lost_lease_outweighs_a_cancellation_but_not_the_other_way_round() {
        let (lease, _) =
            Leases::default().enter(Uuid::from_u128(1), JobClass::Long, Instant::now() + LEASE);
        lease.stop(Stop::Cancelled);
        lease.stop(Stop::Shutdown);
        assert_eq!(lease.stopped().await, Stop::Cancelled);
        lease.stop(Stop::LeaseLost);
        lease.stop(Stop::Cancelled);
        assert_eq!(lease.stopped().await, Stop::LeaseLost);
    }
}

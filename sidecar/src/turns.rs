//! Turns of checks and renderings that somebody waits for. Few run at once, and of one organization only one. So that no number of
//! organizations with slow templates keeps another one out for long:
//!
//! 1. Those who wait are served by how much time the checks of their organization took lately, the least first.
//! 2. A check may take its time while nobody waits. It is stopped once it has had its share and an organization waits whose checks
//!    took less lately. So on a busy machine, those with slow templates never stop an ordinary one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use uuid::Uuid;

/// A check waits this long for its turn.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// Each check that runs has a process of its own.
const MAX_AT_ONCE: usize = 4;

/// What a check may take while others wait. An ordinary one takes milliseconds.
const SHARE: Duration = Duration::from_millis(500);

/// Time that was taken is forgiven at a tenth of the clock's pace: 5 seconds within 50.
const FORGIVEN: f64 = 0.1;

/// So many checks of an organization wait by default; the next one is refused at once.
pub(crate) const MAX_WAITING: usize = 16;

/// Who runs and who waits.
#[derive(Debug)]
pub(crate) struct Turns {
    max_waiting: usize,
    state: Arc<Mutex<State>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self::new(MAX_WAITING)
    }
}

#[derive(Debug)]
struct State {
    running: Vec<Uuid>,
    waiting: Vec<Waiting>,
    taken: HashMap<Uuid, Taken>,
    /// Time that the next organization in line has taken. None: nobody waits for a free place.
    next_took: watch::Sender<Option<Duration>>,
}

#[derive(Debug)]
struct Waiting {
    organization: Uuid,
    turn: oneshot::Sender<Turn>,
}

/// The time that an organization's checks took, as of a moment.
#[derive(Debug, Clone, Copy)]
struct Taken {
    seconds: f64,
    at: Instant,
}

/// A turn; it ends when it is dropped.
#[derive(Debug)]
struct Turn {
    organization: Uuid,
    since: Instant,
    /// What its organization took before.
    took: Duration,
    next_took: watch::Receiver<Option<Duration>>,
    state: Arc<Mutex<State>>,
}

impl Turns {
    /// Of an organization so many wait.
    pub(crate) fn new(max_waiting: usize) -> Self {
        Self {
            max_waiting,
            state: Arc::default(),
        }
    }

    /// Does something when it is the organization's turn. `None` when there was no turn, or its share of the time was over while
    /// others waited: dropping the work kills its process.
    pub(crate) async fn run<T>(
        &self,
        organization: Uuid,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let turn = tokio::time::timeout(MAX_WAIT, self.take(organization)).await;
        let turn = turn.ok().flatten()?;
        tokio::select! {
            done = work => Some(done),
            () = turn.overdue() => None,
        }
    }

    /// Waits for a turn. `None` when too many checks of the organization wait already.
    async fn take(&self, organization: Uuid) -> Option<Turn> {
        // Declared before the receiver, so dropped after it: then `serve` no longer counts this caller.
        let _waiter = Waiter(&self.state);
        let (turn, served) = oneshot::channel();
        {
            let mut state = lock(&self.state);
            state.waiting.retain(|it| !it.turn.is_closed());
            let own = |it: &&Waiting| it.organization == organization;
            if state.waiting.iter().filter(own).count() >= self.max_waiting {
                return None;
            }
            state.waiting.push(Waiting { organization, turn });
        }
        serve(&self.state);
        served.await.ok()
    }
}

/// A caller that waits for a turn. Once it gives up, no check is stopped for it.
struct Waiter<'a>(&'a Arc<Mutex<State>>);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        serve(self.0);
    }
}

impl Turn {
    /// Waits until the turn has lasted for its share, and its organization has taken more than the one that is next.
    async fn overdue(&self) {
        let mut next_took = self.next_took.clone();
        loop {
            let next = *next_took.borrow_and_update();
            let due = async {
                match next {
                    Some(next) => {
                        let share = SHARE.max(next.saturating_sub(self.took));
                        tokio::time::sleep_until(self.since + share).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => return,
                // The sender lives in the state that this turn holds.
                _ = next_took.changed() => {}
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.state).end(self.organization, self.since, Instant::now());
        serve(&self.state);
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            running: Vec::new(),
            waiting: Vec::new(),
            taken: HashMap::new(),
            next_took: watch::Sender::new(None),
        }
    }
}

impl State {
    fn end(&mut self, organization: Uuid, since: Instant, now: Instant) {
        if let Some(at) = self.running.iter().position(|it| *it == organization) {
            self.running.swap_remove(at);
        }
        let seconds = self.taken(organization, now) + (now - since).as_secs_f64();
        self.taken.insert(organization, Taken { seconds, at: now });
        self.taken.retain(|_, taken| taken.left(now) > 0.0);
    }

    fn taken(&self, organization: Uuid, now: Instant) -> f64 {
        self.taken.get(&organization).map_or(0.0, |it| it.left(now))
    }

    /// Removes the one whose turn is next, if there is a place.
    fn next(&mut self, now: Instant) -> Option<Waiting> {
        self.waiting.retain(|it| !it.turn.is_closed());
        let could_run = |it: &Waiting| !self.running.contains(&it.organization);
        let candidates = self.waiting.iter().enumerate();
        let next = candidates
            .filter(|(_, it)| could_run(it))
            .map(|(at, it)| (at, self.taken(it.organization, now)))
            // Of equals, the one that came first.
            .min_by(|(_, one), (_, other)| one.total_cmp(other));
        let place = self.running.len() < MAX_AT_ONCE;
        let without_place = next.filter(|_| !place);
        let took = without_place.map(|(_, seconds)| Duration::from_secs_f64(seconds));
        self.next_took
            .send_if_modified(|next_took| std::mem::replace(next_took, took) != took);
        next.filter(|_| place)
            .map(|(at, _)| self.waiting.remove(at))
    }
}

impl Taken {
    fn left(self, now: Instant) -> f64 {
        (self.seconds - (now - self.at).as_secs_f64() * FORGIVEN).max(0.0)
    }
}

/// Gives the places that are free. Turns are sent without the lock: one whose receiver is gone ends at once, and takes it.
fn serve(state: &Arc<Mutex<State>>) {
    loop {
        let now = Instant::now();
        let (next, took, next_took) = {
            let mut state = lock(state);
            let Some(next) = state.next(now) else { return };
            state.running.push(next.organization);
            let took = Duration::from_secs_f64(state.taken(next.organization, now));
            (next, took, state.next_took.subscribe())
        };
        let turn = Turn {
            organization: next.organization,
            since: now,
            took,
            next_took,
            state: state.clone(),
        };
        drop(next.turn.send(turn));
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;

    fn organization(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    async fn fill(turns: &Turns) -> Vec<Turn> {
        let mut held = Vec::new();
        for n in 0..MAX_AT_ONCE as u128 {
            held.push(turns.take(organization(n)).await.unwrap());
        }
        held
    }

    #[tokio::test]
    async fn an_organization_has_one_turn_and_leaves_the_others() {
        let turns = Turns::default();
        let [one, other] = [1, 2].map(organization);
        let first = turns.take(one).await.unwrap();
        assert!(turns.take(one).now_or_never().is_none());
        assert!(turns.take(other).now_or_never().flatten().is_some());
        drop(first);
        assert!(turns.take(one).now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn four_run_at_once_and_those_who_gave_up_hold_no_place() {
        let turns = Turns::default();
        let held = fill(&turns).await;
        assert!(turns.take(organization(9)).now_or_never().is_none());
        drop(held);
        for n in 10..14 {
            assert!(
                turns
                    .take(organization(n))
                    .now_or_never()
                    .flatten()
                    .is_some()
            );
        }
        assert!(lock(&turns.state).running.is_empty());
    }

    #[tokio::test]
    async fn who_took_the_least_is_next() {
        let turns = Arc::new(Turns::default());
        let held = fill(&turns).await;
        let now = Instant::now();
        let taken = Taken {
            seconds: 3.0,
            at: now,
        };
        lock(&turns.state).taken.insert(organization(7), taken);
        let wait = |n| {
            let turns = turns.clone();
            tokio::spawn(async move { turns.take(organization(n)).await })
        };
        // 7 waits first, and 9 is served first.
        let slow = wait(7);
        tokio::task::yield_now().await;
        let quick = wait(9);
        tokio::task::yield_now().await;
        drop(held.into_iter().next());
        let quick = quick.await.unwrap().unwrap();
        assert_eq!(quick.organization, organization(9));
        let slow = slow.await.unwrap().unwrap();
        assert_eq!(slow.organization, organization(7));
    }

    #[test]
    fn time_that_was_taken_is_forgiven() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut state = State::default();
        state.end(organization(1), start, after(5));
        assert!((state.taken(organization(1), after(5)) - 5.0).abs() < 0.001);
        assert!((state.taken(organization(1), after(15)) - 4.0).abs() < 0.001);
        state.end(organization(1), after(15), after(17));
        assert!((state.taken(organization(1), after(17)) - 5.8).abs() < 0.001);
        state.end(organization(2), after(100), after(100));
        assert!(state.taken.is_empty(), "nothing is left to be kept");
    }

    #[tokio::test]
    async fn a_check_is_stopped_only_while_somebody_waits() {
        let turns = Arc::new(Turns::default());
        let held = fill(&turns).await;
        let overdue = |wait: Duration| tokio::time::timeout(wait, held[0].overdue());
        assert!(overdue(2 * SHARE).await.is_err(), "nobody waits");
        let waiting = {
            let turns = turns.clone();
            tokio::spawn(async move { turns.take(organization(9)).await })
        };
        overdue(Duration::from_secs(20)).await.unwrap();
        // One more of an organization that runs waits for that one, and stops no other's.
        drop(held);
        let turn = waiting.await.unwrap().unwrap();
        let again = {
            let turns = turns.clone();
            tokio::spawn(async move { turns.take(organization(9)).await })
        };
        let stopped = tokio::time::timeout(2 * SHARE, turn.overdue()).await;
        assert!(stopped.is_err());
        drop(turn);
        assert!(again.await.unwrap().is_some());
    }

    #[tokio::test]
    async fn those_who_took_more_stop_nobody() {
        let turns = Arc::new(Turns::default());
        for (n, seconds) in [(0, 70.0), (9, 60.0)] {
            let at = Instant::now();
            let taken = Taken { seconds, at };
            lock(&turns.state).taken.insert(organization(n), taken);
        }
        let held = fill(&turns).await;
        let waiting = {
            let turns = turns.clone();
            tokio::spawn(async move { turns.take(organization(9)).await })
        };
        held[0].overdue().await;
        let overdue = tokio::time::timeout(2 * SHARE, held[1].overdue());
        assert!(overdue.await.is_err());
        waiting.abort();
        assert!(waiting.await.is_err());
        let overdue = tokio::time::timeout(2 * SHARE, held[0].overdue());
        assert!(overdue.await.is_err(), "who gave up stops nobody");
    }

    #[tokio::test]
    async fn an_organization_cannot_fill_the_queue() {
        let turns = Turns::default();
        let _turn = turns.take(organization(1)).await.unwrap();
        let mut waiting = Vec::new();
        for _ in 0..MAX_WAITING {
            let mut one = Box::pin(turns.take(organization(1)));
            assert!(one.as_mut().now_or_never().is_none());
            waiting.push(one);
        }
        assert!(matches!(
            turns.take(organization(1)).now_or_never(),
            Some(None)
        ));
        assert!(
            turns
                .take(organization(2))
                .now_or_never()
                .flatten()
                .is_some()
        );
        waiting.clear();
        assert!(turns.take(organization(1)).now_or_never().is_none());
    }
}

//! Whether shared memory holds all revoked sessions of a database. Pure, but for being shared.
//!
//! A scope is a table kijko.revoked_sessions: a copied database and an extension that was made anew have others. Whoever
//! revokes a session inserts it after the commit, in whatever state the scope is. A loader makes the scope loading, empties
//! it, and only then takes the snapshot that it reads by: what was committed before is in the snapshot, what is committed
//! later is inserted by its transaction. Anything that takes a session back makes the scope empty again, and so stops a
//! load that is under way: the state's version tells.

use std::sync::atomic::{AtomicU64, Ordering};

/// Databases with the extension; beyond that the table is asked.
pub const SCOPES: usize = 16;

const EMPTY: u64 = 0;
const LOADING: u64 = 1;
const READY: u64 = 2;
/// Not all of them fit. The table is asked until the state is looked at again.
const FULL: u64 = 3;
const STATUS: u64 = 3;
const VERSION: u64 = 4;

#[repr(C)]
pub struct Scope {
    /// Database and table; zero is nobody's.
    id: AtomicU64,
    state: AtomicU64,
    /// When it was full, Postgres microseconds.
    full_at: AtomicU64,
}

/// A load that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loading(u64);

/// For how long a full table is not tried again.
const FULL_FOR: u64 = 60_000_000;

/// The place of a scope, taken if it has none; None when there is none left.
pub fn find(scopes: &[Scope; SCOPES], id: u64) -> Option<usize> {
    scopes.iter().position(|scope| {
        scope.id.load(Ordering::Acquire) == id
            || match scope
                .id
                .compare_exchange(0, id, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => true,
                Err(other) => other == id,
            }
    })
}

impl Scope {
    pub fn is_ready(&self) -> bool {
        self.state.load(Ordering::Acquire) & STATUS == READY
    }

    /// Begins a load, unless somebody else does, or it would not fit.
    pub fn begin(&self, now: u64) -> Option<Loading> {
        let state = self.state.load(Ordering::Acquire);
        let again = now.saturating_sub(self.full_at.load(Ordering::Acquire)) > FULL_FOR;
        if !(state & STATUS == EMPTY || state & STATUS == FULL && again) {
            return None;
        }
        let loading = state & !STATUS | LOADING;
        self.state
            .compare_exchange(state, loading, Ordering::AcqRel, Ordering::Acquire)
            .ok()
            .map(|_| Loading(loading))
    }

    /// Everything is here, unless something was taken back meanwhile.
    pub fn publish(&self, Loading(loading): Loading) {
        self.end(loading, loading & !STATUS | READY);
    }

    /// The load failed.
    pub fn abandon(&self, Loading(loading): Loading) {
        self.end(loading, loading & !STATUS | EMPTY);
    }

    fn end(&self, loading: u64, state: u64) {
        // Another version has begun: this load's outcome is of no interest.
        let _ = self
            .state
            .compare_exchange(loading, state, Ordering::AcqRel, Ordering::Acquire);
    }

    /// What is here is not right any more.
    pub fn invalidate(&self) {
        self.change(EMPTY);
    }

    /// One of them is not here, and does not fit.
    pub fn overflow(&self, now: u64) {
        self.full_at.store(now, Ordering::Release);
        self.change(FULL);
    }

    fn change(&self, status: u64) {
        let mut state = self.state.load(Ordering::Acquire);
        while let Err(other) = self.state.compare_exchange(
            state,
            (state & !STATUS).wrapping_add(VERSION) | status,
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            state = other;
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn scope() -> Scope {
        Scope {
            id: AtomicU64::new(0),
            state: AtomicU64::new(0),
            full_at: AtomicU64::new(0),
        }
    }

    #[test]
    fn one_loads_and_then_all_is_here() {
        let scope = scope();
        let loading = scope.begin(1).unwrap();
        assert_eq!(scope.begin(1), None);
        assert!(!scope.is_ready());
        scope.publish(loading);
        assert!(scope.is_ready());
        assert_eq!(scope.begin(1), None);
    }

    #[test]
    fn what_is_taken_back_during_a_load_stops_it() {
        let scope = scope();
        let loading = scope.begin(1).unwrap();
        scope.invalidate();
        let again = scope.begin(1).unwrap();
        scope.publish(loading);
        assert!(!scope.is_ready());
        scope.abandon(loading);
        scope.publish(again);
        assert!(scope.is_ready());
    }

    #[test]
    fn a_failed_load_leaves_it_empty() {
        let scope = scope();
        let loading = scope.begin(1).unwrap();
        scope.abandon(loading);
        assert!(!scope.is_ready());
        assert!(scope.begin(1).is_some());
    }

    #[test]
    fn what_does_not_fit_is_tried_again_after_a_minute() {
        let scope = scope();
        let loading = scope.begin(1).unwrap();
        scope.overflow(1);
        scope.publish(loading);
        assert!(!scope.is_ready());
        assert_eq!(scope.begin(60_000_001), None);
        assert!(scope.begin(60_000_002).is_some());
    }

    #[test]
    fn each_database_has_its_own_place() {
        let scopes = std::array::from_fn(|_| scope());
        assert_eq!(find(&scopes, 7), Some(0));
        assert_eq!(find(&scopes, 8), Some(1));
        assert_eq!(find(&scopes, 7), Some(0));
        assert_eq!((9..23).filter_map(|id| find(&scopes, id)).count(), 14);
        assert_eq!(find(&scopes, 99), None);
    }
}

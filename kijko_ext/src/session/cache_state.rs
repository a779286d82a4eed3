//! Whether shared memory holds all revoked sessions of a database. Pure, but for being shared.
//!
//! Each table kijko.revoked_sessions has a state of its own, so a copied database or an extension that was dropped and created
//! again has another. A transaction that revokes a session inserts it into the cache after its commit, whatever the state is.
//! A loader marks the state as loading, empties the cache, and only then takes the snapshot that it reads with. That snapshot
//! has what was committed before; what is committed later is inserted by its own transaction. A restored session resets the
//! state to empty and raises its version, which makes a load in progress fail.

use std::sync::atomic::{AtomicU64, Ordering};

/// Databases with the extension. Any further one reads its table instead.
pub const MAX_TABLES: usize = 16;

const EMPTY: u64 = 0;
const LOADING: u64 = 1;
const READY: u64 = 2;
/// Not all sessions fit. The table is read instead, and after a while a load is tried again.
const FULL: u64 = 3;
const STATUS: u64 = 3;
const VERSION: u64 = 4;

#[repr(C)]
pub struct CacheState {
    /// Database and table; zero while unused.
    id: AtomicU64,
    state: AtomicU64,
    /// When it was full, Postgres microseconds.
    full_at: AtomicU64,
}

/// A load in progress: the state as it was marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loading(u64);

/// How long a full cache is not loaded again, in microseconds.
const FULL_RELOAD_DELAY: u64 = 60_000_000;

/// The index of a table's state, which is assigned at the first call. None when all are in use.
pub fn find(states: &[CacheState; MAX_TABLES], id: u64) -> Option<usize> {
    states.iter().position(|state| {
        state.id.load(Ordering::Acquire) == id
            || match state
                .id
                .compare_exchange(0, id, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => true,
                Err(other) => other == id,
            }
    })
}

impl CacheState {
    pub fn is_ready(&self) -> bool {
        self.state.load(Ordering::Acquire) & STATUS == READY
    }

    /// Begins a load. None while another one is in progress, or when the sessions did not fit a short time ago.
    pub fn begin(&self, now: u64) -> Option<Loading> {
        let state = self.state.load(Ordering::Acquire);
        let again = now.saturating_sub(self.full_at.load(Ordering::Acquire)) > FULL_RELOAD_DELAY;
        if !(state & STATUS == EMPTY || state & STATUS == FULL && again) {
            return None;
        }
        let loading = state & !STATUS | LOADING;
        self.state
            .compare_exchange(state, loading, Ordering::AcqRel, Ordering::Acquire)
            .ok()
            .map(|_| Loading(loading))
    }

    /// Ends a load: all sessions are in the cache, unless one was restored meanwhile.
    pub fn publish(&self, Loading(loading): Loading) {
        self.end(loading, loading & !STATUS | READY);
    }

    /// Ends a load that failed.
    pub fn abandon(&self, Loading(loading): Loading) {
        self.end(loading, loading & !STATUS | EMPTY);
    }

    fn end(&self, loading: u64, state: u64) {
        // When it fails, another version has begun, and the result of this load does not count.
        let _ = self
            .state
            .compare_exchange(loading, state, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The cache has to be loaded again.
    pub fn invalidate(&self) {
        self.change(EMPTY);
    }

    /// A session did not fit.
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

    fn state() -> CacheState {
        CacheState {
            id: AtomicU64::new(0),
            state: AtomicU64::new(0),
            full_at: AtomicU64::new(0),
        }
    }

    #[test]
    fn one_backend_loads_at_a_time() {
        let state = state();
        let loading = state.begin(1).unwrap();
        assert_eq!(state.begin(1), None);
        assert!(!state.is_ready());
        state.publish(loading);
        assert!(state.is_ready());
        assert_eq!(state.begin(1), None);
    }

    #[test]
    fn a_session_restored_during_a_load_stops_it() {
        let state = state();
        let loading = state.begin(1).unwrap();
        state.invalidate();
        let again = state.begin(1).unwrap();
        state.publish(loading);
        assert!(!state.is_ready());
        state.abandon(loading);
        state.publish(again);
        assert!(state.is_ready());
    }

    #[test]
    fn a_failed_load_leaves_it_empty() {
        let state = state();
        let loading = state.begin(1).unwrap();
        state.abandon(loading);
        assert!(!state.is_ready());
        assert!(state.begin(1).is_some());
    }

    #[test]
    fn a_full_cache_is_loaded_again_after_a_minute() {
        let state = state();
        let loading = state.begin(1).unwrap();
        state.overflow(1);
        state.publish(loading);
        assert!(!state.is_ready());
        assert_eq!(state.begin(60_000_001), None);
        assert!(state.begin(60_000_002).is_some());
    }

    #[test]
    fn each_table_has_its_own_state() {
        let states = std::array::from_fn(|_| state());
        assert_eq!(find(&states, 7), Some(0));
        assert_eq!(find(&states, 8), Some(1));
        assert_eq!(find(&states, 7), Some(0));
        assert_eq!((9..23).filter_map(|id| find(&states, id)).count(), 14);
        assert_eq!(find(&states, 99), None);
    }
}

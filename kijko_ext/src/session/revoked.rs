//! Whether a session is revoked. Shared memory answers when it holds all revoked sessions, else the table. A trigger passes
//! what a transaction revokes to shared memory after its commit. Until then that transaction reads the table, which has its
//! own changes, and so do its parallel workers.

use std::ops::ControlFlow;

use pgrx::prelude::*;

use super::cache_state::{self, Loading};
use super::revocation_cache;
use crate::clock;
use crate::pg::query;
use crate::pg::scan::{self, ScanKey, Tuple};
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::pg::trigger;
use crate::pg::xact::{PerTransaction, XactCallbacks};

sql_function!(
    kijko_session_changed,
    pg_finfo_kijko_session_changed,
    session_changed
);

/// Columns of kijko.revoked_sessions.
const SESSION_ID: i32 = 1;
const EXPIRES_AT: i32 = 3;

/// What a transaction changed in the table.
enum Change {
    Revoked([u8; 16], i64),
    /// One session or more were restored.
    Other,
}

struct State {
    changes: Vec<(Change, usize, pg_sys::SubTransactionId)>,
    loading: Option<(usize, Loading)>,
}

static STATE: PerTransaction<State> = PerTransaction::new(State {
    changes: Vec::new(),
    loading: None,
});

pub fn is_revoked(session: &[u8; 16]) -> bool {
    let Some(relation) = query::find_table(c"revoked_sessions") else {
        return true; // a damaged installation must not let a revoked session pass
    };
    if !may_have_changed()
        && let Some(index) = ready(relation)
    {
        return revocation_cache::contains(index, session, clock::real_micros());
    }
    in_table(relation, session).is_some_and(|until| until > clock::real_micros())
}

/// Whether this transaction may have changed the table. A parallel worker does not have the leader's list of changes, but its
/// transaction id: a leader without one has written nothing.
fn may_have_changed() -> bool {
    // SAFETY: reads variables.
    let wrote_as_leader = unsafe {
        pg_sys::ParallelWorkerNumber >= 0
            && pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId
    };
    wrote_as_leader || STATE.with(|state| !state.changes.is_empty())
}

fn state_index(relation: pg_sys::Oid) -> Option<usize> {
    // SAFETY: set before any query runs.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
    let id = u64::from(database) << 32 | u64::from(relation.to_u32());
    cache_state::find(revocation_cache::states(), id)
}

/// The index of the table's state, if shared memory holds all its sessions. Loads them if it does not.
fn ready(relation: pg_sys::Oid) -> Option<usize> {
    let index = state_index(relation)?;
    // SAFETY: plain look-ups. On a standby, rows are replicated without triggers.
    let usable = || unsafe { !pg_sys::RecoveryInProgress() && !pg_sys::IsInParallelMode() };
    if revocation_cache::states()[index].is_ready() || usable() && load(relation, index) {
        return Some(index);
    }
    None
}

fn load(relation: pg_sys::Oid, index: usize) -> bool {
    let now = clock::real_micros();
    let state = &revocation_cache::states()[index];
    let Some(loading) = state.begin(now as u64) else {
        return false;
    };
    // An error from here on gives it back.
    STATE.with_registered(|state| state.loading = Some((index, loading)));
    revocation_cache::clear(index);
    let fits = insert_all(relation, index, now);
    STATE.with(|state| state.loading = None);
    if fits {
        state.publish(loading);
    } else {
        state.overflow(now as u64);
    }
    state.is_ready()
}

/// False when not all sessions fit.
fn insert_all(relation: pg_sys::Oid, index: usize, now: i64) -> bool {
    let mut fits = true;
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: reads every row of the table, which is open meanwhile.
    scan::with_latest_snapshot(|snapshot| unsafe {
        let table = pg_sys::table_open(relation, lock);
        scan::visit(table, None, &[], snapshot, |tuple| {
            let (session, until) = columns(tuple);
            fits = revocation_cache::insert(index, &session, until, now);
            match fits {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        pg_sys::table_close(table, lock);
    });
    fits
}

/// Until when the session is revoked, by the table.
fn in_table(relation: pg_sys::Oid, session: &[u8; 16]) -> Option<i64> {
    let read = |row: &Tuple| row.integer(EXPIRES_AT);
    // SAFETY: the primary key is of type uuid; every statement has an active snapshot.
    unsafe {
        let snapshot = pg_sys::GetActiveSnapshot();
        let key = ScanKey::new(SESSION_ID as i16, session);
        scan::find(relation, &[key], snapshot, read).flatten()
    }
}

/// The trigger on kijko.revoked_sessions: for each row, and for each statement that truncates.
fn session_changed(arguments: Arguments) -> Answer {
    // SAFETY: called as a trigger, whose context is its data.
    unsafe {
        let data = trigger::data(arguments, "kijko.session_changed");
        let relation = (*(*data).tg_relation).rd_id;
        let describe = |tuple| row(tuple, (*(*data).tg_relation).rd_att);
        let now = clock::real_micros();
        let event = (*data).tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
        let for_row = (*data).tg_event & pg_sys::TRIGGER_EVENT_ROW != 0;
        let changes = match event {
            pg_sys::TRIGGER_EVENT_INSERT if for_row => {
                let (session, until) = describe((*data).tg_trigtuple);
                Some(Change::Revoked(session, until))
            }
            pg_sys::TRIGGER_EVENT_UPDATE if for_row => {
                let (former, _) = describe((*data).tg_trigtuple);
                let (session, until) = describe((*data).tg_newtuple);
                Some(if former == session {
                    Change::Revoked(session, until)
                } else {
                    Change::Other
                })
            }
            // No token of an expired session is valid, and its slot is free already.
            pg_sys::TRIGGER_EVENT_DELETE if for_row && describe((*data).tg_trigtuple).1 < now => {
                None
            }
            _ => Some(Change::Other),
        };
        if let (Some(change), Some(index)) = (changes, state_index(relation)) {
            let subtransaction = pg_sys::GetCurrentSubTransactionId();
            STATE.with_registered(|state| state.changes.push((change, index, subtransaction)));
        }
    }
    Ok(pg_sys::Datum::null()) // the result of an AFTER trigger is ignored
}

unsafe fn row(tuple: pg_sys::HeapTuple, descriptor: pg_sys::TupleDesc) -> ([u8; 16], i64) {
    columns(&unsafe { Tuple::new(tuple, descriptor) })
}

fn columns(row: &Tuple) -> ([u8; 16], i64) {
    // Neither is null.
    (
        row.uuid(SESSION_ID).unwrap_or_default(),
        row.integer(EXPIRES_AT).unwrap_or(i64::MAX),
    )
}

impl State {
    fn abandon(&mut self) {
        if let Some((index, loading)) = self.loading.take() {
            revocation_cache::states()[index].abandon(loading);
        }
    }
}

impl XactCallbacks for State {
    fn commit(&mut self) {
        let now = clock::real_micros();
        for (change, index, _) in self.changes.drain(..) {
            let state = &revocation_cache::states()[index];
            match change {
                Change::Revoked(session, until)
                    if revocation_cache::insert(index, &session, until, now) => {}
                Change::Revoked(..) => state.overflow(now as u64),
                Change::Other => state.invalidate(),
            }
        }
        self.changes.shrink_to(1024);
    }

    fn abort(&mut self, first: pg_sys::SubTransactionId) {
        self.changes.retain(|change| change.2 < first);
        self.abandon();
    }

    fn merge_into_parent(
        &mut self,
        child: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
    ) {
        for change in self.changes.iter_mut().filter(|change| change.2 == child) {
            change.2 = parent;
        }
    }

    fn prepare_error(&self) -> Option<&'static str> {
        (!self.changes.is_empty())
            .then_some("cannot PREPARE a transaction that has revoked a session of kijko")
    }
}

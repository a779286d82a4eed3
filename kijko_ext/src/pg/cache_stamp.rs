//! Whether what this backend has cached of a table is still true.
//!
//! A change of a row sends an invalidation message of Postgres: with the commit, before the commit returns, to every backend;
//! also on standbys and for prepared transactions. Such messages carry a relation, or the hash of a row of a catalog. These
//! carry the hash of a cast that does not exist, between a kind and a group of subjects, so a change of one tenant leaves the
//! caches of most others alone, and no table is needed for each group. pg_cast has one system cache, whose rows are few.
//!
//! A backend stamps what it caches with a number that grows. It is valid while its group was not invalidated since. The stamp is
//! taken before the snapshot that is read with: a change which that snapshot does not see commits later, and its message raises
//! the group above the stamp.
//!
//! A transaction's own changes count at once, and again if they are rolled back. It sends one message for each group.

use std::cell::{Cell, RefCell};
use std::mem::size_of;

use pgrx::prelude::*;

use super::query;
use super::xact::{PerTransaction, XactCallbacks};

/// The groups that subjects are hashed into.
const GROUPS: usize = 64;

/// What is cached. Kinds without subjects have one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    Limits,
    Tiers,
    ApiKeys,
    Memberships,
    RateLimitPolicies,
    StatementTimeouts,
    LedgerPartitions,
    Issuers,
}

const KINDS: [(&str, CacheKind); 8] = [
    ("limits", CacheKind::Limits),
    ("tiers", CacheKind::Tiers),
    ("api_keys", CacheKind::ApiKeys),
    ("memberships", CacheKind::Memberships),
    ("rate_limit_policies", CacheKind::RateLimitPolicies),
    ("statement_timeouts", CacheKind::StatementTimeouts),
    ("ledger_partitions", CacheKind::LedgerPartitions),
    ("issuers", CacheKind::Issuers),
];

/// A bit for each group of each kind.
type Groups = [u64; KINDS.len()];

const NOTHING: Groups = [0; KINDS.len()];
const EVERYTHING: Groups = [u64::MAX; KINDS.len()];

#[derive(Clone, Copy)]
pub struct Group {
    kind: usize,
    group: usize,
}

impl CacheKind {
    pub fn parse(name: &str) -> Option<Self> {
        KINDS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| *kind)
    }

    pub const fn whole(self) -> Group {
        Group {
            kind: self as usize,
            group: 0,
        }
    }

    /// The group of a subject. Ids are random at their end, or hashes.
    pub fn of(self, subject: &[u8; 16]) -> Group {
        let folded = subject.iter().fold(0_u8, |folded, byte| folded ^ byte);
        Group {
            kind: self as usize,
            group: usize::from(folded) % GROUPS,
        }
    }
}

struct Stamps {
    /// Grows with each invalidation.
    last: Cell<u64>,
    /// When each group was invalidated last. Nothing is valid under the stamp 0.
    invalidated: [[Cell<u64>; GROUPS]; KINDS.len()],
    /// The hash in the message of each group. Empty before this backend caches anything.
    hashes: RefCell<Vec<u32>>,
    /// What this transaction changed in its current command, and that command. Whoever reads before the next command may not
    /// see the change yet.
    unseen: Cell<(Groups, pg_sys::CommandId)>,
    /// Changes of these make everything read again: dropped tables, and partitions of the ledger.
    tables: Cell<[pg_sys::Oid; 2]>,
}

thread_local! {
    static STAMPS: Stamps = const { Stamps {
        last: Cell::new(1),
        invalidated: [const { [const { Cell::new(1) }; GROUPS] }; KINDS.len()],
        hashes: RefCell::new(Vec::new()),
        unseen: Cell::new((NOTHING, 0)),
        tables: Cell::new([pg_sys::InvalidOid; 2]),
    } };
}

/// The stamp of what is read from now on.
pub fn take() -> u64 {
    let tables = [query::table(c"cache_changes"), query::table(c"ledger")];
    STAMPS.with(|stamps| {
        if stamps.hashes.borrow().is_empty() {
            stamps.hashes.replace(hashes());
            let none = pg_sys::Datum::null();
            // SAFETY: both callbacks are guarded and live as long as the library.
            unsafe {
                let cache = pg_sys::SysCacheIdentifier::CASTSOURCETARGET as i32;
                pg_sys::CacheRegisterSyscacheCallback(cache, Some(group_invalidated), none);
                pg_sys::CacheRegisterRelcacheCallback(Some(table_invalidated), none);
            }
        }
        if stamps.tables.replace(tables) != tables {
            stamps.invalidate(&EVERYTHING);
        }
        refresh();
        stamps.last.get()
    })
}

/// Processes pending invalidations. Needed where no lock is taken: Postgres itself processes them only with a lock that the
/// transaction does not hold yet.
pub fn refresh() {
    // SAFETY: in a transaction.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    STAMPS.with(|stamps| {
        let (unseen, command) = stamps.unseen.get();
        if unseen == NOTHING {
            return;
        }
        stamps.invalidate(&unseen);
        // SAFETY: reads a variable.
        if unsafe { pg_sys::GetCurrentCommandId(false) } != command {
            stamps.unseen.set((NOTHING, 0));
        }
    });
}

/// Whether what was cached under a stamp is valid, as of the invalidations that were processed last.
pub fn is_valid(stamp: u64, group: Group) -> bool {
    STAMPS.with(|stamps| stamps.invalidated[group.kind][group.group].get() <= stamp)
}

impl Stamps {
    fn invalidate(&self, groups: &Groups) {
        let now = self.last.get() + 1;
        self.last.set(now);
        for (stamps, bits) in self.invalidated.iter().zip(groups) {
            for (at, stamp) in stamps.iter().enumerate() {
                if bits >> at & 1 != 0 {
                    stamp.set(now);
                }
            }
        }
    }

    /// This transaction changed them.
    fn change(&self, groups: &Groups) {
        let (mut unseen, _) = self.unseen.get();
        join(&mut unseen, groups);
        // SAFETY: reads a variable.
        let command = unsafe { pg_sys::GetCurrentCommandId(false) };
        self.unseen.set((unseen, command));
        self.invalidate(groups);
    }
}

fn join(groups: &mut Groups, others: &Groups) {
    for (bits, other) in groups.iter_mut().zip(others) {
        *bits |= other;
    }
}

// ---- messages

/// The key of the cast whose message a group has.
fn key(group: Group) -> [pg_sys::Datum; 2] {
    [group.kind, group.group].map(|part| pg_sys::Datum::from(part as u32 + 1))
}

fn hashes() -> Vec<u32> {
    let cache = pg_sys::SysCacheIdentifier::CASTSOURCETARGET as i32;
    let unused = pg_sys::Datum::null();
    (0..KINDS.len() * GROUPS)
        .map(|at| {
            let [kind, group] = key(Group {
                kind: at / GROUPS,
                group: at % GROUPS,
            });
            // SAFETY: reads no row.
            unsafe { pg_sys::GetSysCacheHashValue(cache, kind, group, unused, unused) }
        })
        .collect()
}

#[pg_guard]
unsafe extern "C-unwind" fn group_invalidated(_argument: pg_sys::Datum, _cache: i32, hash: u32) {
    STAMPS.with(|stamps| {
        let mut groups = NOTHING;
        for (at, known) in stamps.hashes.borrow().iter().enumerate() {
            // Zero means every row.
            if hash == 0 || *known == hash {
                groups[at / GROUPS] |= 1 << (at % GROUPS);
            }
        }
        if groups != NOTHING {
            stamps.invalidate(&groups);
        }
    });
}

#[pg_guard]
unsafe extern "C-unwind" fn table_invalidated(_argument: pg_sys::Datum, table: pg_sys::Oid) {
    STAMPS.with(|stamps| {
        // Zero means every table.
        if table == pg_sys::InvalidOid || stamps.tables.get().contains(&table) {
            stamps.invalidate(&EVERYTHING);
        }
    });
}

/// Registers the message of a group for the commit.
fn send(group: Group) {
    const COLUMNS: usize = 6;
    // SAFETY: a row with the columns of pg_cast: oid, castsource, casttarget, castfunc, castcontext, castmethod. It is never
    // stored; Postgres hashes its key.
    unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let catalog = pg_sys::table_open(pg_sys::Oid::from(CAST_RELATION), lock);
        if (*(*catalog).rd_att).natts as usize != COLUMNS {
            error!("pg_cast does not have the columns that this library was built for");
        }
        let mut values = [pg_sys::Datum::from(0_u32); COLUMNS];
        values[1..3].copy_from_slice(&key(group));
        let mut nulls = [false; COLUMNS];
        let row =
            pg_sys::heap_form_tuple((*catalog).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::CacheInvalidateHeapTuple(catalog, row, std::ptr::null_mut());
        pg_sys::heap_freetuple(row);
        pg_sys::table_close(catalog, lock);
    }
}

/// The oid of pg_cast, which is fixed.
const CAST_RELATION: u32 = 2605;

// ---- changes of this transaction

struct Changes {
    /// The groups whose messages each subtransaction has registered.
    sent: Vec<(pg_sys::SubTransactionId, Groups)>,
}

static CHANGES: PerTransaction<Changes> = PerTransaction::new(Changes { sent: Vec::new() });

/// A row of the group has changed.
pub fn changed(group: Group) {
    let bit = 1 << group.group;
    let mut groups = NOTHING;
    groups[group.kind] = bit;
    let is_sent = |(_, sent): &(_, Groups)| sent[group.kind] & bit != 0;
    if !CHANGES.with_registered(|changes| changes.sent.iter().any(is_sent)) {
        send(group);
        // SAFETY: reads a variable.
        let current = unsafe { pg_sys::GetCurrentSubTransactionId() };
        CHANGES.with(|changes| match changes.sent.last_mut() {
            Some((subtransaction, sent)) if *subtransaction == current => join(sent, &groups),
            _ => changes.sent.push((current, groups)),
        });
    }
    STAMPS.with(|stamps| stamps.change(&groups));
}

/// Anything may have changed.
pub fn everything_changed() {
    // SAFETY: registers a message for the commit.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(query::table(c"cache_changes")) };
    CHANGES.with_registered(|_| ());
    STAMPS.with(|stamps| stamps.change(&EVERYTHING));
}

impl Changes {
    /// What was cached of changes that are gone, or before they could be seen.
    fn invalidate(&self) {
        STAMPS.with(|stamps| {
            let (mut groups, _) = stamps.unseen.replace((NOTHING, 0));
            for (_, sent) in &self.sent {
                join(&mut groups, sent);
            }
            if groups != NOTHING {
                stamps.invalidate(&groups);
            }
        });
    }
}

impl XactCallbacks for Changes {
    fn commit(&mut self) {
        self.invalidate();
        self.sent.clear();
    }

    /// Also a message that an outer transaction had sent already may have been for a change that is gone now.
    fn abort(&mut self, first: pg_sys::SubTransactionId) {
        self.invalidate();
        self.sent
            .retain(|(subtransaction, _)| *subtransaction < first);
    }

    fn merge_into_parent(
        &mut self,
        child: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
    ) {
        let Some(at) = self.sent.iter().position(|(id, _)| *id == child) else {
            return;
        };
        let (_, groups) = self.sent.remove(at);
        match self.sent.iter_mut().find(|(id, _)| *id == parent) {
            Some((_, sent)) => join(sent, &groups),
            None => self.sent.insert(at, (parent, groups)),
        }
    }

    fn prepare_error(&self) -> Option<&'static str> {
        None // the messages are part of the prepared transaction
    }
}

const _: () = assert!(size_of::<Groups>() * 8 == KINDS.len() * GROUPS);

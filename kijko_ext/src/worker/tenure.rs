//! The time that a worker has in its database. It leaves when somebody needs the database without connections
//! (database_lock.rs), and the launcher starts it again afterwards. There is one worker of a kind for each database, also while
//! the launcher is started again: a lock of the session says so.

use std::time::{Duration, Instant};

use pgrx::bgworkers::BackgroundWorker;
use pgrx::pg_sys;

use super::launcher::Kind;
use super::{database_lock, process};

/// How often a worker asks whether it has to leave. DROP DATABASE waits ten times as long.
pub const LEAVE_ROUND: Duration = Duration::from_millis(500);
/// How often it looks whether a former worker has ended.
const ALONE_ROUND: Duration = Duration::from_millis(20);
/// The class of the advisory lock, as quota/lock.rs has classes that SQL cannot use.
const LOCK_CLASS: u16 = 0x4b4d;

/// Why a worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The server stops, or the database is not listed any more.
    Stopped,
    PostmasterDied,
    /// Somebody needs the database.
    Leaves,
}

pub struct Tenure {
    next_look: Instant,
    /// Whether the last check has read the settings again.
    pub reloaded: bool,
}

impl Tenure {
    /// Connects to a database, and waits for a former worker of the kind to end.
    pub fn begin(kind: Kind, database: pg_sys::Datum) -> Result<Self, End> {
        process::attach_signal_handlers();
        let database = pg_sys::Oid::from(database.value() as u32);
        BackgroundWorker::connect_worker_to_spi_by_oid(Some(database), None);
        let mut tenure = Self {
            next_look: Instant::now(),
            reloaded: false,
        };
        while !process::transaction(|| lock(kind)) {
            let alive = process::wait(ALONE_ROUND);
            if let Some(end) = tenure.end(alive) {
                return Err(end);
            }
        }
        Ok(tenure)
    }

    /// Whether the worker ends. It asks after each wait, and waits no longer than `LEAVE_ROUND`.
    pub fn end(&mut self, postmaster_lives: bool) -> Option<End> {
        if !postmaster_lives {
            return Some(End::PostmasterDied);
        }
        self.reloaded = process::reload_settings();
        if process::is_stopping() {
            return Some(End::Stopped);
        }
        if Instant::now() >= self.next_look {
            self.next_look = Instant::now() + LEAVE_ROUND;
            // SAFETY: set when the worker was connected.
            let database = unsafe { pg_sys::MyDatabaseId };
            if !process::transaction(|| database_lock::is_free(database)) {
                return Some(End::Leaves);
            }
        }
        None
    }
}

/// Tries the lock of the session.
fn lock(kind: Kind) -> bool {
    // SAFETY: a plain lock tag of this database; does not wait.
    unsafe {
        let tag = pg_sys::LOCKTAG {
            locktag_field1: pg_sys::MyDatabaseId.to_u32(),
            locktag_field2: kind as u32,
            locktag_field3: 0,
            locktag_field4: LOCK_CLASS,
            locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
            locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
        };
        let mode = pg_sys::ExclusiveLock as pg_sys::LOCKMODE;
        pg_sys::LockAcquire(&tag, mode, true, true)
            != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}

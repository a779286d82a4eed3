//! The launcher: a background worker that starts the workers of each database that kijko.databases lists, and starts them again
//! when they have ended. It is connected to no database. On a standby it starts at promotion; pg_upgrade has none.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime,
    DynamicBackgroundWorker, SignalWakeFlags,
};
use pgrx::prelude::*;

use super::{database_lock, figures, process};
use crate::guc;
use crate::pg::scan;

/// How often databases are looked for, and how long a worker that has ended is not started again.
const ROUND: Duration = Duration::from_secs(1);

pub fn register() {
    // pg_upgrade wants a database to itself.
    // SAFETY: the postmaster has read its arguments.
    if unsafe { pg_sys::IsBinaryUpgrade } {
        return;
    }
    BackgroundWorkerBuilder::new("kijko launcher")
        .set_library("kijko")
        .set_function("kijko_launcher")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(ROUND))
        .load();
}

/// What a worker does. Those that are started first come first: there may not be room for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Meter,
    Outbox,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Meter, Self::Outbox];

    /// As pg_stat_activity shows it.
    fn name(self) -> &'static str {
        match self {
            Self::Meter => "kijko worker",
            Self::Outbox => "kijko outbox",
        }
    }

    /// The function that it runs.
    fn function(self) -> &'static str {
        match self {
            Self::Meter => "kijko_worker",
            Self::Outbox => "kijko_outbox_worker",
        }
    }
}

/// A worker of a database.
struct Served {
    name: String,
    worker: DynamicBackgroundWorker,
    started_at: Instant,
}

#[derive(Default)]
struct Launcher {
    served: HashMap<(Kind, pg_sys::Oid), Served>,
    /// Databases for whose workers the server has no room. Each is logged once.
    without_room: HashSet<pg_sys::Oid>,
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn kijko_launcher(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    BackgroundWorker::connect_worker_to_spi(None, None);
    let mut launcher = Launcher::default();
    loop {
        launcher.look();
        let alone = !process::wait(ROUND);
        process::reload_settings();
        if alone || BackgroundWorker::sigterm_received() {
            break;
        }
    }
    for (_, served) in launcher.served {
        served.worker.terminate();
    }
    figures::set_workers(0, 0);
    // Not zero: a launcher that was terminated is started again, unless the server stops.
    unsafe { pg_sys::proc_exit(1) };
}

impl Launcher {
    /// Ends the workers of databases that are not listed any more, and starts those that are missing.
    fn look(&mut self) {
        let wanted = process::transaction(listed_databases);
        let gone = |served: &Served| {
            matches!(served.worker.pid(), Err(BackgroundWorkerStatus::Stopped))
                && served.started_at.elapsed() >= ROUND
        };
        let ended: Vec<_> = self
            .served
            .iter()
            .filter(|((_, database), served)| {
                gone(served) || wanted.get(database) != Some(&served.name)
            })
            .map(|(worker, _)| *worker)
            .collect();
        for worker in ended {
            if let Some(served) = self.served.remove(&worker) {
                served.worker.terminate(); // does nothing to one that has ended
            }
        }
        self.without_room
            .retain(|database| wanted.contains_key(database));
        for kind in Kind::ALL {
            for (database, name) in &wanted {
                if !self.served.contains_key(&(kind, *database)) {
                    self.start(kind, *database, name);
                }
            }
        }
        let has_all = |database: &&pg_sys::Oid| {
            let mut kinds = Kind::ALL.iter();
            kinds.all(|kind| self.served.contains_key(&(*kind, **database)))
        };
        let complete: Vec<_> = wanted.keys().filter(has_all).copied().collect();
        figures::set_workers(wanted.len(), complete.len());
        for database in complete {
            if self.without_room.remove(&database) {
                log!("kijko: database \"{}\" has its workers", wanted[&database]);
            }
        }
    }

    fn start(&mut self, kind: Kind, database: pg_sys::Oid, name: &str) {
        // Somebody drops, renames or copies it, and needs it without connections.
        if !process::transaction(|| database_lock::is_free(database)) {
            return;
        }
        // SAFETY: reads a variable.
        let launcher = unsafe { pg_sys::MyProcPid };
        let worker = BackgroundWorkerBuilder::new(&format!("{} for {name}", kind.name()))
            .set_type(kind.name())
            .set_library("kijko")
            .set_function(kind.function())
            .set_argument(Some(pg_sys::Datum::from(database)))
            .enable_spi_access()
            .set_start_time(BgWorkerStartTime::RecoveryFinished)
            .set_notify_pid(launcher)
            .load_dynamic();
        match worker {
            Ok(worker) => {
                let served = Served {
                    name: name.to_owned(),
                    worker,
                    started_at: Instant::now(),
                };
                self.served.insert((kind, database), served);
            }
            Err(_) if self.without_room.insert(database) => {
                let code = PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED;
                let message =
                    format!("kijko: there is no room for the workers of database \"{name}\"");
                let detail = "Raise max_worker_processes. Until then its requests are counted and wait in shared memory, and its outbox waits.";
                ereport!(PgLogLevel::LOG, code, message, detail);
            }
            Err(_) => {}
        }
    }
}

/// The databases of kijko.databases that exist and accept connections, with their names. Row by row: a process without a
/// database cannot read what it would need to know about an index.
fn listed_databases() -> HashMap<pg_sys::Oid, String> {
    let names = guc::databases::names();
    let mut listed = HashMap::new();
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: the columns of pg_database, which is open meanwhile.
    scan::with_latest_snapshot(|snapshot| unsafe {
        let table = pg_sys::table_open(pg_sys::DatabaseRelationId, lock);
        scan::visit(table, None, &[], snapshot, |row| {
            let accepts = row.integer(pg_sys::Anum_pg_database_datallowconn as i32) == Some(1);
            let name = row.name(pg_sys::Anum_pg_database_datname as i32);
            if let Some(name) = name.filter(|name| accepts && names.contains(name)) {
                let oid = row
                    .integer(pg_sys::Anum_pg_database_oid as i32)
                    .unwrap_or(0);
                listed.insert(pg_sys::Oid::from(oid as u32), name);
            }
            ControlFlow::Continue(())
        });
        pg_sys::table_close(table, lock);
    });
    listed
}

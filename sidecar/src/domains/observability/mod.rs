//! Observability: reads the log of requests that the proxy writes, and records each request with its caller.
//!
//! 1. `files` finds the files of the log, also those that were rotated, and reads what is new in them.
//! 2. `line` makes a request of a line, and its route of a path.
//! 3. `reader` hands batches to the database, which keeps how far each file was read in the same transaction.
//! 4. `metrics` counts all requests, also those that a sample leaves out.
//!
//! `machine` shows what else an operator must not learn from customers: full disks, an expired certificate, slots that hold back WAL.

mod files;
mod line;
mod machine;
mod metrics;
mod reader;
mod store;

use std::{path::PathBuf, sync::Arc};

use kijko_core::{Context, Domain, Setup, config::Reader};
use machine::{MachineConfig, MachineSeries};
use metrics::RequestLogSeries;
use reader::RequestLog;

/// Reads `KIJKO_ACCESS_LOG`, `KIJKO_REQUEST_SAMPLE`, and what of the machine is shown.
pub fn from_env(env: &mut Reader<'_>) -> Setup {
    let path = env.path("KIJKO_ACCESS_LOG");
    setup(env, path, false)
}

/// The same for a program that is there for the log only. The log ends with the proxy beside it, so this program reads to the end
/// before it stops.
pub fn reader_from_env(env: &mut Reader<'_>) -> Setup {
    let path = env.path("KIJKO_ACCESS_LOG");
    if path.is_none() {
        env.problem("KIJKO_ACCESS_LOG", "is required: the log to read");
    }
    setup(env, path, true)
}

fn setup(env: &mut Reader<'_>, path: Option<PathBuf>, to_its_end: bool) -> Setup {
    let sample = env.number("KIJKO_REQUEST_SAMPLE", 1, 1..=10_000) as u32;
    let machine = MachineConfig::read(env);
    Box::new(move |context: &Context| {
        let series = Arc::new(RequestLogSeries::default());
        let log = path.map(|path| RequestLog {
            path,
            sample,
            last_round: to_its_end.then_some(context.shutdown_grace),
            db: context.db.clone(),
            tracer: context.tracer.clone(),
            series: series.clone(),
        });
        Ok(Domain {
            series: vec![
                series,
                Arc::new(MachineSeries::new(machine, context.db.clone())),
            ],
            background: log.map(RequestLog::background).into_iter().collect(),
            ..Domain::default()
        })
    })
}

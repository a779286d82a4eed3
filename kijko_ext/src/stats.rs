//! `kijko.stats()`: the figures of every table in shared memory.

use pgrx::prelude::*;

use crate::api_key::last_use;
use crate::flag::counts;
use crate::rate_limit::limiter;
use crate::{outbox, quota, request, request_counter, session, worker};

/// Figures of the tables in shared memory, since the server started.
#[pg_extern(volatile, parallel_unsafe)]
fn stats() -> TableIterator<'static, (name!(metric, String), name!(value, i64))> {
    TableIterator::new(
        limiter::stats()
            .into_iter()
            .chain(quota::counter::slot_table::stats())
            .chain(request_counter::pending::stats())
            .chain(request::counters::figures())
            .chain(last_use::stats())
            .chain(counts::stats())
            .chain(session::revocation_cache::stats())
            .chain(worker::figures::stats())
            .chain(outbox::stats())
            .map(|(metric, value)| (metric.to_owned(), value as i64)),
    )
}

/// A task of `kijko.maintain_usage()` has failed.
#[pg_extern(volatile, parallel_unsafe)]
pub fn count_maintenance_failure() {
    request::counters::add(|stats| &stats.maintenance_failures);
}

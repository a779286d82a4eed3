//! Settings of the budget of connection time (request/connection_time.rs). Clients must not choose them.

use std::time::Duration;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

static RATE: GucSetting<f64> = GucSetting::<f64>::new(3.0);
static BURST: GucSetting<i32> = GucSetting::<i32>::new(15_000);
static CONCURRENCY: GucSetting<i32> = GucSetting::<i32>::new(2);

pub fn define() {
    GucRegistry::define_float_guc(
        c"kijko.connection_time_rate",
        c"Seconds of connections that the requests of one subject may take in a second.",
        c"About a third of PostgREST's db-pool, so that one tenant cannot take all of it. 0 removes the limit.",
        &RATE,
        0.0,
        1_000.0,
        GucContext::Suset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"kijko.connection_time_burst",
        c"Seconds of connections that the requests of one subject may take at once.",
        c"Beyond it the subject is in debt: only kijko.connection_time_concurrency of its requests run at once until it is paid back.",
        &BURST,
        1,
        3_600_000,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"kijko.connection_time_concurrency",
        c"How many requests of a subject that is in debt with its connection time may run at once.",
        c"Less than kijko.connection_time_rate, or a debt is never paid back while as many run.",
        &CONCURRENCY,
        1,
        1_000,
        GucContext::Suset,
        GucFlags::empty(),
    );
}

/// Seconds in a second; 0 for no limit.
pub fn rate() -> f64 {
    RATE.get()
}

pub fn burst() -> Duration {
    Duration::from_millis(BURST.get().unsigned_abs().into())
}

pub fn concurrency() -> usize {
    CONCURRENCY.get().unsigned_abs() as usize
}

//! Settings of the bounds on connections (request/connection_time.rs). Clients must not choose them.

use std::ffi::{CStr, CString};
use std::time::Duration;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

static RATE: GucSetting<f64> = GucSetting::<f64>::new(3.0);
static BURST: GucSetting<i32> = GucSetting::<i32>::new(15_000);
static CONCURRENCY: GucSetting<i32> = GucSetting::<i32>::new(2);
static POOL_SIZE: GucSetting<i32> = GucSetting::<i32>::new(10);
static BRIEF_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(500);
static FREE_TIERS: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"FREE, anonymous, user"));

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
    GucRegistry::define_int_guc(
        c"kijko.connection_pool_size",
        c"Connections that PostgREST holds for requests: its db-pool.",
        c"A tenant holds no more of them than it leaves free. Its further requests are brief (kijko.connection_brief_timeout). 0 removes the limit.",
        &POOL_SIZE,
        0,
        10_000,
        GucContext::Suset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"kijko.connection_brief_timeout",
        c"How long a request may take whose tenant holds as many connections as it may.",
        c"Then it is refused with rate_limited, unless the tenant may hold another connection by then.",
        &BRIEF_TIMEOUT,
        1,
        3_600_000,
        GucContext::Suset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_string_guc(
        c"kijko.free_tiers",
        c"Tiers whose tenants cost nothing to make.",
        c"Separated by commas. Together they leave a fifth of kijko.connection_pool_size to the others.",
        &FREE_TIERS,
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

/// 0 for no limit.
pub fn pool_size() -> usize {
    POOL_SIZE.get().unsigned_abs() as usize
}

pub fn brief_timeout() -> Duration {
    Duration::from_millis(BRIEF_TIMEOUT.get().unsigned_abs().into())
}

pub fn is_free_tier(tier: &str) -> bool {
    // SAFETY: reads the pointer that Postgres keeps, whose text is valid until the setting changes.
    let tiers = unsafe {
        let tiers = *FREE_TIERS.as_ptr();
        (!tiers.is_null()).then(|| CStr::from_ptr(tiers).to_bytes())
    };
    tiers.is_some_and(|tiers| {
        let mut tiers = tiers.split(|byte| *byte == b',');
        tiers.any(|free| free.trim_ascii() == tier.as_bytes())
    })
}

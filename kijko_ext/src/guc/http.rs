//! Settings of the outbox.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::time::Duration;

use kijko_guard::{AllowedHosts, Guard};
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

static ALLOWED_HOSTS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static CONCURRENCY: GucSetting<i32> = GucSetting::<i32>::new(512);
static ORIGIN_CONCURRENCY: GucSetting<i32> = GucSetting::<i32>::new(32);
static ORG_CONCURRENCY: GucSetting<i32> = GucSetting::<i32>::new(64);
static RETENTION: GucSetting<i32> = GucSetting::<i32>::new(7 * 24 * 60 * 60);

pub fn define() {
    unsafe {
        // SAFETY: the check hook is guarded, replaces nothing and allocates nothing.
        GucRegistry::define_string_guc_with_hooks(
            c"kijko.http_allowed_hosts",
            c"Hosts of the operator's own network that the outbox may send to.",
            c"Names and addresses, each with a port or for all ports, separated by blanks or commas: mail.internal, localhost:8080. All others must be public.",
            &ALLOWED_HOSTS,
            GucContext::Sighup, // configuration file only: a role that could extend it could reach the operator's network
            GucFlags::empty(),
            Some(check_allowed_hosts),
            None,
            None,
        );
    }
    GucRegistry::define_int_guc(
        c"kijko.http_concurrency",
        c"Requests that the outbox sends at once.",
        c"Others wait in the table. 0 pauses it.",
        &CONCURRENCY,
        0,
        4_096,
        GucContext::Sighup, // the worker's, which no session is
        GucFlags::empty(),
    );
    let limits = [
        (
            c"kijko.http_origin_concurrency",
            c"Requests that the outbox sends at once to one origin (scheme, host and port).",
            &ORIGIN_CONCURRENCY,
        ),
        (
            c"kijko.http_org_concurrency",
            c"Requests that the outbox sends at once for one organization.",
            &ORG_CONCURRENCY,
        ),
    ];
    for (name, what, setting) in limits {
        let context = GucContext::Sighup; // the worker's, which no session is
        let more = c"Others wait in the table.";
        GucRegistry::define_int_guc(
            name,
            what,
            more,
            setting,
            1,
            4_096,
            context,
            GucFlags::empty(),
        );
    }
    GucRegistry::define_int_guc(
        c"kijko.http_retention",
        c"How long the outbox keeps a request that has ended, with its attempts.",
        c"After that it cannot be replayed, and its idempotency key is free.",
        &RETENTION,
        60,
        i32::MAX,
        GucContext::Sighup, // the worker's, which no session is
        GucFlags::UNIT_S,
    );
}

/// The guard of the setting, made again when that has changed.
pub fn with_guard<T>(body: impl FnOnce(&Guard) -> T) -> T {
    thread_local! {
        static KNOWN: RefCell<(Option<CString>, Guard)> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|(known, guard)| {
        let list = ALLOWED_HOSTS.get();
        if *known != list {
            let text = list.as_deref().map(CStr::to_string_lossy);
            // The check hook has refused unreadable values.
            *guard = Guard::new(parse(text.as_deref().unwrap_or_default()).unwrap_or_default());
            *known = list;
        }
        body(guard)
    })
}

pub fn concurrency() -> usize {
    CONCURRENCY.get() as usize
}

pub fn origin_concurrency() -> usize {
    ORIGIN_CONCURRENCY.get() as usize
}

pub fn org_concurrency() -> usize {
    ORG_CONCURRENCY.get() as usize
}

pub fn retention() -> Duration {
    Duration::from_secs(RETENTION.get().unsigned_abs().into())
}

fn parse(list: &str) -> Option<AllowedHosts> {
    list.parse().ok()
}

#[pg_guard]
unsafe extern "C-unwind" fn check_allowed_hosts(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: Postgres passes a string or null.
    unsafe {
        let value = *value;
        value.is_null()
            || CStr::from_ptr(value)
                .to_str()
                .is_ok_and(|list| parse(list).is_some())
    }
}

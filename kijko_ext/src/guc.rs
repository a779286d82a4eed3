//! Settings: private statics behind typed accessors. The context of each is a security choice and says why.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::errors;
use crate::network::ProxyList;
use names::split_names;

pub mod api_keys;
mod clock_offset;
pub mod connection_time;
pub mod databases;
pub mod http;
mod names;
pub mod rate_limit_headers;

static TRUSTED_SESSION_USERS: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"authenticator"));
static TRUSTED_SESSION_USERS_VERSION: AtomicU64 = AtomicU64::new(0);
static TRUSTED_PROXIES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static CLOCK_OFFSET: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"0"));
/// The same in microseconds, parsed when it is set: every use of a quota reads it.
static CLOCK_OFFSET_MICROS: AtomicI64 = AtomicI64::new(0);
static SIGNING_KEY_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static SEAL_KEY_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static RATE_LIMIT_SLOTS: GucSetting<i32> = GucSetting::<i32>::new(65_536);
static QUOTA_SLOTS: GucSetting<i32> = GucSetting::<i32>::new(65_536);
static SESSION_SLOTS: GucSetting<i32> = GucSetting::<i32>::new(16_384);
static REQUEST_COUNTER_SLOTS: GucSetting<i32> = GucSetting::<i32>::new(16_384);
static REQUEST_ACTOR_SLOTS: GucSetting<i32> = GucSetting::<i32>::new(16_384);
static REQUEST_COUNTER_FLUSH_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(100);
static ON_RATE_LIMIT_FAILURE: GucSetting<FailureMode> =
    GucSetting::<FailureMode>::new(FailureMode::Open);
static ON_QUOTA_FAILURE: GucSetting<FailureMode> =
    GucSetting::<FailureMode>::new(FailureMode::Closed);
static REQUEST_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(131_072);
static USAGE_ATTRIBUTES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// Whether a request passes when the limiter itself fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum FailureMode {
    /// It passes.
    #[name = c"open"]
    Open,
    /// It is refused as unavailable.
    #[name = c"closed"]
    Closed,
}

/// Shared memory can only be reserved while the postmaster starts. A later load would leave the limiter without its table, so
/// it is refused.
pub fn refuse_unless_preloaded() {
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        return;
    }
    errors::raise(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "kijko can only be loaded when the server starts",
        None,
        Some("Add kijko to shared_preload_libraries and restart the server."),
    );
}

pub fn init() {
    unsafe {
        // SAFETY: the hook only changes a variable.
        GucRegistry::define_string_guc_with_hooks(
            c"kijko.trusted_session_users",
            c"Login roles whose request.jwt.claims are believed.",
            c"Any SQL session can set request.jwt.claims, so claims count only when session_user is on this comma-separated list.",
            &TRUSTED_SESSION_USERS,
            GucContext::Sighup, // configuration file only: a role that could extend it could become any user
            GucFlags::empty(),
            None,
            Some(assign_trusted_session_users),
            None,
        );
        // SAFETY: both hooks are guarded, and the check hook only replaces nothing and allocates nothing.
        GucRegistry::define_string_guc_with_hooks(
            c"kijko.clock_offset",
            c"What kijko.now() adds to now(): seconds, or an interval without months or years.",
            c"For tests and demonstrations. '90', '1 hour', '2 days 03:00', '-1d'.",
            &CLOCK_OFFSET,
            GucContext::Suset, // tenants must not travel past the end of their month
            GucFlags::empty(),
            Some(check_clock_offset),
            Some(assign_clock_offset),
            None,
        );
    }
    GucRegistry::define_string_guc(
        c"kijko.signing_key_file",
        c"PEM file with the private keys (PKCS#8: RSA, EC P-256 or Ed25519) that sign tokens.",
        c"The first key signs, all of them verify. The server process reads it; it must not be readable by others.",
        &SIGNING_KEY_FILE,
        GucContext::Sighup, // a session that chose the file could choose the key
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_string_guc(
        c"kijko.seal_key_file",
        c"File with the keys that seal secrets.",
        c"One key in each line. The first seals, all of them unseal. The server process reads it; it must not be readable by others.",
        &SEAL_KEY_FILE,
        GucContext::Sighup, // a session that chose the file could choose the key
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"kijko.rate_limit_slots",
        c"Keys that the rate limiter can remember at once, 32 bytes each.",
        c"Rounded up to a power of two. A full table forgets the least recently used key of a set and counts that in kijko.stats().",
        &RATE_LIMIT_SLOTS,
        1_024,
        16_777_216,
        GucContext::Postmaster, // shared memory is sized once
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"kijko.quota_slots",
        c"Quota counters that shared memory holds at once, 64 bytes each.",
        c"Rounded up to a power of two. A counter that is not there is summed up from the ledger; kijko.stats() counts that.",
        &QUOTA_SLOTS,
        1_024,
        16_777_216,
        GucContext::Postmaster, // shared memory is sized once
        GucFlags::empty(),
    );
    define_requests();
    connection_time::define();
    api_keys::define();
    rate_limit_headers::define();
    http::define();
    GucRegistry::define_string_guc(
        c"kijko.usage_attributes",
        c"A JSON object that uses of quotas are recorded with.",
        c"For example {\"member\": ..., \"project\": ..., \"skill\": ..., \"key\": ...}; set it for one transaction. Empty for none.",
        &USAGE_ATTRIBUTES,
        GucContext::Userset, // says what a use was for, never whether it is allowed or whose it is
        GucFlags::empty(),
    );
    unsafe { pg_sys::MarkGUCPrefixReserved(c"kijko".as_ptr()) };
}

fn define_requests() {
    unsafe {
        // SAFETY: the check hook is guarded, replaces nothing and allocates nothing.
        GucRegistry::define_string_guc_with_hooks(
            c"kijko.trusted_proxies",
            c"Networks of the proxies whose X-Forwarded-For is trusted.",
            c"Addresses and CIDRs, separated by blanks or commas. The client is the rightmost address of X-Forwarded-For outside these networks.",
            &TRUSTED_PROXIES,
            GucContext::Sighup, // configuration file only: a role that could extend it could forge any address
            GucFlags::empty(),
            Some(check_trusted_proxies),
            None,
            None,
        );
    }
    databases::define();
    GucRegistry::define_int_guc(
        c"kijko.session_slots",
        c"Revoked sessions that shared memory can hold, 32 bytes each.",
        c"Rounded up to a power of two. When they do not fit, kijko.revoked_sessions is read instead; kijko.stats() counts that.",
        &SESSION_SLOTS,
        1_024,
        16_777_216,
        GucContext::Postmaster, // shared memory is sized once
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"kijko.request_counter_slots",
        c"Subjects whose requests can be counted between two flushes, 32 bytes each.",
        c"Rounded up to a power of two. When there is no room a count waits in its backend; kijko.stats() counts that.",
        &REQUEST_COUNTER_SLOTS,
        1_024,
        1_048_576,
        GucContext::Postmaster, // shared memory is sized once
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"kijko.request_actor_slots",
        c"Latest requests whose callers are kept for the log of the proxy, 88 bytes each.",
        c"The oldest makes room for the next one. It should hold the requests of some seconds.",
        &REQUEST_ACTOR_SLOTS,
        1_024,
        1_048_576,
        GucContext::Postmaster, // shared memory is sized once
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"kijko.request_counter_flush_interval",
        c"How often counted requests are moved to the ledger.",
        c"A crash loses what was counted since the last time.",
        &REQUEST_COUNTER_FLUSH_INTERVAL,
        10,
        60_000,
        GucContext::Sighup, // the worker's, which no session is
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_enum_guc(
        c"kijko.on_rate_limit_failure",
        c"Whether a request passes (open) or is refused (closed) when its rate limits cannot be read.",
        c"It is logged and counted in kijko.stats() either way.",
        &ON_RATE_LIMIT_FAILURE,
        GucContext::Suset, // clients must not choose
        GucFlags::empty(),
    );
    GucRegistry::define_enum_guc(
        c"kijko.on_quota_failure",
        c"Whether a request passes (open) or is refused (closed) when its quota cannot be read.",
        c"It is logged and counted in kijko.stats() either way.",
        &ON_QUOTA_FAILURE,
        GucContext::Suset, // clients must not choose
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"kijko.request_memory",
        c"How much memory one query of a request may hold.",
        c"A query that holds more is refused with bad_request. Counted for each query of a request by itself.",
        &REQUEST_MEMORY,
        1_024,
        2_097_151,
        GucContext::Suset, // clients must not choose
        GucFlags::UNIT_KB,
    );
}

/// Whether claims count in sessions of a login role.
pub fn is_trusted_session_user(name: &str) -> bool {
    let list = TRUSTED_SESSION_USERS.get();
    let names = list.map(|list| split_names(&list.to_string_lossy()));
    names.is_some_and(|names| names.iter().any(|trusted| trusted == name))
}

/// Grows with each change of the list.
pub fn trusted_session_users_version() -> u64 {
    TRUSTED_SESSION_USERS_VERSION.load(Ordering::Relaxed)
}

unsafe extern "C-unwind" fn assign_trusted_session_users(
    _value: *const c_char,
    _extra: *mut c_void,
) {
    TRUSTED_SESSION_USERS_VERSION.fetch_add(1, Ordering::Relaxed);
}

pub fn request_memory_bytes() -> u64 {
    u64::from(REQUEST_MEMORY.get().unsigned_abs()) << 10
}

/// Runs `body` on the trusted proxies; the list is read only when it has changed.
pub fn with_trusted_proxies<T>(body: impl FnOnce(&ProxyList) -> T) -> T {
    thread_local! {
        static KNOWN: RefCell<(Option<CString>, ProxyList)> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|(known, proxies)| {
        let list = TRUSTED_PROXIES.get();
        if *known != list {
            let text = list.as_deref().map(CStr::to_string_lossy);
            // The check hook has refused unreadable values.
            *proxies = ProxyList::parse(text.as_deref().unwrap_or_default()).unwrap_or_default();
            *known = list;
        }
        body(proxies)
    })
}

/// Microseconds to add to the transaction's clock.
pub fn clock_offset_micros() -> i64 {
    CLOCK_OFFSET_MICROS.load(Ordering::Relaxed)
}

pub fn signing_key_file() -> Option<String> {
    text(&SIGNING_KEY_FILE)
}

pub fn seal_key_file() -> Option<String> {
    text(&SEAL_KEY_FILE)
}

/// None for a setting that is blank.
fn text(setting: &GucSetting<Option<CString>>) -> Option<String> {
    setting
        .get()
        .map(|text| text.to_string_lossy().into_owned())
        .filter(|text| !text.trim().is_empty())
}

pub fn rate_limit_slots() -> usize {
    (RATE_LIMIT_SLOTS.get() as usize).next_power_of_two()
}

pub fn quota_slots() -> usize {
    (QUOTA_SLOTS.get() as usize).next_power_of_two()
}

pub fn session_slots() -> usize {
    (SESSION_SLOTS.get() as usize).next_power_of_two()
}

pub fn request_counter_slots() -> usize {
    (REQUEST_COUNTER_SLOTS.get() as usize).next_power_of_two()
}

pub fn request_actor_slots() -> usize {
    REQUEST_ACTOR_SLOTS.get() as usize
}

pub fn request_counter_flush_interval() -> Duration {
    Duration::from_millis(REQUEST_COUNTER_FLUSH_INTERVAL.get().unsigned_abs().into())
}

pub fn on_rate_limit_failure() -> FailureMode {
    ON_RATE_LIMIT_FAILURE.get()
}

pub fn on_quota_failure() -> FailureMode {
    ON_QUOTA_FAILURE.get()
}

/// JSON, unchecked.
pub fn usage_attributes() -> Option<String> {
    text(&USAGE_ATTRIBUTES)
}

#[pg_guard]
unsafe extern "C-unwind" fn check_clock_offset(
    new_value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    let value = unsafe { *new_value };
    if value.is_null() {
        return true;
    }
    match clock_offset::parse(&unsafe { CStr::from_ptr(value) }.to_string_lossy()) {
        Ok(_) => true,
        Err(error) => {
            let detail = CString::new(error.to_string()).unwrap_or_default();
            // SAFETY: GUC_check_errdetail of the C headers; the string is copied into the error's context.
            unsafe { pg_sys::GUC_check_errdetail_string = pg_sys::pstrdup(detail.as_ptr()) };
            false
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn check_trusted_proxies(
    new_value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    let value = unsafe { *new_value };
    if value.is_null() {
        return true;
    }
    let value = unsafe { CStr::from_ptr(value) }.to_string_lossy();
    let Err(bad) = ProxyList::parse(&value) else {
        return true;
    };
    let detail = CString::new(format!("\"{bad}\" is neither an address nor a CIDR."));
    // SAFETY: as above.
    unsafe {
        pg_sys::GUC_check_errdetail_string = pg_sys::pstrdup(detail.unwrap_or_default().as_ptr());
    }
    false
}

/// The check hook has refused values that cannot be parsed.
#[pg_guard]
unsafe extern "C-unwind" fn assign_clock_offset(new_value: *const c_char, _extra: *mut c_void) {
    let offset = if new_value.is_null() {
        0
    } else {
        clock_offset::parse(&unsafe { CStr::from_ptr(new_value) }.to_string_lossy()).unwrap_or(0)
    };
    CLOCK_OFFSET_MICROS.store(offset, Ordering::Relaxed);
}

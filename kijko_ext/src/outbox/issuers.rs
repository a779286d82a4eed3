//! The worker's part of outside issuers (../issuer.rs): it takes over what issuers have answered, and asks those again whose time
//! has come (`kijko.advance_issuers()`). A failure is the outbox's to log and touches nothing of its own.

use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::wakeup;
use crate::pg::query::{Statement, find_table};
use crate::pg::value::Value;
use crate::worker::extension_lock;

/// So often at most it is looked whether an attempt that has ended was an issuer's answer.
const MIN_BETWEEN: Duration = Duration::from_millis(200);
/// How often it is looked whose time has come.
const MAX_BETWEEN: Duration = Duration::from_secs(5);

thread_local! {
    static ADVANCE: Statement = const { Statement::new(
    "select kijko.advance_issuers(pg_catalog.string_to_array($1, ',')::pg_catalog.int8[])",
    &[pg_sys::TEXTOID],
    ) };
}

pub struct Refresh {
    last: Instant,
    next: Instant,
}

impl Refresh {
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            last: now,
            next: now,
        }
    }

    /// Attempts have ended, or an issuer is wanted.
    pub fn soon(&mut self) {
        self.next = self.next.min(self.last + MIN_BETWEEN);
    }

    pub fn next(&self) -> Instant {
        self.next
    }

    pub fn is_due(&mut self) -> bool {
        if wakeup::wants_issuers() {
            self.soon();
        }
        Instant::now() >= self.next
    }

    /// In a transaction. `wanted` are issuers of which a token has named an unknown key.
    pub fn advance(wanted: &[i64]) {
        if !extension_lock::is_installed() || find_table(c"issuers").is_none() {
            return;
        }
        let wanted: Vec<_> = wanted.iter().map(i64::to_string).collect();
        let wanted = wanted.join(",");
        ADVANCE.with(|statement| statement.write(&[Value::from(&*wanted)], |_| ()));
    }

    pub fn done(&mut self) {
        self.last = Instant::now();
        self.next = self.last + MAX_BETWEEN;
    }
}

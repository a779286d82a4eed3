//! The statement timeout of a request, by the organization's tier. It is set after the request is admitted and applies to
//! the following statements of the transaction, the next of which is PostgREST's main one: Postgres reads the setting at the
//! start of each statement. Until then the role's own timeout applies.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::prelude::*;

use super::{counters, policy};
use crate::pg::cache_stamp::{self, CacheKind};
use crate::pg::query::Statement;
use crate::pg::setting;
use crate::pg::subtransaction::in_subtransaction;

#[derive(Default)]
struct Cache {
    stamp: u64,
    milliseconds: HashMap<String, i32>,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
    static TIMES: Statement = const { Statement::new(
        "select t.tier, t.milliseconds::pg_catalog.int8 from kijko.statement_timeouts as t", &[],
    ) };
}

/// Sets the timeout of the tier that the request was admitted by. A tier without one keeps the role's timeout.
pub fn apply(tier: &str) {
    let Some(milliseconds) = of(tier) else {
        return;
    };
    // SAFETY: reads a variable. Comparing is cheaper than setting.
    if unsafe { pg_sys::StatementTimeout } != milliseconds {
        setting::set_local(c"statement_timeout", &milliseconds.to_string());
    }
}

fn of(tier: &str) -> Option<i32> {
    cache_stamp::refresh();
    let stamp = CACHE.with_borrow(|known| known.stamp);
    if !cache_stamp::is_valid(stamp, CacheKind::StatementTimeouts.whole())
        && let Err(failure) = in_subtransaction(read)
    {
        if counters::may_log() {
            log!("kijko: the statement timeouts failed: {failure}");
        }
        return None;
    }
    CACHE.with_borrow(|known| {
        let times = &known.milliseconds;
        times
            .get(tier)
            .or_else(|| times.get(policy::ANY_TIER))
            .copied()
    })
}

/// Takes the stamp before it reads, so that a concurrent change is read again.
fn read() {
    let stamp = cache_stamp::take();
    let milliseconds = TIMES.with(|statement| {
        statement.read(&[], |rows| {
            rows.iter()
                .filter_map(|row| Some((row.text(1)?, i32::try_from(row.integer(2)?).ok()?)))
                .collect()
        })
    });
    CACHE.set(Cache {
        stamp,
        milliseconds,
    });
}

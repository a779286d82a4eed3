//! How long a statement of a request may take: by the organization's tier. Set after the request is admitted, it holds for
//! the statements that follow in its transaction, of which PostgREST's main one is the next: Postgres starts the clock anew
//! for each, by the setting of that moment. Until then the role's own timeout holds.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::prelude::*;

use super::attempt::attempt;
use super::policy::{self, Asked};
use super::{cache, stats};
use crate::query::{self, Statement};
use crate::session;
use crate::watch::Watch;

#[derive(Default)]
struct Known {
    epoch: u64,
    milliseconds: HashMap<String, i32>,
}

static WATCH: Watch = Watch::new();

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
    static TIMES: Statement = const { Statement::new(
        "select t.tier, t.milliseconds::pg_catalog.int8 from kijko.statement_timeouts as t", &[],
    ) };
}

/// Sets the timeout of the tier that the request was admitted by. A tier without one leaves the role's.
pub fn apply(asked: &Asked) {
    let Some(milliseconds) = of(asked) else {
        return;
    };
    // SAFETY: reads a variable. Setting costs more than to see that it is so already.
    if unsafe { pg_sys::StatementTimeout } != milliseconds {
        session::set_local(c"statement_timeout", &milliseconds.to_string());
    }
}

fn of(asked: &Asked) -> Option<i32> {
    if KNOWN.with_borrow(|known| known.epoch) != WATCH.now()
        && let Err(failure) = attempt(read)
    {
        if stats::may_log() {
            log!("kijko: the statement timeouts failed: {failure}");
        }
        return None;
    }
    let tier = match (&asked.organization, asked.user) {
        (Some(organization), _) => cache::tier_of(organization)?,
        (None, Some(_)) => policy::USER.into(),
        (None, None) => policy::ANONYMOUS.into(),
    };
    KNOWN.with_borrow(|known| {
        let times = &known.milliseconds;
        times
            .get(&*tier)
            .or_else(|| times.get(policy::ANY_TIER))
            .copied()
    })
}

/// What changes while it is read is read again: the epoch is that from before.
fn read() {
    let epoch = WATCH.begin(&[query::table(c"statement_timeouts")]);
    let milliseconds = TIMES.with(|statement| {
        statement.read(&[], |rows| {
            rows.iter()
                .filter_map(|row| Some((row.text(1)?, i32::try_from(row.integer(2)?).ok()?)))
                .collect()
        })
    });
    KNOWN.set(Known {
        epoch,
        milliseconds,
    });
}

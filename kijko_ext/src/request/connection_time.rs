//! The budget of connection time. PostgREST has a few connections for all tenants, and a request holds one of them until its
//! transaction ends. Without a bound on that time, the slow requests of one caller keep everybody else waiting.
//!
//! 1. An admitted request occupies a place in shared memory (in_flight.rs) with its subject: the user; the organization of a
//!    caller that is no user; the network of a caller without either. A publishable key is a subject of its own, so that its
//!    visitors do not use up what the organization's other keys have.
//! 2. When its transaction ends, however it ends, the time since the admission is debited from the subject's budget.
//! 3. While a subject is in debt, only a few of its requests may be in flight. A further one is refused.
//!
//! An organization has no budget beside those of its users: one of them could use it up for all the others.
//! Fast requests spend next to nothing, so any number of them may run at once. The budgets are kept in the rate limiter's
//! table; a request that is not in debt takes one lock there, shared, and one at its end.

use pgrx::prelude::*;

use super::policy::RequestInfo;
use super::response_headers::LimitState;
use super::{counters, in_flight};
use crate::client;
use crate::guc::connection_time as setting;
use crate::pg::xact::{PerTransaction, XactCallbacks};
use crate::rate_limit::limiter::{self, Key};
use crate::rate_limit::time_budget::TimeBudget;

const NAME: &str = "connection_time";
/// Some request of the subject ends soon: each is bounded by its statement timeout.
const RETRY_AFTER: u64 = 1;

#[derive(Clone, Copy)]
struct Subject {
    kind: &'static str,
    key: Key,
}

/// The request of this transaction.
struct Running {
    subject: Subject,
    budget: TimeBudget,
    admitted_at: u64,
}

struct State {
    running: Option<Running>,
}

/// A request that is refused: the limit as its headers show it, and the error's details.
pub struct Refused {
    pub limit: LimitState<'static>,
    pub details: String,
}

static STATE: PerTransaction<State> = PerTransaction::new(State { running: None });

/// Admits a request until the end of its transaction. Only the first admission of a transaction counts.
pub fn admit(request: &RequestInfo) -> Result<(), Refused> {
    let (rate, burst) = (setting::rate(), setting::burst());
    let Some(budget) = TimeBudget::new(rate, burst) else {
        return Ok(());
    };
    // All that may fail comes before the place is occupied.
    let state = STATE.registered();
    if state.running.is_some() {
        return Ok(());
    }
    in_flight::clear_at_exit();
    let subject = subject_of(request);
    occupy(&subject, &budget)?;
    state.running = Some(Running {
        subject,
        budget,
        admitted_at: limiter::monotonic_nanos(),
    });
    Ok(())
}

fn subject_of(request: &RequestInfo) -> Subject {
    if let Some(key) = request.api_key.as_ref().filter(|_| request.is_publishable) {
        return subject("API key", key);
    }
    if let Some(user) = &request.user {
        return subject("user", user);
    }
    if let Some(organization) = &request.organization {
        return subject("organization", organization);
    }
    match request.network.or_else(client::network) {
        Some(network) => subject("network", &network.bytes()),
        None => subject("network", b"unknown"),
    }
}

fn subject(kind: &'static str, id: &[u8]) -> Subject {
    let key = [b"\0", NAME.as_bytes(), b"\0", kind.as_bytes(), b"\0", id].concat();
    let key = Key::new(&key);
    Subject { kind, key }
}

/// Occupies this backend's place, unless the subject is in debt and has as many requests in flight as it may have then.
fn occupy(subject: &Subject, budget: &TimeBudget) -> Result<(), Refused> {
    let Some(debt) = limiter::debt(subject.key, budget) else {
        in_flight::occupy(subject.key);
        return Ok(());
    };
    let concurrency = setting::concurrency();
    let guard = in_flight::lock();
    let is_full = in_flight::count(subject.key) >= concurrency;
    if !is_full {
        in_flight::occupy(subject.key);
    }
    drop(guard);
    if is_full {
        counters::add(|stats| &stats.connection_time_refused);
        return Err(refused(subject.kind, debt, budget, concurrency));
    }
    Ok(())
}

fn refused(kind: &str, debt: u64, budget: &TimeBudget, concurrency: usize) -> Refused {
    let burst = budget.burst().as_secs_f64();
    let limit = LimitState {
        name: NAME,
        quota: burst.ceil() as u64,
        remaining: 0,
        window: Some(budget.refill().as_secs_f64().ceil() as u64),
        reset: Some(debt.div_ceil(1_000_000_000)),
        retry_after: Some(RETRY_AFTER),
        allowed: false,
    };
    let details = format!(
        "connection time of the {kind}: more than {burst} s at once or {} s in a second; until that is paid back, at most \
         {concurrency} of its requests run at once",
        budget.rate()
    );
    Refused { limit, details }
}

impl State {
    fn end(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        in_flight::clear();
        limiter::debit(running.subject.key, &running.budget, running.admitted_at);
    }
}

impl XactCallbacks for State {
    fn commit(&mut self) {
        self.end();
    }

    /// A request that is rolled back has held its connection all the same. Its subtransactions do not end it.
    fn abort(&mut self, first: pg_sys::SubTransactionId) {
        if first == 0 {
            self.end();
        }
    }

    fn merge_into_parent(
        &mut self,
        _child: pg_sys::SubTransactionId,
        _parent: pg_sys::SubTransactionId,
    ) {
    }

    fn prepare_error(&self) -> Option<&'static str> {
        None
    }
}

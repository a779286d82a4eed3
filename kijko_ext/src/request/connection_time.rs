//! The budget of connection time. PostgREST has a few connections for all tenants, and a request holds one of them until its
//! transaction ends. Without a bound on that time, the slow requests of one caller keep everybody else waiting.
//!
//! 1. An admitted request occupies a place in shared memory (in_flight.rs) with its subjects: the organization and the user,
//!    or the network of a caller without either.
//! 2. When its transaction ends, however it ends, the time since the admission is debited from the budget of each subject.
//! 3. While a subject is in debt, only a few of its requests may be in flight. A further one is refused.
//!
//! Fast requests spend next to nothing, so any number of them may run at once. The budgets are kept in the rate limiter's
//! table; a request that is not in debt takes two locks there, shared, and two at its end.

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

type Subjects = [Option<Subject>; in_flight::MAX_SUBJECTS];

/// The request of this transaction.
struct Running {
    subjects: Subjects,
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
    let subjects = subjects(request);
    occupy(&subjects, &budget)?;
    state.running = Some(Running {
        subjects,
        budget,
        admitted_at: limiter::monotonic_nanos(),
    });
    Ok(())
}

/// The organization and the user of a request, or the network of one without either.
fn subjects(request: &RequestInfo) -> Subjects {
    let organization = request.organization.map(|id| subject("organization", &id));
    let user = request.user.map(|id| subject("user", &id));
    if organization.is_some() || user.is_some() {
        return [organization, user];
    }
    let network = request.network.or_else(client::network);
    let network = match &network {
        Some(network) => subject("network", &network.bytes()),
        None => subject("network", b"unknown"),
    };
    [Some(network), None]
}

fn subject(kind: &'static str, id: &[u8]) -> Subject {
    let key = [b"\0", NAME.as_bytes(), b"\0", kind.as_bytes(), b"\0", id].concat();
    let key = Key::new(&key);
    Subject { kind, key }
}

/// Occupies this backend's place, unless a subject is in debt and has as many requests in flight as it may have then.
fn occupy(subjects: &Subjects, budget: &TimeBudget) -> Result<(), Refused> {
    let keys = subjects.map(|subject| subject.map(|subject| subject.key));
    let in_debt = |subject: &Subject| Some((*subject, limiter::debt(subject.key, budget)?));
    let debts = subjects.map(|subject| in_debt(&subject?));
    if debts.iter().all(Option::is_none) {
        in_flight::occupy(keys);
        return Ok(());
    }
    let concurrency = setting::concurrency();
    let guard = in_flight::lock();
    let is_full = |(subject, _): &&(Subject, u64)| in_flight::count(subject.key) >= concurrency;
    let refusing = debts.iter().flatten().find(is_full);
    if refusing.is_none() {
        in_flight::occupy(keys);
    }
    drop(guard);
    refusing.map_or(Ok(()), |(subject, debt)| {
        counters::add(|stats| &stats.connection_time_refused);
        Err(refused(subject.kind, *debt, budget, concurrency))
    })
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
        let spent = limiter::monotonic_nanos().saturating_sub(running.admitted_at);
        for subject in running.subjects.iter().flatten() {
            limiter::debit(subject.key, &running.budget, spent);
        }
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

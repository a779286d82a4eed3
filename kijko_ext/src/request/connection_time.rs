//! Bounds on PostgREST's connections. It has a few for all tenants, and a request holds one of them until its transaction
//! ends. Without a bound the slow requests of one caller keep everybody else waiting.
//!
//! 1. An admitted request occupies a place in shared memory (in_flight.rs) with its caller: the user; the organization of a
//!    caller that is no user; the network of a caller without either. And with its tenant: the organization, else the caller.
//!    A publishable key is caller and tenant of its own, so that its visitors do not use up what the organization has, and one
//!    of a free tier.
//! 2. When its transaction ends, however it ends, the time since the admission is debited from the caller's budget. While a
//!    caller is in debt, only a few of its requests may be in flight. A further one is refused.
//! 3. A tenant holds no more connections than it leaves free (connection_pool.rs). A further request is brief: it is admitted,
//!    and refused if it has not ended after a short time and there still is no room (brief.rs). So many fast requests may run
//!    at once, and slow ones leave room for other tenants. The time of a brief request that was refused is debited from a
//!    budget. A tenant in debt there is refused at once, because brief requests, too, keep others waiting.
//!
//! An organization has no time budget beside those of its users: one of them could use it up for all the others. The budgets
//! are kept in the rate limiter's table.

use std::time::Duration;

use pgrx::prelude::*;

use super::connection_pool::ConnectionPool;
use super::policy::{Identity, RequestInfo};
use super::response_headers::{LimitState, Refused};
use super::{brief, counters, in_flight};
use crate::client;
use crate::guc::connection_time as setting;
use crate::pg::xact::{PerTransaction, XactCallbacks};
use crate::rate_limit::limiter::{self, Key};
use crate::rate_limit::time_budget::TimeBudget;

const NAME: &str = "connection_time";
const BRIEF: &str = "connection_time of brief requests";
/// Some request of the tenant ends soon: each is bounded by its statement timeout.
const RETRY_AFTER: u64 = 1;

/// How many connections refused brief requests may occupy on average, and how many such requests at once: those of one tenant,
/// and those of all tenants of free tiers together.
const BRIEF_OF_TENANT: (f64, u32) = (0.25, 2);
const BRIEF_OF_FREE_TIERS: (f64, u32) = (1.0, 4);

/// Whose time or connections are counted.
#[derive(Clone, Copy)]
struct Subject {
    kind: &'static str,
    id: Identity,
}

/// The request of this transaction.
struct Running {
    caller: Key,
    budget: Option<TimeBudget>,
    brief: Option<Brief>,
    admitted_at: u64,
}

/// A brief request.
struct Brief {
    limit: Duration,
    /// Connections that its tenant held when it was admitted.
    held: usize,
    tenant: &'static str,
    budgets: Vec<(Key, TimeBudget)>,
}

struct State {
    running: Option<Running>,
}

static STATE: PerTransaction<State> = PerTransaction::new(State { running: None });

/// Admits a request until the end of its transaction. Only the first admission of a transaction counts.
pub fn admit(request: &RequestInfo, tier: Option<&str>) -> Result<(), Refused> {
    let budget = TimeBudget::new(setting::rate(), setting::burst());
    let pool = ConnectionPool::new(setting::pool_size());
    if budget.is_none() && pool.is_none() {
        return Ok(());
    }
    // All that may fail comes before the place is occupied.
    if STATE.with_registered(|state| state.running.is_some()) {
        return Ok(());
    }
    in_flight::clear_at_exit();
    brief::register();
    let caller = Subject::of_caller(request);
    let tenant = Subject::of_tenant(request).unwrap_or(caller);
    let (caller_key, tenant_key) = (caller.key(NAME), tenant.key(NAME));
    let is_free = request.is_publishable || tier.is_none_or(setting::is_free_tier);
    let concurrency = setting::concurrency();
    let debt = budget.and_then(|budget| Some((limiter::debt(caller_key, &budget)?, budget)));

    let guard = in_flight::lock();
    if let Some((debt, budget)) = &debt
        && in_flight::count_caller(caller_key) >= concurrency
    {
        drop(guard);
        counters::add(|stats| &stats.connection_time_refused);
        return Err(in_debt(caller.kind, *debt, budget, concurrency));
    }
    in_flight::occupy(caller_key);
    let held = pool.and_then(|pool| in_flight::hold(pool, tenant_key, is_free).err());
    drop(guard);

    let brief = held.map(|held| Brief::new(&tenant, is_free, held.tenant));
    if let Some(brief) = &brief {
        if brief.is_in_debt() {
            in_flight::clear();
            counters::add(|stats| &stats.connection_pool_refused);
            return Err(brief.refused());
        }
        brief::begin(brief.limit, tenant_key, is_free, brief.refused());
    }
    let running = Running {
        caller: caller_key,
        budget,
        brief,
        admitted_at: limiter::monotonic_nanos(),
    };
    STATE.with(|state| state.running = Some(running));
    Ok(())
}

impl Subject {
    fn of_caller(request: &RequestInfo) -> Self {
        if let Some(key) = Self::of_publishable_key(request) {
            return key;
        }
        if let Some(user) = request.user {
            return Self::new("user", Identity::of_uuid(user));
        }
        Self::of_tenant(request).unwrap_or_else(|| {
            let network = request.network.or_else(client::network);
            Self::new("network", Identity::of_network(network))
        })
    }

    fn of_publishable_key(request: &RequestInfo) -> Option<Self> {
        let key = request.api_key.filter(|_| request.is_publishable)?;
        Some(Self::new("API key", Identity::of_uuid(key)))
    }

    fn of_tenant(request: &RequestInfo) -> Option<Self> {
        if let Some(key) = Self::of_publishable_key(request) {
            return Some(key);
        }
        let organization = Identity::of_uuid(request.organization?);
        Some(Self::new("organization", organization))
    }

    fn new(kind: &'static str, id: Identity) -> Self {
        Self { kind, id }
    }

    /// Its key in the limiter's table.
    fn key(&self, budget: &str) -> Key {
        Key::new(&[
            b"\0",
            budget.as_bytes(),
            b"\0",
            self.kind.as_bytes(),
            b"\0",
            self.id.bytes(),
        ])
    }
}

impl Brief {
    fn new(tenant: &Subject, is_free: bool, held: usize) -> Self {
        let limit = setting::brief_timeout();
        let budget = |(rate, requests)| TimeBudget::new(rate, limit * requests);
        let own = budget(BRIEF_OF_TENANT).map(|budget| (tenant.key(BRIEF), budget));
        let free_tiers = Subject::new("tiers", Identity::short(b"free"));
        let shared = budget(BRIEF_OF_FREE_TIERS).map(|budget| (free_tiers.key(BRIEF), budget));
        Self {
            limit,
            held,
            tenant: tenant.kind,
            budgets: own.into_iter().chain(shared.filter(|_| is_free)).collect(),
        }
    }

    fn is_in_debt(&self) -> bool {
        let mut budgets = self.budgets.iter();
        budgets.any(|(key, budget)| limiter::debt(*key, budget).is_some())
    }

    fn refused(&self) -> Refused {
        let limit = LimitState {
            name: NAME,
            quota: self.held as u64,
            remaining: 0,
            window: None,
            reset: Some(RETRY_AFTER),
            retry_after: Some(RETRY_AFTER),
            allowed: false,
        };
        let details = format!(
            "connections: the {} holds {}, as many as it may for more than {} ms",
            self.tenant,
            self.held,
            self.limit.as_millis()
        );
        Refused { limit, details }
    }
}

fn in_debt(kind: &str, debt: u64, budget: &TimeBudget, concurrency: usize) -> Refused {
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
        let since = running.admitted_at;
        if let Some(budget) = &running.budget {
            limiter::debit(running.caller, budget, since);
        }
        if let Some(brief) = running.brief
            && brief::end()
        {
            counters::add(|stats| &stats.connection_pool_refused);
            for (key, budget) in &brief.budgets {
                limiter::debit(*key, budget, since);
            }
        }
    }
}

impl XactCallbacks for State {
    fn pre_commit(&mut self) {
        if self.running.as_ref().is_some_and(|it| it.brief.is_some()) {
            brief::commits();
        }
    }

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

//! Caches policies and tiers in this backend until one of them changes. Triggers on the tables (kijko.limits_changed) make
//! Postgres invalidate the caches of every backend at commit.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::prelude::*;

use super::policy::{self, RateLimitPolicy, Scope};
use crate::pg::invalidation::RelcacheEpoch;
use crate::pg::query::{self, Row, Statement};
use crate::rate_limit::gcra;
use crate::subject;

/// Maximum number of organizations and of users. When it is reached, the cache is emptied.
const CAPACITY: usize = 65_536;

type Uuid = [u8; 16];
pub type Tier = Rc<str>;

#[derive(Default)]
struct Cache {
    epoch: u64,
    policies: Vec<RateLimitPolicy>,
    /// By the tiers of the request and of its user.
    by_tiers: HashMap<(Tier, Tier), Rc<[RateLimitPolicy]>>,
    organizations: HashMap<Uuid, Tier>,
    /// None for a user without a tier of their own.
    users: HashMap<Uuid, Option<Tier>>,
}

static EPOCH: RelcacheEpoch = RelcacheEpoch::new();

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
    static TIER: Statement = const { Statement::new(
        "select t.tier from kijko.tiers as t where t.subject operator(pg_catalog.=) $1", &[pg_sys::UUIDOID],
    ) };
    static POLICIES: Statement = const { Statement::new(
        "select p.name, p.tier, p.scope, p.method, p.route, p.rate::pg_catalog.int8, \
                (extract(epoch from p.per) operator(pg_catalog.*) 1000000)::pg_catalog.int8, \
                coalesce(p.burst, p.rate)::pg_catalog.int8, p.cost::pg_catalog.int8, p.shadow::pg_catalog.int4::pg_catalog.int8 \
         from kijko.rate_limit_policies as p where p.enabled order by p.name",
        &[],
    ) };
}

/// The tier and the policies of a request. One look-up returns both, because the cache may be invalidated before a second one.
#[derive(Clone)]
pub struct RequestPolicies {
    pub tier: Tier,
    pub policies: Rc<[RateLimitPolicy]>,
}

/// The cached tier and policies of a request of an organization and a user. None when they have to be read.
pub fn of_request(organization: Option<&Uuid>, user: Option<&Uuid>) -> Option<RequestPolicies> {
    fresh(|known| {
        let tier = match organization {
            Some(organization) => known.organizations.get(organization)?.clone(),
            None => without_organization(user),
        };
        let own = match user {
            Some(user) => known.users.get(user)?.clone(),
            None => None,
        };
        let tiers = (tier.clone(), own.unwrap_or_else(|| tier.clone()));
        let policies = known.by_tiers.get(&tiers)?.clone();
        Some(RequestPolicies { tier, policies })
    })
}

/// The cached policies of a tier that no subject has.
pub fn of_tier(tier: &str) -> Option<Rc<[RateLimitPolicy]>> {
    fresh(|known| known.by_tiers.get(&(tier.into(), tier.into())).cloned())
}

fn fresh<T>(look_up: impl FnOnce(&Cache) -> Option<T>) -> Option<T> {
    let now = EPOCH.refresh();
    CACHE.with_borrow(|known| (known.epoch == now).then(|| look_up(known))?)
}

fn without_organization(user: Option<&Uuid>) -> Tier {
    user.map_or(policy::ANONYMOUS, |_| policy::USER).into()
}

/// Reads the tiers of an organization and of a user, and their policies. Without a tier of its own, an organization has the
/// tier `*`, and a user that of the request.
pub fn read_request(organization: Option<&Uuid>, user: Option<&Uuid>) -> RequestPolicies {
    let epoch = watch();
    let tier = match organization {
        Some(organization) => read_own(organization).unwrap_or_else(|| policy::ANY_TIER.into()),
        None => without_organization(user),
    };
    let own = user.and_then(|user| read_own(&subject::of(subject::USER, user)));
    let policies = read(epoch, &tier, own.as_ref().unwrap_or(&tier));
    CACHE.with_borrow_mut(|known| {
        if known.organizations.len() >= CAPACITY || known.users.len() >= CAPACITY {
            known.organizations.clear();
            known.users.clear();
        }
        if let Some(organization) = organization {
            known.organizations.insert(*organization, tier.clone());
        }
        if let Some(user) = user {
            known.users.insert(*user, own);
        }
    });
    RequestPolicies { tier, policies }
}

fn read_own(subject: &Uuid) -> Option<Tier> {
    TIER.with(|statement| {
        statement.read(&[subject.into()], |rows| {
            rows.first().and_then(|row| row.text(1)).map(Tier::from)
        })
    })
}

pub fn read_tier(tier: &str) -> Rc<[RateLimitPolicy]> {
    let tier = tier.into();
    read(watch(), &tier, &tier)
}

/// Caches under the epoch from before the read, so that a change in between is read again.
fn read(epoch: u64, tier: &Tier, users: &Tier) -> Rc<[RateLimitPolicy]> {
    if CACHE.with_borrow(|known| known.epoch != epoch) {
        let policies = POLICIES
            .with(|statement| statement.read(&[], |rows| rows.iter().map(policy).collect()));
        CACHE.set(Cache {
            epoch,
            policies,
            ..Cache::default()
        });
    }
    CACHE.with_borrow_mut(|known| {
        let policies: Rc<[RateLimitPolicy]> =
            policy::of_request(&known.policies, tier, users).into();
        let tiers = (tier.clone(), users.clone());
        known.by_tiers.insert(tiers, policies.clone());
        policies
    })
}

fn policy(row: &Row) -> RateLimitPolicy {
    let text = |column| row.text(column).map(String::into_boxed_str);
    let number = |column| u32::try_from(row.integer(column).unwrap_or(0)).unwrap_or(0);
    let (rate, burst) = (number(6), number(8));
    let nanos = row
        .integer(7)
        .unwrap_or(0)
        .unsigned_abs()
        .saturating_mul(1_000);
    let name = text(1).unwrap_or_default();
    let limit = gcra::RateLimit::new(rate, nanos, burst);
    let scope = text(3).and_then(|scope| Scope::parse(&scope));
    // The table's checks let nothing else in.
    let (Ok(limit), Some(scope)) = (limit, scope) else {
        error!("kijko.rate_limit_policies: the policy {name} is not usable");
    };
    RateLimitPolicy {
        key: format!("\0{name}\0{scope:?}\0{rate}\0{nanos}\0{burst}\0").into_bytes(),
        name,
        tier: text(2).unwrap_or_default(),
        scope,
        method: text(4),
        route: text(5),
        limit,
        cost: number(9),
        window: (nanos / u64::from(rate) * u64::from(burst)).div_ceil(1_000_000_000),
        shadow: row.integer(10) == Some(1),
    }
}

/// The epoch of the tables, taken before they are read.
fn watch() -> u64 {
    EPOCH.watch(&[
        query::table(c"rate_limit_policies"),
        query::table(c"tier_changes"),
    ])
}

//! Policies and tiers as this backend knows them: read once, and again after anybody has changed them. Postgres tells
//! every backend at commit; triggers on the tables see to it (kijko.limits_changed).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::prelude::*;

use super::policy::{self, Policy, Scope};
use crate::pg::datum;
use crate::pg::invalidation::RelcacheEpoch;
use crate::pg::query::{self, Row, Statement};
use crate::rate_limit::gcra;
use crate::subject;

/// Organizations and users whose tier is kept; more than that, and all are forgotten.
const CAPACITY: usize = 65_536;

type Uuid = [u8; 16];
pub type Tier = Rc<str>;

#[derive(Default)]
struct Known {
    epoch: u64,
    policies: Vec<Policy>,
    /// By the tier of the request and that of its user.
    by_tiers: HashMap<(Tier, Tier), Rc<[Policy]>>,
    organizations: HashMap<Uuid, Tier>,
    /// Of users without a tier of their own, None.
    users: HashMap<Uuid, Option<Tier>>,
}

static EPOCH: RelcacheEpoch = RelcacheEpoch::new();

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
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

/// The tier of a request and its policies. One look-up yields both: a second one could find the cache invalidated in
/// between, and must not decide differently.
#[derive(Clone)]
pub struct OfRequest {
    pub tier: Tier,
    pub policies: Rc<[Policy]>,
}

/// Tier and policies of a request of an organization and a user. None when they must be read, which may fail.
pub fn of_request(organization: Option<&Uuid>, user: Option<&Uuid>) -> Option<OfRequest> {
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
        Some(OfRequest { tier, policies })
    })
}

/// The policies of a tier that belongs to nobody in particular.
pub fn of_tier(tier: &str) -> Option<Rc<[Policy]>> {
    fresh(|known| known.by_tiers.get(&(tier.into(), tier.into())).cloned())
}

fn fresh<T>(look_up: impl FnOnce(&Known) -> Option<T>) -> Option<T> {
    let now = EPOCH.refresh();
    KNOWN.with_borrow(|known| (known.epoch == now).then(|| look_up(known))?)
}

fn without_organization(user: Option<&Uuid>) -> Tier {
    user.map_or(policy::ANONYMOUS, |_| policy::USER).into()
}

/// Reads the tiers of an organization and of a user. An organization without one has the tier for any, a user without one
/// that of the request.
pub fn read_request(organization: Option<&Uuid>, user: Option<&Uuid>) -> OfRequest {
    let epoch = watch();
    let tier = match organization {
        Some(organization) => read_own(organization).unwrap_or_else(|| policy::ANY_TIER.into()),
        None => without_organization(user),
    };
    let own = user.and_then(|user| read_own(&subject::of(subject::USER, user)));
    let policies = read(epoch, &tier, own.as_ref().unwrap_or(&tier));
    KNOWN.with_borrow_mut(|known| {
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
    OfRequest { tier, policies }
}

fn read_own(subject: &Uuid) -> Option<Tier> {
    TIER.with(|statement| {
        statement.read(&[Some(datum::uuid_datum(subject))], |rows| {
            rows.first().and_then(|row| row.text(1)).map(Tier::from)
        })
    })
}

pub fn read_tier(tier: &str) -> Rc<[Policy]> {
    let tier = tier.into();
    read(watch(), &tier, &tier)
}

/// What changes while it is read is read again: the epoch is that from before.
fn read(epoch: u64, tier: &Tier, users: &Tier) -> Rc<[Policy]> {
    if KNOWN.with_borrow(|known| known.epoch != epoch) {
        let policies = POLICIES
            .with(|statement| statement.read(&[], |rows| rows.iter().map(policy).collect()));
        KNOWN.set(Known {
            epoch,
            policies,
            ..Known::default()
        });
    }
    KNOWN.with_borrow_mut(|known| {
        let policies: Rc<[Policy]> = policy::of_request(&known.policies, tier, users).into();
        let tiers = (tier.clone(), users.clone());
        known.by_tiers.insert(tiers, policies.clone());
        policies
    })
}

fn policy(row: &Row) -> Policy {
    let text = |column| row.text(column).map(String::into_boxed_str);
    let number = |column| u32::try_from(row.integer(column).unwrap_or(0)).unwrap_or(0);
    let (rate, burst) = (number(6), number(8));
    let nanos = row
        .integer(7)
        .unwrap_or(0)
        .unsigned_abs()
        .saturating_mul(1_000);
    let name = text(1).unwrap_or_default();
    let limit = gcra::Policy::new(rate, nanos, burst);
    let scope = text(3).and_then(|scope| Scope::parse(&scope));
    // The table's checks let nothing else in.
    let (Ok(limit), Some(scope)) = (limit, scope) else {
        error!("kijko.rate_limit_policies: the policy {name} is not usable");
    };
    Policy {
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

/// Watches the tables, and says what they are as of.
fn watch() -> u64 {
    EPOCH.watch(&[
        query::table(c"rate_limit_policies"),
        query::table(c"tier_changes"),
    ])
}

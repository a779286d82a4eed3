//! Caches policies in this backend until one of them changes, and tiers until one of their group does (pg/cache_stamp.rs).

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::prelude::*;

use super::policy::{self, RateLimitPolicy, Scope};
use crate::pg::cache_stamp::{self, CacheKind, Group};
use crate::pg::datum;
use crate::pg::query::{self, Row, Statement};
use crate::pg::scan::{self, ScanKey};
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::rate_limit::gcra;
use crate::subject;

/// Maximum number of organizations and of users. When it is reached, the cache is emptied.
const CAPACITY: usize = 65_536;
/// Maximum number of pairs of tiers.
const CAPACITY_OF_TIERS: usize = 1_024;

type Uuid = [u8; 16];
pub type Tier = Rc<str>;

#[derive(Default)]
struct Policies {
    stamp: u64,
    all: Vec<RateLimitPolicy>,
    /// By the tiers of the request and of its user.
    by_tiers: HashMap<(Tier, Tier), Rc<[RateLimitPolicy]>>,
}

/// The tier of a subject. None for one without a tier of its own.
struct CachedTier {
    tier: Option<Tier>,
    stamp: u64,
    group: Group,
}

#[derive(Default)]
struct Cache {
    policies: Policies,
    organizations: HashMap<Uuid, CachedTier>,
    users: HashMap<Uuid, CachedTier>,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
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
    cache_stamp::refresh();
    CACHE.with_borrow(|known| {
        let tier = match organization {
            Some(organization) => of_organization(known.organizations.get(organization)?.get()?),
            None => without_organization(user),
        };
        let own = match user {
            Some(user) => known.users.get(user)?.get()?.clone(),
            None => None,
        };
        let tiers = (tier.clone(), own.unwrap_or_else(|| tier.clone()));
        let policies = known.policies.get(&tiers)?;
        Some(RequestPolicies { tier, policies })
    })
}

/// The cached policies of a tier that no subject has.
pub fn of_tier(tier: &str) -> Option<Rc<[RateLimitPolicy]>> {
    cache_stamp::refresh();
    CACHE.with_borrow(|known| known.policies.get(&(tier.into(), tier.into())))
}

impl Policies {
    fn is_valid(&self) -> bool {
        cache_stamp::is_valid(self.stamp, CacheKind::RateLimitPolicies.whole())
    }

    fn get(&self, tiers: &(Tier, Tier)) -> Option<Rc<[RateLimitPolicy]>> {
        let policies = self.by_tiers.get(tiers)?;
        self.is_valid().then(|| policies.clone())
    }
}

impl CachedTier {
    fn get(&self) -> Option<&Option<Tier>> {
        cache_stamp::is_valid(self.stamp, self.group).then_some(&self.tier)
    }

    /// Takes the stamp before it reads, so that a change in between is read again.
    fn read(subject: &Uuid) -> Self {
        let stamp = cache_stamp::take();
        // SAFETY: the snapshot is active.
        let tier = scan::with_latest_snapshot(|snapshot| unsafe { stored_tier(subject, snapshot) });
        Self {
            tier: tier.map(Tier::from),
            stamp,
            group: CacheKind::Tiers.of(subject),
        }
    }
}

/// # Safety
/// The snapshot is active.
unsafe fn stored_tier(subject: &Uuid, snapshot: pg_sys::Snapshot) -> Option<String> {
    let keys = [ScanKey::new(1, subject)];
    // SAFETY: the primary key is of type uuid.
    unsafe { scan::find(query::table(c"tiers"), &keys, snapshot, |row| row.text(2)) }.flatten()
}

sql_function!(kijko_find_tier, pg_finfo_kijko_find_tier, find_tier);

/// `kijko.find_tier(subject)`: as the running statement sees it; null without one.
fn find_tier(arguments: Arguments) -> Answer {
    // SAFETY: a statement runs under an active snapshot.
    let tier = arguments
        .uuid(0)
        .and_then(|subject| unsafe { stored_tier(&subject, pg_sys::GetActiveSnapshot()) });
    Ok(tier.map_or_else(|| arguments.null(), |tier| datum::text_datum(&tier)))
}

fn of_organization(own: &Option<Tier>) -> Tier {
    own.clone().unwrap_or_else(|| policy::ANY_TIER.into())
}

fn without_organization(user: Option<&Uuid>) -> Tier {
    user.map_or(policy::ANONYMOUS, |_| policy::USER).into()
}

/// Reads the tiers of an organization and of a user, and their policies. Without a tier of its own, an organization has the
/// tier `*`, and a user that of the request.
pub fn read_request(organization: Option<&Uuid>, user: Option<&Uuid>) -> RequestPolicies {
    let tier = match organization {
        Some(organization) => {
            let read = CachedTier::read(organization);
            let tier = of_organization(&read.tier);
            CACHE.with_borrow_mut(|known| keep(&mut known.organizations, organization, read));
            tier
        }
        None => without_organization(user),
    };
    let own = user.and_then(|user| {
        let read = CachedTier::read(&subject::of(subject::USER, user));
        let tier = read.tier.clone();
        CACHE.with_borrow_mut(|known| keep(&mut known.users, user, read));
        tier
    });
    let policies = read(&tier, own.as_ref().unwrap_or(&tier));
    RequestPolicies { tier, policies }
}

fn keep(tiers: &mut HashMap<Uuid, CachedTier>, id: &Uuid, tier: CachedTier) {
    if tiers.len() >= CAPACITY && !tiers.contains_key(id) {
        tiers.clear();
    }
    tiers.insert(*id, tier);
}

pub fn read_tier(tier: &str) -> Rc<[RateLimitPolicy]> {
    let tier = tier.into();
    read(&tier, &tier)
}

fn read(tier: &Tier, users: &Tier) -> Rc<[RateLimitPolicy]> {
    let stamp = cache_stamp::take();
    if CACHE.with_borrow(|known| !known.policies.is_valid()) {
        let all = POLICIES
            .with(|statement| statement.read(&[], |rows| rows.iter().map(policy).collect()));
        CACHE.with_borrow_mut(|known| {
            known.policies = Policies {
                stamp,
                all,
                by_tiers: HashMap::new(),
            };
        });
    }
    CACHE.with_borrow_mut(|known| {
        let policies: Rc<[RateLimitPolicy]> =
            policy::of_request(&known.policies.all, tier, users).into();
        let tiers = (tier.clone(), users.clone());
        if known.policies.by_tiers.len() >= CAPACITY_OF_TIERS {
            known.policies.by_tiers.clear();
        }
        known.policies.by_tiers.insert(tiers, policies.clone());
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

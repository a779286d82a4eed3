//! Caches the organization of each member's requests. Only the domain reads memberships; it passes what it found to this
//! backend, which keeps it until a membership of the member's group changes (pg/cache_stamp.rs).
//!
//! No entry outlives a membership. The domain calls kijko.membership_epoch() before it takes the snapshot that it reads with.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::prelude::*;

use crate::caller::{self, Caller};
use crate::pg::cache_stamp::{self, CacheKind};
use crate::pg::datum::uuid_datum;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};
use crate::{claims, headers};

sql_function!(
    kijko_requested_org_id,
    pg_finfo_kijko_requested_org_id,
    requested_org_id
);
sql_function!(
    kijko_membership_epoch,
    pg_finfo_kijko_membership_epoch,
    membership_epoch
);
sql_function!(
    kijko_cache_membership,
    pg_finfo_kijko_cache_membership,
    cache_membership
);

/// Maximum number of entries. When it is reached, the cache is emptied.
const CAPACITY: usize = 16_384;
const HEADER: &str = "x-org-id";
const CLAIM: &str = "org_id";
/// How many factors the session has shown. The domain may count a membership only with two.
const LEVEL: &str = "aal";

type Uuid = [u8; 16];

/// By member, the organization that the request names, if any, and whether the session has a second factor: the organization, and
/// the stamp that it was read under.
type Cache = HashMap<(Uuid, Option<Uuid>, bool), (Uuid, u64)>;

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// The user who makes this request, and its organization. None without a user, without a cached membership, and when the
/// request names an organization of which the user is not a member.
pub fn current_member() -> Option<(Uuid, Uuid)> {
    let Caller::User(user) = caller::caller() else {
        return None; // a key acts for its organization alone
    };
    let wanted = requested().ok()?;
    cache_stamp::refresh();
    CACHE.with_borrow(|known| {
        let (organization, stamp) = known.get(&(user, wanted, has_second_factor()))?;
        cache_stamp::is_valid(*stamp, CacheKind::Memberships.of(&user))
            .then_some((user, *organization))
    })
}

/// The organization in which a user's requests were last admitted, with or without naming it. For the log: it may be outdated. Calls
/// nothing of Postgres.
pub fn last_known(user: &Uuid, wanted: Option<Uuid>, second_factor: bool) -> Option<Uuid> {
    CACHE.with(|cache| {
        let known = cache.try_borrow().ok()?;
        let (organization, _) = known.get(&(*user, wanted, second_factor))?;
        Some(*organization)
    })
}

/// The organization that the request names: by its header, else by a claim of its token. An error when the header is not a
/// uuid. Both the domain's public.org_id() and this cache use it, so they agree about a request.
fn requested() -> Result<Option<Uuid>, Refusal> {
    Ok(requested_by_header()?
        .or_else(|| claims::with(|claims| claims::parse_uuid(claims.get(CLAIM)?.as_str()?))))
}

pub fn requested_by_header() -> Result<Option<Uuid>, Refusal> {
    match headers::of_request(HEADER, str::to_owned) {
        Some(named) if !named.is_empty() => claims::parse_uuid(&named)
            .map(Some)
            .ok_or_else(|| Refusal::new("bad_request", "header x-org-id: not a uuid", None)),
        _ => Ok(None),
    }
}

fn has_second_factor() -> bool {
    claims::with(|claims| {
        claims
            .get(LEVEL)?
            .as_str()
            .map(|level| matches!(level, "aal2" | "aal3"))
    })
    .unwrap_or(false)
}

fn requested_org_id(arguments: Arguments) -> Answer {
    Ok(requested()?.map_or_else(
        || arguments.null(),
        |organization| uuid_datum(&organization),
    ))
}

/// The stamp of what is read from now on.
fn membership_epoch(_: Arguments) -> Answer {
    Ok(pg_sys::Datum::from(cache_stamp::take()))
}

/// Arguments: epoch, member, the organization that the request named (null: none), the one found.
fn cache_membership(arguments: Arguments) -> Answer {
    let nothing = pg_sys::Datum::null(); // void is not null
    let (Some(epoch), Some(member), Some(organization)) =
        (arguments.integer(0), arguments.uuid(1), arguments.uuid(3))
    else {
        return Ok(nothing);
    };
    // SAFETY: reads a variable.
    let isolation = unsafe { pg_sys::XactIsoLevel } as u32;
    if isolation >= pg_sys::XACT_REPEATABLE_READ {
        return Ok(nothing); // its snapshot may be older than the epoch
    }
    let second_factor = has_second_factor();
    CACHE.with_borrow_mut(|known| {
        let key = (member, arguments.uuid(2), second_factor);
        if known.len() >= CAPACITY && !known.contains_key(&key) {
            known.clear();
        }
        known.insert(key, (organization, epoch.unsigned_abs()));
    });
    Ok(nothing)
}

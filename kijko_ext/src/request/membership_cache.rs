//! Caches the organization of each member's requests. Only the domain reads memberships; it passes what it found to this
//! backend, which keeps it until any membership changes.
//!
//! No entry outlives a membership. The domain calls kijko.membership_epoch() before it takes the snapshot that it reads with.
//! A change that this snapshot does not see commits later and raises the epoch before its commit returns. Entries of an older
//! epoch are ignored.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::prelude::*;

use crate::caller::{self, Caller};
use crate::pg::datum::uuid_datum;
use crate::pg::invalidation::RelcacheEpoch;
use crate::pg::sql_function::{Answer, Arguments, Refusal, sql_function};
use crate::pg::{query, trigger};
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
sql_function!(
    kijko_membership_changed,
    pg_finfo_kijko_membership_changed,
    membership_changed
);

/// Maximum number of entries. When it is reached, the cache is emptied.
const CAPACITY: usize = 16_384;
const HEADER: &str = "x-org-id";
const CLAIM: &str = "org_id";

type Uuid = [u8; 16];

#[derive(Default)]
struct Cache {
    epoch: u64,
    /// By member and the organization that the request names, if any.
    organizations: HashMap<(Uuid, Option<Uuid>), Uuid>,
}

static EPOCH: RelcacheEpoch = RelcacheEpoch::new();

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
    let now = EPOCH.refresh();
    CACHE.with_borrow(|known| {
        let organization = known.organizations.get(&(user, wanted))?;
        (known.epoch == now).then_some((user, *organization))
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

fn requested_org_id(arguments: Arguments) -> Answer {
    Ok(requested()?.map_or_else(
        || arguments.null(),
        |organization| uuid_datum(&organization),
    ))
}

/// The epoch under which to cache what is read from now on.
fn membership_epoch(_: Arguments) -> Answer {
    let epoch = EPOCH.watch(&[query::table(c"membership_changes")]);
    Ok(pg_sys::Datum::from(epoch))
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
    CACHE.with_borrow_mut(|known| {
        if known.epoch != epoch as u64 || known.organizations.len() >= CAPACITY {
            known.organizations.clear();
            known.epoch = epoch as u64;
        }
        let wanted = arguments.uuid(2);
        known.organizations.insert((member, wanted), organization);
    });
    Ok(nothing)
}

/// Statement trigger on the domain's tables.
fn membership_changed(arguments: Arguments) -> Answer {
    // SAFETY: called as a trigger, whose context is its data.
    unsafe {
        trigger::data(arguments, "kijko.membership_changed");
        pg_sys::CacheInvalidateRelcacheByRelid(query::table(c"membership_changes"));
    }
    Ok(pg_sys::Datum::null()) // the result of an AFTER trigger is ignored
}

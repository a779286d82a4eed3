//! Finds issuers by their URL, and the user of a subject. Each backend caches the issuers that it has found, until one changes
//! (../pg/cache_stamp.rs). Unknown ones are not cached.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys;

use super::mapping::Issuer;
use crate::pg::cache_stamp::{self, CacheKind};
use crate::pg::query::{self, Row, Statement};
use crate::pg::scan::{self, ScanKey, Tuple};
use crate::pg::value::Value;

/// Maximum number of URLs. When it is reached, the cache is emptied.
const CAPACITY: usize = 256;
/// The column user_id of kijko.issuer_identities, whose primary key is issuer_id, subject.
const USER_ID: i32 = 3;

type Entry = (Rc<[Issuer]>, u64);

macro_rules! enrolments {
    ($more:literal) => {
        concat!(
            "select pg_catalog.jsonb_build_object('id', i.id, 'org_id', i.org_id, 'audiences', i.audiences, 'role_claims', i.role_claims,
       'role_map', i.role_map, 'default_role', i.default_role, 'org_claim', i.org_claim, 'org_value', i.org_value,
       'email_domains', i.email_domains, 'jwks', i.jwks)::text
     from kijko.issuers as i where i.url = $1 and i.enabled and i.jwks is not null ",
            $more
        )
    };
}

thread_local! {
    static CACHE: RefCell<HashMap<String, Entry>> = RefCell::default();

    static BY_URL: Statement = const { Statement::new(
    enrolments!("order by i.created_at, i.id limit 100"),
    &[pg_sys::TEXTOID],
    ) };

    static OF_ORGANIZATION: Statement = const { Statement::new(
    enrolments!("and i.org_id = $2"),
    &[pg_sys::TEXTOID, pg_sys::UUIDOID],
    ) };
}

fn parse(row: &Row) -> Option<Issuer> {
    Issuer::parse(&row.text(1)?)
}

/// The enrolments of an issuer whose keys are known: the oldest, because anybody may enrol a URL.
pub fn by_url(url: &str) -> Rc<[Issuer]> {
    cache_stamp::refresh();
    let cached = CACHE.with_borrow(|known| {
        let (issuers, stamp) = known.get(url)?;
        cache_stamp::is_valid(*stamp, CacheKind::Issuers.whole()).then(|| issuers.clone())
    });
    if let Some(issuers) = cached {
        return issuers;
    }
    // Not there under an older SQL of the extension.
    if query::find_table(c"issuers").is_none() {
        return Rc::from([]);
    }
    let stamp = cache_stamp::take();
    let issuers: Rc<[Issuer]> = BY_URL.with(|statement| {
        let values = [Value::from(url)];
        statement.read(&values, |rows| rows.iter().filter_map(parse).collect())
    });
    CACHE.with_borrow_mut(|known| {
        if known.len() >= CAPACITY && !known.contains_key(url) {
            known.clear();
        }
        match issuers.is_empty() {
            true => _ = known.remove(url),
            false => _ = known.insert(url.to_owned(), (issuers.clone(), stamp)),
        }
    });
    issuers
}

/// The enrolment of an organization, if it is younger than all of `oldest`. Not cached: who asks names any organization.
pub fn younger(url: &str, organization: &[u8; 16], oldest: &[Issuer]) -> Option<Issuer> {
    let is_known = |issuer: &Issuer| issuer.organization == *organization;
    if oldest.is_empty() || oldest.iter().any(is_known) {
        return None;
    }
    OF_ORGANIZATION.with(|statement| {
        let values = [Value::from(url), Value::from(organization)];
        statement.read(&values, |rows| rows.first().and_then(parse))
    })
}

/// The user whom a subject of an issuer was provisioned as.
pub fn user(issuer: &[u8; 16], subject: &str) -> Option<[u8; 16]> {
    let identities = query::find_table(c"issuer_identities")?;
    let read = |row: &Tuple| row.uuid(USER_ID);
    scan::with_latest_snapshot(|snapshot| {
        let keys = [ScanKey::new(1, issuer), ScanKey::new(2, subject)];
        // SAFETY: the primary key is of type uuid and text.
        unsafe { scan::find(identities, &keys, snapshot, read).flatten() }
    })
}

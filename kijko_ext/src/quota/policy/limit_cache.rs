//! The limit of a subject's meter and its current period. Each backend caches them until limits or calendars change, so
//! that a call reads no table.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::pg_sys;

use super::period::{Calendar, Calendars, Period, PeriodKind};
use crate::pg::cache_stamp::{self, CacheKind};
use crate::pg::query;
use crate::pg::scan::{self, ScanKey, Tuple};
use crate::pg::sql_function::{Answer, Arguments, sql_function};
use crate::quota::counter::slot_table::CounterKey;
use crate::quota::meter_key::is_meter;

/// Maximum number of cached rules. When it is reached, the cache is emptied.
const CAPACITY: usize = 16_384;
/// Maximum number for one subject, so that it cannot displace those of others. The oldest one goes first.
const CAPACITY_OF_SUBJECT: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OveragePolicy {
    Refuse,
    Flag,
    Bill,
}

#[derive(Clone, Copy, Debug)]
pub struct QuotaPolicy {
    pub kind: PeriodKind,
    /// Units in a period. None is unlimited.
    pub limit: Option<i64>,
    pub overage_policy: OveragePolicy,
    pub period: Period,
    pub key: CounterKey,
}

impl QuotaPolicy {
    /// The limit above which uses are flagged or billed.
    fn overage_limit(&self) -> Option<i64> {
        self.limit
            .filter(|_| !matches!(self.overage_policy, OveragePolicy::Refuse))
    }

    /// The change of the overage when `change` units bring the use to `used`: positive for a rise, negative for a fall.
    /// `unrecorded_overage` is the part of an ended hold that lay above the limit and was never recorded.
    pub fn overage(&self, used: i64, change: i64, unrecorded_overage: i64) -> i64 {
        self.overage_limit().map_or(0, |limit| {
            rise_above(limit, used, change).saturating_add(unrecorded_overage)
        })
    }
}

fn rise_above(limit: i64, used: i64, change: i64) -> i64 {
    let above = |used: i64| used.saturating_sub(limit).max(0);
    above(used).saturating_sub(above(used.saturating_sub(change)))
}

/// A row of kijko.limits with the subject's calendar.
struct Rule {
    limit: Option<i64>,
    overage_policy: OveragePolicy,
    /// None when the meter has no limit.
    kind: Option<PeriodKind>,
    /// Since when the meter has periods of this kind.
    since: i64,
    next: Option<(PeriodKind, i64)>,
    calendars: Calendars,
    ledger: pg_sys::Oid,
    stamp: u64,
    /// The last result.
    last: Option<QuotaPolicy>,
}

#[derive(Default)]
struct Rules {
    by_subject: HashMap<[u8; 16], Vec<(Box<str>, Rule)>>,
    count: usize,
}

thread_local! {
    static RULES: RefCell<Rules> = RefCell::default();
}

/// The policy of a subject's meter at `now` (Postgres microseconds). A meter without a limit is unlimited, and its
/// period is `otherwise`.
pub fn of(subject: &[u8; 16], meter: &str, now: i64, otherwise: PeriodKind) -> QuotaPolicy {
    if let Some(policy) = cached(subject, meter, now, otherwise) {
        return policy;
    }
    // Before reading: a change during the read must make the cached rule stale.
    let stamp = cache_stamp::take();
    let mut rule = read(subject, meter, query::table(c"ledger"), stamp);
    let policy = rule.at(subject, meter, now, otherwise);
    // Any text may be asked about. A meter's name is short.
    if is_meter(meter) {
        RULES.with_borrow_mut(|rules| rules.insert(subject, meter, rule));
    }
    policy
}

/// The policy, if it is cached. Reads nothing, so it cannot fail.
pub fn cached(
    subject: &[u8; 16],
    meter: &str,
    now: i64,
    otherwise: PeriodKind,
) -> Option<QuotaPolicy> {
    cache_stamp::refresh();
    RULES.with_borrow_mut(|rules| {
        let (_, rule) = rules
            .by_subject
            .get_mut(subject)?
            .iter_mut()
            .find(|(name, _)| **name == *meter)?;
        cache_stamp::is_valid(rule.stamp, CacheKind::Limits.of(subject))
            .then(|| rule.at(subject, meter, now, otherwise))
    })
}

impl Rules {
    fn insert(&mut self, subject: &[u8; 16], meter: &str, rule: Rule) {
        if self.count >= CAPACITY {
            *self = Self::default();
        }
        let rules = self.by_subject.entry(*subject).or_default();
        let before = rules.len();
        let group = CacheKind::Limits.of(subject);
        rules.retain(|(name, old)| **name != *meter && cache_stamp::is_valid(old.stamp, group));
        if rules.len() >= CAPACITY_OF_SUBJECT {
            rules.remove(0);
        }
        rules.push((meter.into(), rule));
        self.count = self.count - before + rules.len();
    }
}

/// Columns of kijko.limits.
mod limit {
    pub const SUBJECT: i16 = 1;
    pub const METER: i16 = 2;
    pub const PERIOD: i32 = 3;
    pub const AMOUNT: i32 = 4;
    pub const OVERAGE_POLICY: i32 = 5;
    pub const NEXT_PERIOD: i32 = 6;
    pub const NEXT_PERIOD_FROM: i32 = 7;
    pub const PERIOD_FROM: i32 = 8;
}

/// Columns of kijko.calendars.
mod calendar {
    pub const SUBJECT: i16 = 1;
    pub const TIME_ZONE: i32 = 2;
    pub const BILLING_ANCHOR: i32 = 3;
    pub const FORMER_TIME_ZONE: i32 = 4;
    pub const FORMER_BILLING_ANCHOR: i32 = 5;
    pub const CHANGED_AT: i32 = 6;
}

/// The limit and the calendar, by one snapshot.
fn read(subject: &[u8; 16], meter: &str, ledger: pg_sys::Oid, stamp: u64) -> Rule {
    let mut rule = Rule {
        limit: None,
        overage_policy: OveragePolicy::Refuse,
        kind: None,
        since: i64::MIN,
        next: None,
        calendars: Calendars {
            present: Calendar::utc(None),
            former: None,
        },
        ledger,
        stamp,
        last: None,
    };
    let of_meter = [
        ScanKey::new(limit::SUBJECT, subject),
        ScanKey::new(limit::METER, meter),
    ];
    let of_subject = [ScanKey::new(calendar::SUBJECT, subject)];
    let (limits, calendars) = (query::table(c"limits"), query::table(c"calendars"));
    // SAFETY: the primary keys are of these types.
    scan::with_latest_snapshot(|snapshot| unsafe {
        scan::find(limits, &of_meter, snapshot, |row| rule.set_limit(row));
        if let Some(calendars) = scan::find(calendars, &of_subject, snapshot, calendars_of) {
            rule.calendars = calendars;
        }
    });
    rule
}

sql_function!(kijko_find_limit, pg_finfo_kijko_find_limit, find_limit);

/// `kijko.find_limit(subject, meter)`: the row of kijko.limits that the running statement sees; null without one.
fn find_limit(arguments: Arguments) -> Answer {
    let (Some(subject), Some(meter)) = (arguments.uuid(0), arguments.text(1)) else {
        return Ok(arguments.null());
    };
    let keys = [
        ScanKey::new(limit::SUBJECT, &subject),
        ScanKey::new(limit::METER, meter),
    ];
    // SAFETY: the primary key is of these types. A statement runs under an active snapshot.
    let found = unsafe {
        let snapshot = pg_sys::GetActiveSnapshot();
        scan::find(
            query::table(c"limits"),
            &keys,
            snapshot,
            Tuple::to_composite,
        )
    };
    Ok(found.unwrap_or_else(|| arguments.null()))
}

fn calendars_of(row: &Tuple) -> Calendars {
    // Only zones that the library knows can be stored. Otherwise UTC, rather than no limit.
    let calendar = |zone, anchor| {
        let (zone, anchor) = (row.text(zone), row.integer(anchor));
        zone.and_then(|zone| Calendar::new(&zone, anchor))
            .unwrap_or(Calendar::utc(anchor))
    };
    let former = |at| {
        let (zone, anchor) = (calendar::FORMER_TIME_ZONE, calendar::FORMER_BILLING_ANCHOR);
        (calendar(zone, anchor), at)
    };
    Calendars {
        present: calendar(calendar::TIME_ZONE, calendar::BILLING_ANCHOR),
        former: row.integer(calendar::CHANGED_AT).map(former),
    }
}

impl Rule {
    /// Takes over a row of kijko.limits.
    fn set_limit(&mut self, row: &Tuple) {
        let kind = |column| row.text(column).as_deref().and_then(PeriodKind::parse);
        self.limit = row.integer(limit::AMOUNT);
        self.overage_policy = match row.text(limit::OVERAGE_POLICY).as_deref() {
            Some("flag") => OveragePolicy::Flag,
            Some("bill") => OveragePolicy::Bill,
            _ => OveragePolicy::Refuse,
        };
        self.kind = kind(limit::PERIOD);
        self.since = row.integer(limit::PERIOD_FROM).unwrap_or(i64::MIN);
        self.next = kind(limit::NEXT_PERIOD).zip(row.integer(limit::NEXT_PERIOD_FROM));
    }

    fn at(
        &mut self,
        subject: &[u8; 16],
        meter: &str,
        now: i64,
        otherwise: PeriodKind,
    ) -> QuotaPolicy {
        if let Some(last) = self.last
            && (last.period.start..last.period.end).contains(&now)
            && (self.kind.is_some() || last.kind == otherwise)
        {
            return last;
        }
        let kind = self.kind.unwrap_or(otherwise);
        let (kind, from, until) = match self.next {
            Some((next, from)) if now >= from => (next, from, i64::MAX),
            // A past use from before a change of kind. The former kind is not stored.
            _ if now < self.since => (kind, i64::MIN, self.since),
            Some((_, from)) => (kind, self.since, from),
            None => (kind, self.since, i64::MAX),
        };
        let period = self.calendars.period(kind, now);
        let period = Period {
            start: period.start.max(from),
            end: period.end.min(until),
        };
        let policy = QuotaPolicy {
            kind,
            limit: self.limit,
            overage_policy: self.overage_policy,
            period,
            key: CounterKey::new(self.ledger, subject, meter, period.start),
        };
        self.last = Some(policy);
        policy
    }
}

/// The period of a kind by a subject's calendar alone.
pub fn calendar_period(subject: &[u8; 16], kind: PeriodKind, now: i64) -> Period {
    calendars(subject).period(kind, now)
}

/// Whether a current period is affected by the last change of the calendar.
pub fn calendar_is_changing(subject: &[u8; 16], now: i64) -> bool {
    calendars(subject).is_changing(now)
}

fn calendars(subject: &[u8; 16]) -> Calendars {
    // No meter has an empty name, so this reads no limit.
    read(subject, "", query::table(c"ledger"), 0).calendars
}

#[cfg(test)]
mod unit {
    use super::*;

    fn rule() -> Rule {
        let present = Calendar::utc(None);
        Rule {
            limit: None,
            overage_policy: OveragePolicy::Refuse,
            kind: None,
            since: i64::MIN,
            next: None,
            calendars: Calendars {
                present,
                former: None,
            },
            ledger: pg_sys::InvalidOid,
            stamp: 1,
            last: None,
        }
    }

    #[test]
    fn a_subject_and_all_of_them_have_a_bound() {
        let mut rules = Rules::default();
        for meter in 0..1_000 {
            rules.insert(&[1; 16], &format!("m{meter}"), rule());
        }
        assert_eq!(rules.count, CAPACITY_OF_SUBJECT);
        assert_eq!(&*rules.by_subject[&[1; 16]].last().unwrap().0, "m999");
        for subject in 0..100_000_u128 {
            rules.insert(&subject.to_ne_bytes(), "m", rule());
            rules.insert(&subject.to_ne_bytes(), "m", rule());
            assert!(rules.count <= CAPACITY);
        }
        let counted: usize = rules.by_subject.values().map(Vec::len).sum();
        assert_eq!(rules.count, counted);
    }

    #[test]
    fn overage_follows_the_use() {
        for (used, change, above) in [
            (9, 9, 0),
            (10, 1, 0),
            (12, 3, 2),
            (14, 2, 2),
            (12, -2, -2),
            (8, -6, -4),
            (5, -3, 0),
            (i64::MAX, i64::MAX, i64::MAX - 10),
            (i64::MIN, i64::MIN, 0),
        ] {
            assert_eq!(rise_above(10, used, change), above, "{change} to {used}");
        }
    }
}

//! Which limit holds for a subject's meter, and for which period: cached in this backend until somebody changes limits
//! or calendars, so that a call reads nothing.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::pg_sys;

use super::period::{Calendar, Calendars, Kind, Period};
use super::table::Key;
use crate::pg::datum;
use crate::pg::invalidation::RelcacheEpoch;
use crate::pg::query::{self, Statement};

/// What this backend has cached of limits, calendars and partitions: triggers tell of changes, and the DDL that makes, rolls
/// up and detaches partitions.
pub static EPOCH: RelcacheEpoch = RelcacheEpoch::new();

/// Subjects whose limits are kept; more than that, and all are forgotten.
const CAPACITY: usize = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Refuse,
    Flag,
    Bill,
}

#[derive(Clone, Copy, Debug)]
pub struct Policy {
    pub kind: Kind,
    /// Units in a period; None is unlimited.
    pub limit: Option<i64>,
    pub over: Over,
    pub period: Period,
    pub key: Key,
}

impl Policy {
    /// The limit above which uses are flagged or billed.
    fn free_until(&self) -> Option<i64> {
        self.limit.filter(|_| !matches!(self.over, Over::Refuse))
    }

    /// By how much the part above such a limit changes when `change` units take the use to `used`: a rise adds to it,
    /// a fall gives back. `unbooked` of what falls away lay above it and was never booked, as a hold's.
    pub fn overage(&self, used: i64, change: i64, unbooked: i64) -> i64 {
        self.free_until().map_or(0, |limit| {
            rise_above(limit, used, change).saturating_add(unbooked)
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
    over: Over,
    /// None when the meter has no limit.
    kind: Option<Kind>,
    /// When the meter began to have periods of this kind.
    since: i64,
    next: Option<(Kind, i64)>,
    calendars: Calendars,
    ledger: pg_sys::Oid,
    /// The answer for the period asked about last.
    last: Option<Policy>,
}

type Rules = HashMap<[u8; 16], Vec<(Box<str>, Rule)>>;

thread_local! {
    static RULES: RefCell<(u64, Rules)> = RefCell::new((0, HashMap::new()));
    static RULE: Statement = const { Statement::new(
        "select l.period, l.amount, l.\"over\", l.next_period, l.next_period_from, \
                c.time_zone, c.billing_anchor, c.former_time_zone, c.former_billing_anchor, c.changed_at, l.period_from \
         from (select) as one \
         left join kijko.limits as l on l.subject operator(pg_catalog.=) $1 and l.meter operator(pg_catalog.=) $2 \
         left join kijko.calendars as c on c.subject operator(pg_catalog.=) $1",
        &[pg_sys::UUIDOID, pg_sys::TEXTOID],
    ) };
}

/// The policy of a subject's meter at `now` (Postgres microseconds). A meter without a limit is unlimited, and its
/// period is `otherwise`.
pub fn of(subject: &[u8; 16], meter: &str, now: i64, otherwise: Kind) -> Policy {
    if let Some(policy) = known(subject, meter, now, otherwise) {
        return policy;
    }
    // Before reading: what changes while the rule is read makes it worthless again.
    let ledger = query::table(c"ledger");
    let epoch = EPOCH.watch(&[
        query::table(c"limit_changes"),
        ledger,
        query::table(c"ledger_partitions"),
    ]);
    let mut rule = read(subject, meter, ledger);
    let policy = rule.at(subject, meter, now, otherwise);
    RULES.with_borrow_mut(|(known, rules)| {
        if *known != epoch || rules.len() >= CAPACITY {
            rules.clear();
            *known = epoch;
        }
        let meters = rules.entry(*subject).or_default();
        meters.retain(|(name, _)| **name != *meter);
        meters.push((meter.into(), rule));
    });
    policy
}

/// The policy if this backend knows it already: reads nothing, so it cannot fail.
pub fn known(subject: &[u8; 16], meter: &str, now: i64, otherwise: Kind) -> Option<Policy> {
    let current = EPOCH.refresh();
    RULES.with_borrow_mut(|(epoch, rules)| {
        if *epoch != current {
            return None;
        }
        let (_, rule) = rules
            .get_mut(subject)?
            .iter_mut()
            .find(|(name, _)| **name == *meter)?;
        Some(rule.at(subject, meter, now, otherwise))
    })
}

fn read(subject: &[u8; 16], meter: &str, ledger: pg_sys::Oid) -> Rule {
    let values = [
        Some(datum::uuid_datum(subject)),
        Some(datum::text_datum(meter)),
    ];
    RULE.with(|statement| {
        statement.read(&values, |rows| {
            let row = &rows[0];
            let kind = |column| row.text(column).as_deref().and_then(Kind::parse);
            // A zone that the library does not know cannot have been stored; UTC then, rather than no limit.
            let calendar = |zone: Option<String>, anchor| {
                zone.and_then(|zone| Calendar::new(&zone, anchor))
                    .unwrap_or(Calendar::utc(anchor))
            };
            Rule {
                limit: row.integer(2),
                over: match row.text(3).as_deref() {
                    Some("flag") => Over::Flag,
                    Some("bill") => Over::Bill,
                    _ => Over::Refuse,
                },
                kind: kind(1),
                since: row.integer(11).unwrap_or(i64::MIN),
                next: kind(4).zip(row.integer(5)),
                calendars: Calendars {
                    present: calendar(row.text(6), row.integer(7)),
                    former: row
                        .integer(10)
                        .map(|at| (calendar(row.text(8), row.integer(9)), at)),
                },
                ledger,
                last: None,
            }
        })
    })
}

impl Rule {
    fn at(&mut self, subject: &[u8; 16], meter: &str, now: i64, otherwise: Kind) -> Policy {
        if let Some(last) = self.last
            && (last.period.start..last.period.end).contains(&now)
            && (self.kind.is_some() || last.kind == otherwise)
        {
            return last;
        }
        let kind = self.kind.unwrap_or(otherwise);
        let (kind, from, until) = match self.next {
            Some((next, from)) if now >= from => (next, from, i64::MAX),
            // Told late, of before a change: what the periods were then is not kept.
            _ if now < self.since => (kind, i64::MIN, self.since),
            Some((_, from)) => (kind, self.since, from),
            None => (kind, self.since, i64::MAX),
        };
        let period = self.calendars.period(kind, now);
        let period = Period {
            start: period.start.max(from),
            end: period.end.min(until),
        };
        let policy = Policy {
            kind,
            limit: self.limit,
            over: self.over,
            period,
            key: Key::new(self.ledger, subject, meter, period.start),
        };
        self.last = Some(policy);
        policy
    }
}

/// The period of a kind by a subject's calendar alone.
pub fn calendar_period(subject: &[u8; 16], kind: Kind, now: i64) -> Period {
    calendars(subject).period(kind, now)
}

/// Whether the last change of the calendar still shows in a period that is running.
pub fn calendar_is_changing(subject: &[u8; 16], now: i64) -> bool {
    calendars(subject).is_changing(now)
}

fn calendars(subject: &[u8; 16]) -> Calendars {
    // No meter has an empty name, so no limit is found.
    read(subject, "", query::table(c"ledger")).calendars
}

#[cfg(test)]
mod unit {
    use super::rise_above;

    #[test]
    fn what_lies_above_the_limit_rises_and_falls_with_the_use() {
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

//! What was delivered a moment ago, so that it can be read again without being delivered again.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use uuid::Uuid;

/// How far back is read again. Postgres makes every transaction number durable within a second.
const SPAN: Duration = Duration::from_secs(10);

/// Two spans of time: the present one, and the one before.
#[derive(Debug, Default)]
pub struct Recent {
    before: Span,
    present: Span,
}

#[derive(Debug, Default)]
struct Span {
    /// Where it began.
    snapshot: Option<String>,
    began: Option<Instant>,
    delivered: HashSet<Uuid>,
}

impl Recent {
    /// Notes a message. False if it was delivered before.
    pub fn add(&mut self, id: Uuid) -> bool {
        !self.before.delivered.contains(&id) && self.present.delivered.insert(id)
    }

    /// Everything up to this snapshot was delivered.
    pub fn passed(&mut self, snapshot: &str, now: Instant) {
        let began = self.present.began;
        if began.is_none_or(|began| now.saturating_duration_since(began) >= SPAN) {
            let next = Span {
                snapshot: Some(snapshot.to_owned()),
                began: Some(now),
                delivered: HashSet::new(),
            };
            self.before = std::mem::replace(&mut self.present, next);
        }
    }

    /// Where to read again from: all that was delivered since is known.
    pub fn earlier(&self) -> Option<&str> {
        let before = self.before.snapshot.as_deref();
        before.or(self.present.snapshot.as_deref())
    }
}

/// The number that the next transaction has in a snapshot: `xmin:xmax:xip`.
pub fn next_transaction(snapshot: &str) -> u64 {
    let next = snapshot.split(':').nth(1);
    next.and_then(|next| next.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_delivered_since_the_earlier_snapshot_is_known() {
        let start = Instant::now();
        let (mut recent, first, second) = (Recent::default(), Uuid::new_v4(), Uuid::new_v4());
        assert_eq!(recent.earlier(), None);
        recent.passed("1:1:", start);
        assert_eq!(recent.earlier(), Some("1:1:"));
        assert!(recent.add(first));
        recent.passed("2:2:", start + SPAN);
        assert_eq!(recent.earlier(), Some("1:1:"));
        assert!(!recent.add(first) && recent.add(second));
        recent.passed("3:3:", start + SPAN / 2 + SPAN);
        assert_eq!(recent.earlier(), Some("1:1:"));
        recent.passed("4:4:", start + 2 * SPAN);
        assert_eq!(recent.earlier(), Some("2:2:"));
        assert!(!recent.add(second));
    }

    #[test]
    fn a_snapshot_names_the_next_transaction() {
        assert_eq!(next_transaction("740:747:740,742"), 747);
        assert_eq!(next_transaction("740:740:"), 740);
        assert_eq!(next_transaction(""), 0);
    }
}

//! A budget of time: a token bucket of seconds that refills at a fixed rate. What was spent is debited afterwards and never
//! refused, so the bucket may go into debt. Its state is a theoretical arrival time as in gcra.rs: the moment at which the
//! bucket will be full again. All times are nanoseconds of one monotonic clock. Pure.

use std::time::Duration;

/// The longest debt: a subject is out of debt this long after its last request. One flood must not lock a customer out
/// for hours.
const MAX_DEBT: u64 = 60_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeBudget {
    /// Seconds refilled in a second.
    rate: f64,
    burst: Duration,
    /// In how many nanoseconds an empty bucket is full.
    refill: u64,
}

impl TimeBudget {
    /// None without a positive rate: then nothing is limited.
    pub fn new(rate: f64, burst: Duration) -> Option<Self> {
        (rate > 0.0).then(|| Self {
            rate,
            burst,
            refill: (burst.as_nanos() as f64 / rate) as u64,
        })
    }

    /// The state after `spent` nanoseconds.
    pub fn debit(&self, tat: u64, now: u64, spent: u64) -> u64 {
        let spent = (spent as f64 / self.rate) as u64;
        let latest = now.saturating_add(self.refill).saturating_add(MAX_DEBT);
        tat.max(now).saturating_add(spent).min(latest)
    }

    pub fn is_in_debt(&self, tat: u64, now: u64) -> bool {
        tat > now.saturating_add(self.refill)
    }

    pub fn rate(&self) -> f64 {
        self.rate
    }

    pub fn burst(&self) -> Duration {
        self.burst
    }

    /// In what time an empty bucket is full.
    pub fn refill(&self) -> Duration {
        Duration::from_nanos(self.refill)
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    const S: u64 = 1_000_000_000;
    const NOW: u64 = 1_000 * S;

    fn budget(rate: f64, burst: u64) -> TimeBudget {
        TimeBudget::new(rate, Duration::from_secs(burst)).unwrap()
    }

    #[test]
    fn within_the_burst_there_is_no_debt() {
        let b = budget(3.0, 15);
        let tat = (0..15).fold(0, |tat, _| b.debit(tat, NOW, S));
        assert!(!b.is_in_debt(tat, NOW));
        assert!(b.is_in_debt(b.debit(tat, NOW, S), NOW));
    }

    #[test]
    fn a_debt_is_paid_back_at_the_rate() {
        let b = budget(3.0, 15);
        let tat = b.debit(0, NOW, 30 * S); // 15 s of debt: 5 s at a rate of 3
        assert!(b.is_in_debt(tat, NOW + 5 * S - 1));
        assert!(!b.is_in_debt(tat, NOW + 5 * S));
    }

    /// Two requests at a time spend less than a rate of 3 refills.
    #[test]
    fn what_may_go_on_in_debt_pays_it_back() {
        let b = budget(3.0, 15);
        let mut tat = b.debit(0, NOW, 30 * S);
        let mut now = NOW;
        while b.is_in_debt(tat, now) {
            now += S;
            tat = b.debit(tat, now, 2 * S);
            assert!(now < NOW + 60 * S);
        }
    }

    #[test]
    fn a_debt_has_an_end() {
        let b = budget(3.0, 15);
        let tat = b.debit(0, NOW, u64::MAX);
        assert!(b.is_in_debt(tat, NOW + MAX_DEBT - 1));
        assert!(!b.is_in_debt(tat, NOW + MAX_DEBT));
    }

    #[test]
    fn an_old_state_is_a_full_bucket() {
        let b = budget(1.0, 1);
        assert_eq!(b.debit(5, NOW, S), NOW + S);
        assert!(!b.is_in_debt(5, NOW));
    }

    #[test]
    fn without_a_rate_there_is_no_budget() {
        assert_eq!(TimeBudget::new(0.0, Duration::from_secs(1)), None);
        assert_eq!(TimeBudget::new(-1.0, Duration::from_secs(1)), None);
    }
}

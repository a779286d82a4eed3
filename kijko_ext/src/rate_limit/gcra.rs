//! The generic cell rate algorithm. A key's whole state is one number, its *theoretical arrival time* (TAT): the moment
//! at which everything it used will have been paid back. All times are nanoseconds of one monotonic clock.

/// `rate` calls in `per`, at most `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// What one call costs.
    interval: u64,
    /// What `burst` calls cost: how far the TAT may lie ahead.
    capacity: u64,
    burst: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateDecision {
    pub allowed: bool,
    /// The key's state from now on.
    pub tat: u64,
    /// Calls of cost 1 that would be allowed now.
    pub remaining: u32,
    /// Until everything is paid back.
    pub reset_after: u64,
    /// Until this call would be allowed; 0 when it is.
    pub retry_after: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitError {
    NotPositive,
    /// More than a call a nanosecond, or a burst of centuries.
    OutOfRange,
}

impl RateLimit {
    pub fn new(rate: u32, per_nanos: u64, burst: u32) -> Result<Self, RateLimitError> {
        if rate == 0 || per_nanos == 0 || burst == 0 {
            return Err(RateLimitError::NotPositive);
        }
        // Rounded down: at worst a billionth too generous.
        let interval = per_nanos / u64::from(rate);
        let capacity = interval
            .checked_mul(u64::from(burst))
            .filter(|c| *c <= i64::MAX as u64);
        match capacity {
            Some(capacity) if interval > 0 => Ok(Self {
                interval,
                capacity,
                burst,
            }),
            _ => Err(RateLimitError::OutOfRange),
        }
    }

    pub fn burst(&self) -> u32 {
        self.burst
    }
}

/// Decides one call of `cost`, which must be between 1 and the burst. `tat` is 0 for a key never seen.
pub fn decide(tat: u64, now: u64, policy: RateLimit, cost: u32) -> RateDecision {
    // Nothing legitimate lies further ahead than the capacity: a lowered limit starts from there.
    let start = tat.clamp(now, now.saturating_add(policy.capacity));
    let end = start.saturating_add(policy.interval * u64::from(cost));
    let ceiling = now.saturating_add(policy.capacity);
    let allowed = end <= ceiling;
    let tat = if allowed { end } else { start };
    RateDecision {
        allowed,
        tat,
        remaining: ((ceiling - tat) / policy.interval) as u32,
        reset_after: tat - now,
        retry_after: end.saturating_sub(ceiling),
    }
}

/// The state of a key without a call.
pub fn look(tat: u64, now: u64, policy: RateLimit) -> RateDecision {
    let ceiling = now.saturating_add(policy.capacity);
    let tat = tat.clamp(now, ceiling);
    RateDecision {
        allowed: true,
        tat,
        remaining: ((ceiling - tat) / policy.interval) as u32,
        reset_after: tat - now,
        retry_after: 0,
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn policy(rate: u32, seconds: u64, burst: u32) -> RateLimit {
        RateLimit::new(rate, seconds * S, burst).unwrap()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let p = policy(60, 60, 3);
        let mut tat = 0;
        let now = 1_000 * S;
        for left in [2, 1, 0] {
            let d = decide(tat, now, p, 1);
            assert!(d.allowed);
            assert_eq!((d.remaining, d.retry_after), (left, 0));
            tat = d.tat;
        }
        let d = decide(tat, now, p, 1);
        assert_eq!(
            d,
            RateDecision {
                allowed: false,
                tat,
                remaining: 0,
                reset_after: 3 * S,
                retry_after: S
            }
        );
        assert!(!decide(tat, now + S - 1, p, 1).allowed);
        assert!(decide(tat, now + S, p, 1).allowed);
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let p = policy(1, 1, 1);
        let d = decide(0, 5 * S, p, 1);
        let refused = (0..100).fold(d.tat, |tat, _| decide(tat, 5 * S, p, 1).tat);
        assert_eq!(refused, d.tat);
    }

    #[test]
    fn looking_costs_nothing() {
        let p = policy(10, 10, 10);
        let d = decide(0, S, p, 7);
        let seen = look(d.tat, S, p);
        assert_eq!((seen.remaining, seen.reset_after), (3, 7 * S));
        assert_eq!(look(seen.tat, S, p), seen);
        assert_eq!(look(0, 100 * S, p).remaining, 10);
    }

    #[test]
    fn cost_counts_several() {
        let p = policy(10, 10, 10);
        let d = decide(0, S, p, 7);
        assert_eq!((d.allowed, d.remaining), (true, 3));
        let d = decide(d.tat, S, p, 4);
        assert_eq!((d.allowed, d.remaining, d.retry_after), (false, 3, S));
        assert!(decide(d.tat, S, p, 3).allowed);
    }

    #[test]
    fn a_lowered_limit_does_not_punish_the_past() {
        let generous = policy(1_000, 1, 1_000);
        let tat = decide(0, S, generous, 1_000).tat;
        let d = decide(tat, S, policy(1_000, 1, 10), 1);
        assert_eq!((d.allowed, d.reset_after), (false, S / 100));
    }

    #[test]
    fn what_makes_no_sense_is_no_policy() {
        assert_eq!(RateLimit::new(0, S, 1), Err(RateLimitError::NotPositive));
        assert_eq!(RateLimit::new(1, 0, 1), Err(RateLimitError::NotPositive));
        assert_eq!(RateLimit::new(1, S, 0), Err(RateLimitError::NotPositive));
        assert_eq!(
            RateLimit::new(2_000_000_000, S, 1),
            Err(RateLimitError::OutOfRange)
        );
        assert_eq!(
            RateLimit::new(1, 86_400 * S * 365, 1_000_000),
            Err(RateLimitError::OutOfRange)
        );
    }

    /// However calls are spread, no window of any length holds more than burst + rate * length.
    #[test]
    fn never_more_than_burst_plus_rate() {
        let p = policy(5, 1, 8);
        let mut random = 42_u64;
        let mut next = |n: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % n
        };
        let (mut tat, mut now) = (0, 77 * S);
        let mut calls: Vec<(u64, u64)> = Vec::new();
        for _ in 0..5_000 {
            now += next(300_000_000);
            let cost = 1 + next(4);
            let d = decide(tat, now, p, cost as u32);
            tat = d.tat;
            if d.allowed {
                calls.push((now, cost));
            }
        }
        for (i, &(from, _)) in calls.iter().enumerate() {
            let mut sum = 0;
            for &(at, cost) in &calls[i..(i + 60).min(calls.len())] {
                sum += cost;
                assert!(
                    sum * S <= 8 * S + (at - from) * 5,
                    "{sum} calls in {} ns",
                    at - from
                );
            }
        }
    }
}

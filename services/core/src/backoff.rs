//! Waiting longer after each failure, with jitter, so that many processes do not return to a server all at once.

use std::time::Duration;

/// Exponential delays between `first` and `longest`, each reduced by up to half at random.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts with delays around `first`; doubles on each failure up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// Forgets past failures.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The delay to wait now, after one more failure.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self
            .first
            .saturating_mul(1u32.checked_shl(self.failures.min(20)).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        shorten(delay.min(self.longest), 0.5)
    }
}

/// The duration reduced at random by at most `share` (0 to 1) of itself.
pub fn shorten(duration: Duration, share: f64) -> Duration {
    duration.mul_f64(1.0 - share * rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_longest_and_starts_again_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for ceiling in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.next_delay().as_millis();
            assert!(
                (ceiling / 2..=ceiling).contains(&delay),
                "{delay} is not within half of {ceiling}"
            );
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        assert!((0..1000).all(|_| backoff.next_delay() <= Duration::from_secs(30)));
    }
}

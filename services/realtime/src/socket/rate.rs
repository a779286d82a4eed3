//! Token buckets for messages.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Allows so many messages a second, and more at once.
#[derive(Debug)]
pub struct Bucket {
    per_second: f64,
    most: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket, of twice as many as come in a second.
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self::of(per_second, 2, now)
    }

    /// A full bucket, of as many as come in so many seconds.
    pub fn of(per_second: u32, seconds: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        let most = per_second * f64::from(seconds);
        Self {
            per_second,
            most,
            tokens: most,
            at: now,
        }
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.most);
        self.at = now;
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= self.most
    }

    /// Takes one token, also one that is not there: as many as the bucket holds may be owed.
    fn charge(&mut self, now: Instant) {
        self.fill(now);
        self.tokens = (self.tokens - 1.0).max(-self.most);
    }

    /// Takes one token, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

/// Buckets of callers.
#[derive(Debug)]
pub struct Rates {
    per_second: u32,
    seconds: u32,
    buckets: Mutex<HashMap<String, Bucket>>,
}

/// From so many on, callers whose buckets are full are forgotten: they would get a full one anyway.
const MAX_CALLERS: usize = 10_000;

impl Rates {
    /// So many a second for each, and at once as many as come in so many seconds.
    pub fn new(per_second: u32, seconds: u32) -> Self {
        Self {
            per_second,
            seconds,
            buckets: Mutex::default(),
        }
    }

    /// Takes one token of a caller, if there is one.
    pub fn take(&self, caller: &str, now: Instant) -> bool {
        self.with(caller, now, |bucket| bucket.take(now))
    }

    fn with<T>(&self, caller: &str, now: Instant, change: impl FnOnce(&mut Bucket) -> T) -> T {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_CALLERS && !buckets.contains_key(caller) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        let bucket = buckets
            .entry(caller.to_owned())
            .or_insert_with(|| Bucket::of(self.per_second, self.seconds, now));
        change(bucket)
    }

    /// Whether a caller has a token.
    pub fn has(&self, caller: &str, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.get_mut(caller).is_none_or(|bucket| {
            bucket.fill(now);
            bucket.tokens >= 1.0
        })
    }

    /// Takes one token of a caller, also one that is not there.
    pub fn charge(&self, caller: &str, now: Instant) {
        self.with(caller, now, |bucket| bucket.charge(now));
    }
}

/// An IPv4 address, or the /64 of an IPv6 address: whoever has one of its addresses has all of them.
pub(super) fn network_of(address: &str) -> String {
    match address.trim().parse::<IpAddr>().map(|it| it.to_canonical()) {
        Ok(IpAddr::V6(address)) => {
            let network = address.to_bits() & (u128::MAX << 64);
            Ipv6Addr::from_bits(network).to_string()
        }
        Ok(IpAddr::V4(address)) => address.to_string(),
        Err(_) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn twice_a_seconds_messages_at_once_and_then_as_many_as_time_brings() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, start);
        assert_eq!((0..30).filter(|_| bucket.take(start)).count(), 20);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..30).filter(|_| bucket.take(later)).count(), 5);
        let much_later = start + Duration::from_secs(60);
        assert_eq!((0..30).filter(|_| bucket.take(much_later)).count(), 20);
    }

    #[test]
    fn a_caller_may_owe_as_much_as_a_bucket_holds() {
        let (rates, now) = (Rates::new(1, 2), Instant::now());
        assert!(rates.has("a", now));
        for _ in 0..100 {
            rates.charge("a", now);
        }
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(!rates.has("a", after(2)) && rates.has("a", after(3)) && rates.has("b", now));
        assert!(rates.take("a", after(3)) && !rates.take("a", after(3)));
    }

    #[test]
    fn addresses_of_one_network_are_counted_together() {
        for (address, network) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
            ("", ""),
            ("192.0.2.7, 192.0.2.8", "192.0.2.7, 192.0.2.8"),
        ] {
            assert_eq!(network_of(address), network, "{address}");
        }
    }
}

//! Recent calls of each model vendor: how many there were, and how many failed through the vendor's fault.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Calls within this time count as recent.
const WINDOW: Duration = Duration::from_secs(300);

/// At most so many calls of a vendor are kept.
const MAX_CALLS: usize = 10_000;

/// Fewer calls are no evidence about the vendor.
const MIN_CALLS: usize = 5;

/// One vendor's last five minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct VendorHealth {
    /// The provider's name.
    pub name: &'static str,
    /// Calls that ended.
    pub calls: usize,
    /// Those that failed through the vendor's fault; a refusal or a wrong parameter is none.
    pub errors: usize,
}

impl VendorHealth {
    /// From 0 to 1.
    pub(super) fn error_rate(&self) -> f64 {
        if self.calls == 0 {
            0.0
        } else {
            self.errors as f64 / self.calls as f64
        }
    }

    /// At least half of its calls failed, of enough calls to be evidence.
    pub(super) fn is_unhealthy(&self) -> bool {
        self.calls >= MIN_CALLS && self.errors * 2 >= self.calls
    }
}

type Calls = BTreeMap<&'static str, VecDeque<(Instant, bool)>>;

/// All vendors' recent calls.
#[derive(Debug, Default)]
pub(super) struct Vendors(Mutex<Calls>);

impl Vendors {
    pub(super) fn ended(&self, name: &'static str, failed: bool) {
        let mut all = self.lock();
        let calls = all.entry(name).or_default();
        if calls.len() == MAX_CALLS {
            calls.pop_front();
        }
        calls.push_back((Instant::now(), failed));
    }

    pub(super) fn health(&self, name: &'static str) -> VendorHealth {
        let mut all = self.lock();
        let calls = all.entry(name).or_default();
        calls.retain(|(at, _)| at.elapsed() < WINDOW);
        VendorHealth {
            name,
            calls: calls.len(),
            errors: calls.iter().filter(|(_, failed)| *failed).count(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendor_is_unhealthy_when_half_of_several_calls_fail() {
        let vendors = Vendors::default();
        for _ in 0..4 {
            vendors.ended("a", true);
        }
        assert!(
            !vendors.health("a").is_unhealthy(),
            "four are no evidence yet"
        );
        for _ in 0..4 {
            vendors.ended("a", false);
        }
        let health = vendors.health("a");
        assert_eq!(
            (health.calls, health.errors, health.is_unhealthy()),
            (8, 4, true)
        );
        vendors.ended("a", false);
        assert!(!vendors.health("a").is_unhealthy());
        assert_eq!(vendors.health("b").error_rate(), 0.0);
    }
}

//! Log lines that anybody can cause: at most one a second of a kind, which says how many were suppressed before it. A flood
//! of requests is then no flood of the log; the metrics count all of them.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// One kind of line.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl LogThrottle {
    /// No line yet.
    pub const fn new() -> Self {
        Self(Mutex::new(State {
            last: None,
            suppressed: 0,
        }))
    }

    /// Whether a line is due: how many were suppressed since the last one. `None` means that this one is suppressed too.
    pub fn due(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now < last + MIN_INTERVAL) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_counts_the_suppressed_ones() {
        let (lines, start) = (LogThrottle::new(), Instant::now());
        let due = |millis| lines.due(start + Duration::from_millis(millis));
        assert_eq!(due(0), Some(0));
        assert_eq!((due(1), due(999)), (None, None));
        assert_eq!(due(1_000), Some(2), "both are counted");
        assert_eq!(due(1_999), None);
        assert_eq!(due(60_000), Some(1));
        assert_eq!(due(61_000), Some(0), "none is counted twice");
    }
}

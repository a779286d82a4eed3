//! Log lines that a stranger can cause: at most one a second of a kind, which says how many were left out before it. So a
//! flood of requests is no flood of the log; the metrics count them all.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_secs(1);

/// One kind of line.
#[derive(Debug)]
pub(crate) struct Sparse(Mutex<State>);

#[derive(Debug)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Sparse {
    /// No line yet.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State {
            last: None,
            left_out: 0,
        }))
    }

    /// How many lines were left out since the last one, when the next is due; otherwise this is one more of them.
    pub(crate) fn due(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now < last + PAUSE) {
            state.left_out += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_second_tells_of_those_between() {
        let (lines, start) = (Sparse::new(), Instant::now());
        let due = |millis| lines.due(start + Duration::from_millis(millis));
        assert_eq!(due(0), Some(0));
        assert_eq!((due(1), due(999)), (None, None));
        assert_eq!(due(1_000), Some(2), "both are told of");
        assert_eq!(due(1_999), None);
        assert_eq!(due(60_000), Some(1));
        assert_eq!(due(61_000), Some(0), "and none twice");
    }
}

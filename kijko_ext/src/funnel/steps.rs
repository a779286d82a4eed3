//! The algorithm of ClickHouse's windowFunnel with strict_once: each step remembers when the chain that reached it began. A chain begins with every
//! event of the first step, and the deepest one counts.

pub(super) const MAX_STEPS: usize = 20;

#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    /// Microseconds.
    pub at: i64,
    /// Bit 0: it is an event of the first step.
    pub matched: u32,
}

/// The chain that reached a step last.
#[derive(Debug, Clone, Copy)]
struct Reached {
    began: i64,
    at: i64,
}

#[derive(Debug)]
pub(super) struct Funnel {
    window: i64,
    /// Whether a step must be later than the one before, not at the same moment.
    strict_increase: bool,
    length: usize,
    steps: [Option<Reached>; MAX_STEPS],
    last_at: i64,
}

/// An event was earlier than the one before.
#[derive(Debug, PartialEq)]
pub(super) struct OutOfOrder;

impl Funnel {
    pub fn new(length: usize, window: i64, strict_increase: bool) -> Self {
        Self {
            window,
            strict_increase,
            length,
            steps: [None; MAX_STEPS],
            last_at: i64::MIN,
        }
    }

    /// An event of several steps is the latest of them first, so that it is never two steps of one chain.
    pub fn add(&mut self, event: Event) -> Result<(), OutOfOrder> {
        if event.at < self.last_at {
            return Err(OutOfOrder);
        }
        self.last_at = event.at;
        let is_complete = self.steps[self.length - 1].is_some();
        if is_complete {
            return Ok(());
        }
        for step in (0..self.length).rev() {
            if event.matched & 1 << step == 0 {
                continue;
            }
            let at = event.at;
            let Some(before) = step.checked_sub(1) else {
                self.steps[0] = Some(Reached { began: at, at });
                continue;
            };
            if let Some(chain) = self.steps[before]
                && at.saturating_sub(chain.began) <= self.window
                && (!self.strict_increase || chain.at < at)
            {
                self.steps[step] = Some(Reached {
                    began: chain.began,
                    at,
                });
            }
        }
        Ok(())
    }

    pub fn depth(&self) -> usize {
        let deepest = self.steps.iter().rposition(Option::is_some);
        deepest.map_or(0, |step| step + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(window: i64, strict: bool, events: &[(i64, u32)]) -> usize {
        let mut funnel = Funnel::new(3, window, strict);
        for &(at, matched) in events {
            funnel.add(Event { at, matched }).unwrap();
        }
        funnel.depth()
    }

    #[test]
    fn steps_count_in_their_order_only() {
        assert_eq!(depth(100, false, &[]), 0);
        assert_eq!(depth(100, false, &[(1, 0b010), (2, 0b100)]), 0);
        assert_eq!(depth(100, false, &[(1, 1), (2, 0b100)]), 1);
        assert_eq!(depth(100, false, &[(1, 1), (2, 0b010), (3, 0b100)]), 3);
        assert_eq!(depth(100, false, &[(1, 0b010), (2, 1), (3, 0b010)]), 2);
    }

    #[test]
    fn the_window_begins_with_the_first_step_of_each_chain() {
        assert_eq!(depth(10, false, &[(0, 1), (5, 0b010), (11, 0b100)]), 2);
        assert_eq!(depth(10, false, &[(0, 1), (5, 0b010), (10, 0b100)]), 3);
        // A later beginning is a chain of its own, and the earlier one goes on.
        let later = [(0, 1), (20, 1), (25, 0b010), (30, 0b100)];
        assert_eq!(depth(10, false, &later), 3);
        let earlier = [(0, 1), (5, 0b010), (8, 1), (10, 0b100)];
        assert_eq!(depth(10, false, &earlier), 3);
    }

    #[test]
    fn ties_count_unless_steps_must_be_later() {
        let ties = [(1, 1), (1, 0b010), (1, 0b100)];
        assert_eq!(depth(10, false, &ties), 3);
        assert_eq!(depth(10, true, &ties), 1);
        assert_eq!(depth(10, true, &[(1, 1), (2, 0b010), (2, 0b100)]), 2);
    }

    #[test]
    fn events_out_of_order_are_refused() {
        let mut funnel = Funnel::new(2, 10, false);
        let at = |at| Event { at, matched: 1 };
        assert!(funnel.add(at(2)).is_ok() && funnel.add(at(2)).is_ok());
        assert_eq!(funnel.add(at(1)), Err(OutOfOrder));
    }

    #[test]
    fn one_event_is_one_step_of_a_chain() {
        assert_eq!(depth(10, false, &[(1, 0b111)]), 1);
        assert_eq!(depth(10, false, &[(1, 0b111), (2, 0b111), (3, 0b111)]), 3);
    }
}

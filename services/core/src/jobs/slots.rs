//! The slots of a worker. `KIJKO_WORKER_CONCURRENCY` slots take any job, and `KIJKO_WORKER_SHORT_SLOTS` more only short ones. So calls
//! of models that take minutes never hold up a check that takes milliseconds, however many tenants have queued them.

use super::{
    WorkerConfig,
    registry::{JobClass, Registry},
};

/// How many jobs run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Running {
    /// Of [`JobClass::Short`].
    pub short: usize,
    /// Of [`JobClass::Long`].
    pub long: usize,
}

impl Running {
    /// With one more.
    pub fn and(self, class: JobClass) -> Self {
        match class {
            JobClass::Short => Self {
                short: self.short + 1,
                ..self
            },
            JobClass::Long => Self {
                long: self.long + 1,
                ..self
            },
        }
    }
}

/// The slots of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    any: usize,
    short: usize,
}

/// What may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Free {
    /// So many jobs of any class.
    Any(usize),
    /// So many short ones.
    Short(usize),
    /// Nothing.
    None,
}

impl Slots {
    /// Slots for short jobs count only if the worker runs jobs and there are kinds of short ones.
    pub fn new(config: &WorkerConfig, registry: &Registry) -> Self {
        let has_short = config.concurrency > 0 && !registry.short_kinds().is_empty();
        Self {
            any: config.concurrency,
            short: if has_short { config.short_slots } else { 0 },
        }
    }

    /// How many jobs run at most.
    pub fn total(self) -> usize {
        self.any + self.short
    }

    /// Short jobs take their own slots first. Any job may be claimed for a slot that takes any: a short one among them then moves on to
    /// a slot of its own, so that this slot is free again.
    pub fn free(self, running: Running) -> Free {
        let beyond = running.short.saturating_sub(self.short);
        let any = self.any.saturating_sub(running.long + beyond);
        let short = self.short.saturating_sub(running.short);
        match (any, short) {
            (0, 0) => Free::None,
            (0, short) => Free::Short(short),
            (any, _) => Free::Any(any),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_jobs_leave_slots_to_short_ones() {
        let slots = Slots { any: 2, short: 1 };
        let free = |short, long| slots.free(Running { short, long });
        assert_eq!(free(0, 0), Free::Any(2));
        assert_eq!(free(0, 2), Free::Short(1));
        assert_eq!(free(1, 2), Free::None);
        // A short job beyond its own slots takes one of the others.
        assert_eq!(free(1, 1), Free::Any(1));
        assert_eq!(free(2, 1), Free::None);
        assert_eq!(free(3, 0), Free::None);
        // More than there are slots: they were claimed before the settings changed, or were claimed twice.
        assert_eq!(free(9, 9), Free::None);
        assert_eq!(slots.total(), 3);
    }

    #[test]
    fn without_slots_of_their_own_short_jobs_are_as_any() {
        let slots = Slots { any: 1, short: 0 };
        let running = Running::default().and(JobClass::Short);
        assert_eq!(slots.free(Running::default()), Free::Any(1));
        assert_eq!(slots.free(running), Free::None);
    }
}

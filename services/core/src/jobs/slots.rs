//! The slots of a worker. `KIJKO_WORKER_CONCURRENCY` slots take any job, and `KIJKO_WORKER_SHORT_SLOTS` more only short ones. So calls
//! of models that take minutes never hold up a check that takes milliseconds, however many tenants have queued them. And short jobs,
//! which are claimed first, take at most half of all slots while there are kinds of long ones: checks that many tenants queue
//! without end do not hold up executions.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

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
    /// Of the slots that take any job, how many short ones may take.
    shared: usize,
}

/// What may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Free {
    /// So many jobs of any class.
    Any(usize),
    /// So many short ones.
    Short(usize),
    /// So many long ones.
    Long(usize),
    /// Nothing.
    None,
}

impl Slots {
    /// Slots for short jobs count only if the worker runs jobs and there are kinds of short ones.
    pub fn new(config: &WorkerConfig, registry: &Registry) -> Self {
        let has_short = config.concurrency > 0 && !registry.short_kinds().is_empty();
        let short = if has_short { config.short_slots } else { 0 };
        Self::of(config.concurrency, short, !registry.long_kinds().is_empty())
    }

    /// Short jobs get at least one slot, or nobody would run them.
    fn of(any: usize, short: usize, has_long: bool) -> Self {
        let half = ((any + short) / 2).max(1);
        let shared = match has_long {
            true => half.saturating_sub(short).min(any),
            false => any,
        };
        Self { any, short, shared }
    }

    /// How many jobs run at most.
    pub fn total(self) -> usize {
        self.any + self.short
    }

    /// What jobs of a class may take.
    fn of_class(self, class: JobClass) -> usize {
        match class {
            JobClass::Short => self.short + self.shared,
            JobClass::Long => self.any,
        }
    }

    /// Half of that, at least one.
    pub fn half(self, class: JobClass) -> usize {
        (self.of_class(class) / 2).max(1)
    }

    /// Short jobs take their own slots first. Any job may be claimed for a slot that takes any, as long as short ones may take so
    /// many: a short one among them then moves on to a slot of its own, so that this slot is free again.
    pub fn free(self, running: Running) -> Free {
        let beyond = running.short.saturating_sub(self.short);
        let any = self.any.saturating_sub(running.long + beyond);
        let short = self.short.saturating_sub(running.short);
        let room = (self.short + self.shared).saturating_sub(running.short);
        match (any, short) {
            (0, 0) => Free::None,
            (0, short) => Free::Short(short),
            (any, _) if room == 0 => Free::Long(any),
            (any, _) => Free::Any(any.min(room)),
        }
    }
}

/// How many jobs run of each kind that waits for servers of others. One takes at most half of the slots of its class, the next one half
/// of what the first leaves, and so on: they never take the last slot, which is for the kinds that wait for nobody. As jobs end, those
/// kinds come first that have fewer. So a second and a third service that does not answer hold up their own kinds, too, and no more.
///
/// Of several variants of a kind, such as the executions of several vendors of models, one takes all slots but one: one vendor that
/// does not answer does not hold up the others.
#[derive(Debug, Default)]
pub struct Halves(Arc<BTreeMap<String, Half>>);

#[derive(Debug)]
struct Half {
    /// How many slots it may take.
    most: usize,
    class: JobClass,
    /// Whether it shares what is left with the others.
    shares: bool,
    /// How many all such kinds of its class may take.
    together: usize,
    running: AtomicUsize,
}

/// A job of such a kind; it ends when it is dropped.
#[derive(Debug)]
pub struct HalfSlot(Arc<BTreeMap<String, Half>>, String);

impl Halves {
    /// Of a worker with these slots. A kind that is alone takes them all.
    pub fn new(slots: Slots, registry: &Registry) -> Self {
        if registry.kinds().len() == 1 {
            return Self::default();
        }
        let halved = registry.halved_kinds();
        let of_class = |class| match class {
            JobClass::Short => registry.short_kinds().len(),
            JobClass::Long => registry.long_kinds().len(),
        };
        let has_others =
            |class| of_class(class) > halved.iter().filter(|(_, its)| *its == class).count();
        let half = |(kind, class): &(String, JobClass)| {
            (kind.clone(), Half::of(slots, *class, has_others(*class)))
        };
        let siblings = registry.sibling_kinds();
        let sibling =
            |(kind, class): &(String, JobClass)| (kind.clone(), Half::sibling(slots, *class));
        let all = siblings.iter().map(sibling).chain(halved.iter().map(half));
        Self(Arc::new(all.collect()))
    }

    /// How many more jobs of a kind may run.
    fn left(&self, kind: &str) -> usize {
        let running = |half: &Half| half.running.load(Ordering::Relaxed);
        let Some(half) = self.0.get(kind) else {
            return usize::MAX;
        };
        if !half.shares {
            return half.most.saturating_sub(running(half));
        }
        let sharing = self.0.values().filter(|other| other.shares);
        let of_class = sharing.filter(|other| other.class == half.class);
        let taken = of_class.map(running).sum::<usize>() + running(half);
        let of_rest = half.together.saturating_sub(taken).div_ceil(2);
        half.most.saturating_sub(running(half)).min(of_rest)
    }

    /// A job of any kind has been claimed.
    pub fn enter(&self, kind: &str) -> Option<HalfSlot> {
        self.0.get(kind)?.running.fetch_add(1, Ordering::Relaxed);
        Some(HalfSlot(self.0.clone(), kind.to_owned()))
    }

    /// Of what may be claimed, what these kinds leave: how many jobs, and of which kinds.
    pub fn narrow<'a>(&self, limit: usize, kinds: &'a [String]) -> (usize, Cow<'a, [String]>) {
        let left: Vec<usize> = kinds.iter().map(|kind| self.left(kind)).collect();
        let room = left.iter().copied().filter(|left| *left > 0).min();
        let limit = limit.min(room.unwrap_or(0));
        if left.iter().all(|left| *left > 0) {
            return (limit, Cow::Borrowed(kinds));
        }
        let open = kinds.iter().zip(&left).filter(|(_, left)| **left > 0);
        (limit, open.map(|(kind, _)| kind.clone()).collect())
    }
}

impl Half {
    fn of(slots: Slots, class: JobClass, has_others: bool) -> Self {
        let all = slots.of_class(class);
        let together = match has_others {
            true => all.saturating_sub(1).max(1),
            false => all,
        };
        Self {
            most: slots.half(class),
            class,
            shares: true,
            together,
            running: AtomicUsize::new(0),
        }
    }

    /// One of several variants.
    fn sibling(slots: Slots, class: JobClass) -> Self {
        Self {
            most: slots.of_class(class).saturating_sub(1).max(1),
            shares: false,
            ..Self::of(slots, class, false)
        }
    }
}

impl Drop for HalfSlot {
    fn drop(&mut self) {
        if let Some(half) = self.0.get(&self.1) {
            half.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_jobs_leave_slots_to_short_ones() {
        let slots = Slots::of(2, 1, true);
        let free = |short, long| slots.free(Running { short, long });
        assert_eq!(free(0, 0), Free::Any(1));
        assert_eq!(free(0, 2), Free::Short(1));
        assert_eq!(free(1, 2), Free::None);
        // More than there are slots: they were claimed before the settings changed, or were claimed twice.
        assert_eq!(free(9, 9), Free::None);
        assert_eq!(slots.total(), 3);
    }

    /// However many short jobs wait and in whatever order jobs end.
    #[test]
    fn short_jobs_leave_half_of_all_slots_to_long_ones() {
        for (any, short) in [(10, 2), (10, 0), (1, 1), (2, 1), (3, 8), (7, 2)] {
            let slots = Slots::of(any, short, true);
            let kept = any.min(slots.total() - slots.total() / 2);
            for long in 0..=any {
                let mut running = Running { short: 0, long };
                // Each claim finds as many short jobs as it may take.
                while let Free::Any(limit) | Free::Short(limit) = slots.free(running) {
                    running.short += limit;
                }
                let left = match slots.free(running) {
                    Free::Long(left) => left,
                    _ => 0,
                };
                assert!(
                    long + left >= kept,
                    "{any} {short}: {running:?} leaves {left}"
                );
                assert!(
                    running.short >= short.max(1).min(slots.total() - long),
                    "{running:?}"
                );
            }
        }
    }

    fn halves(slots: Slots, kinds: &[&str]) -> Halves {
        let half = |kind: &&str| ((*kind).to_owned(), Half::of(slots, JobClass::Long, true));
        Halves(Arc::new(kinds.iter().map(half).collect()))
    }

    /// Whichever of them is claimed first, and however many wait.
    #[test]
    fn kinds_that_wait_for_others_never_take_the_last_slot() {
        let kinds = ["draft", "feed", "image", "file"].map(str::to_owned);
        for any in 1..=12 {
            let slots = Slots::of(any, 2, true);
            let names = kinds.each_ref().map(String::as_str);
            for first in 0..kinds.len() {
                let (halves, mut running) = (halves(slots, &names), Vec::new());
                for n in 0..kinds.len() {
                    let kind = &kinds[(first + n) % kinds.len()];
                    loop {
                        let (limit, open) = halves.narrow(any, &kinds);
                        if !open.contains(kind) {
                            break;
                        }
                        running.extend((0..limit).map(|_| halves.enter(kind)));
                    }
                    if n == 0 {
                        assert_eq!(running.len(), slots.half(JobClass::Long), "{any}");
                    }
                }
                assert!(running.len() <= any.saturating_sub(1).max(1), "{any}");
                // One that has ended leaves its slot to kinds that have fewer.
                if slots.half(JobClass::Long) > 1 {
                    running.swap_remove(0);
                    let (_, open) = halves.narrow(any, &kinds);
                    assert!(!open.contains(&kinds[first]), "{any}");
                }
            }
        }
    }

    #[test]
    fn a_kind_that_waits_for_others_leaves_half_of_the_slots() {
        let slots = Slots::of(5, 2, true);
        assert_eq!(
            (slots.half(JobClass::Short), slots.half(JobClass::Long)),
            (1, 2)
        );
        let halves = halves(slots, &["feed"]);
        let kinds = ["call", "feed"].map(str::to_owned);
        assert_eq!(halves.narrow(5, &kinds), (2, Cow::Borrowed(&kinds[..])));
        assert!(halves.enter("call").is_none());
        let running = [halves.enter("feed"), halves.enter("feed")];
        assert_eq!(halves.narrow(3, &kinds), (3, Cow::Borrowed(&kinds[..1])));
        assert_eq!(
            halves.narrow(3, &kinds[1..]).0,
            0,
            "nothing is left to claim"
        );
        drop(running);
        assert_eq!(halves.narrow(1, &kinds).0, 1);
    }

    #[test]
    fn a_variant_leaves_a_slot_to_the_others() {
        for (any, most) in [(1, 1), (2, 1), (8, 7)] {
            let slots = Slots::of(any, 2, true);
            let siblings = ["execution.a", "execution.b"].map(str::to_owned);
            let sibling = |kind: &String| (kind.clone(), Half::sibling(slots, JobClass::Long));
            let feed = ("feed".to_owned(), Half::of(slots, JobClass::Long, true));
            let all = siblings.iter().map(sibling).chain([feed]);
            let halves = Halves(Arc::new(all.collect()));
            let running: Vec<_> = (0..most).map(|_| halves.enter(&siblings[0])).collect();
            let (left, open) = halves.narrow(any, &siblings);
            assert_eq!((left, &open[..]), (most, &siblings[1..]), "{any}");
            // What waits for others has its share, whatever executes.
            assert_eq!(halves.left("feed"), slots.half(JobClass::Long), "{any}");
            drop(running);
            assert_eq!(halves.left(&siblings[0]), most, "{any}");
        }
    }

    #[test]
    fn without_kinds_of_long_jobs_short_ones_take_all_slots() {
        let slots = Slots::of(4, 0, false);
        assert_eq!(slots.free(Running { short: 3, long: 0 }), Free::Any(1));
    }

    #[test]
    fn without_slots_of_their_own_short_jobs_are_as_any() {
        let slots = Slots::of(1, 0, true);
        let running = Running::default().and(JobClass::Short);
        assert_eq!(slots.free(Running::default()), Free::Any(1));
        assert_eq!(slots.free(running), Free::None);
    }
}

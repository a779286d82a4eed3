//! How many calls run at once. A call may take minutes and holds two connections, so one caller must not take all of a function's,
//! and one slow function must not take all of the others'.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// In all.
const MAX_CALLS: usize = 512;
/// Of a function.
const MAX_OF_FUNCTION: usize = 256;
/// Of an organization, of a user without one, or of the network of an unauthenticated caller.
pub(super) const MAX_OF_CALLER: usize = 32;

/// The calls that run.
#[derive(Debug, Default)]
pub(super) struct Slots {
    running: Arc<Mutex<Running>>,
}

#[derive(Debug, Default)]
struct Running {
    all: usize,
    functions: HashMap<String, usize>,
    callers: HashMap<String, usize>,
}

/// Which limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    Caller,
    Function,
    All,
}

/// A call that runs; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    function: String,
    caller: String,
    running: Arc<Mutex<Running>>,
}

impl Slots {
    pub(super) fn take(&self, function: &str, caller: &str) -> Result<Slot, Full> {
        let mut running = lock(&self.running);
        let of = |counts: &HashMap<String, usize>, name| counts.get(name).copied().unwrap_or(0);
        if of(&running.callers, caller) >= MAX_OF_CALLER {
            return Err(Full::Caller);
        }
        if of(&running.functions, function) >= MAX_OF_FUNCTION {
            return Err(Full::Function);
        }
        if running.all >= MAX_CALLS {
            return Err(Full::All);
        }
        running.all += 1;
        *running.functions.entry(function.to_owned()).or_default() += 1;
        *running.callers.entry(caller.to_owned()).or_default() += 1;
        Ok(Slot {
            function: function.to_owned(),
            caller: caller.to_owned(),
            running: self.running.clone(),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        running.all -= 1;
        release(&mut running.functions, &self.function);
        release(&mut running.callers, &self.caller);
    }
}

/// What has ended leaves nothing behind.
fn release(counts: &mut HashMap<String, usize>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_a_function_and_all_have_a_limit_and_leave_nothing_behind() {
        let slots = Slots::default();
        let take = |function: &str, caller: usize| slots.take(function, &caller.to_string());
        let mut held: Vec<_> = (0..MAX_OF_CALLER).map(|_| take("a", 0).unwrap()).collect();
        assert_eq!(take("a", 0).unwrap_err(), Full::Caller);
        assert_eq!(take("b", 0).unwrap_err(), Full::Caller);
        held.extend((MAX_OF_CALLER..MAX_OF_FUNCTION).map(|n| take("a", n).unwrap()));
        assert_eq!(take("a", 1000).unwrap_err(), Full::Function);
        held.extend((MAX_OF_FUNCTION..MAX_CALLS).map(|n| take("b", n).unwrap()));
        assert_eq!(take("c", 1000).unwrap_err(), Full::All);
        held.clear();
        let running = lock(&slots.running);
        assert!(running.all == 0 && running.functions.is_empty() && running.callers.is_empty());
    }
}

//! How many calls run at once. A call may take minutes and holds two connections, so one caller must not take all of a function's,
//! and one slow function must not take all of the others'.

use crate::slots;

/// In all.
const MAX_CALLS: usize = 512;
/// Of a function.
const MAX_OF_FUNCTION: usize = 256;
/// Of an organization, of a user without one, or of the network of an unauthenticated caller.
pub(super) const MAX_OF_CALLER: usize = 32;

/// The calls that run.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: slots::Slots<()>,
    functions: slots::Slots<String>,
    callers: slots::Slots<String>,
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
    _caller: slots::Slot<String>,
    _function: slots::Slot<String>,
    _all: slots::Slot<()>,
}

impl Slots {
    pub(super) fn take(&self, function: &str, caller: &str) -> Result<Slot, Full> {
        let caller = self.callers.take(&caller.to_owned(), MAX_OF_CALLER);
        let _caller = caller.ok_or(Full::Caller)?;
        let function = self.functions.take(&function.to_owned(), MAX_OF_FUNCTION);
        let _function = function.ok_or(Full::Function)?;
        let _all = self.all.take(&(), MAX_CALLS).ok_or(Full::All)?;
        Ok(Slot {
            _caller,
            _function,
            _all,
        })
    }
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
        assert!(slots.all.is_empty() && slots.functions.is_empty() && slots.callers.is_empty());
    }
}

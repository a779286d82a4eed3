//! How many sockets each network, caller and organization has.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

/// For whom sockets are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// An IPv4 address, or the /64 of an IPv6 address.
    Network(Box<str>),
    /// A user or an API key.
    Caller(Uuid),
    /// An organization.
    Organization(Uuid),
}

impl Holder {
    /// What a refusal says.
    pub fn refusal(&self) -> &'static str {
        match self {
            Self::Network(_) => "TooManySockets: this network has too many sockets",
            Self::Caller(_) => "TooManySockets: this user or API key has too many sockets",
            Self::Organization(_) => "TooManySockets: the organization has too many sockets",
        }
    }
}

/// The sockets of each.
#[derive(Debug, Default)]
pub struct Slots(Mutex<HashMap<Holder, usize>>);

impl Slots {
    fn counts(&self) -> MutexGuard<'_, HashMap<Holder, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more, unless there are `most`.
    pub fn take(self: &Arc<Self>, holder: Holder, most: usize) -> Option<Slot> {
        let mut counts = self.counts();
        let count = counts.entry(holder.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Slot {
            slots: self.clone(),
            holder,
        })
    }
}

/// A socket that is counted until this is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    holder: Holder,
}

impl Slot {
    /// For whom.
    pub fn holder(&self) -> &Holder {
        &self.holder
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.slots.counts();
        if let Some(count) = counts.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_when_it_is_dropped() {
        let slots = Arc::<Slots>::default();
        let ada = Holder::Caller(Uuid::new_v4());
        let first = slots.take(ada.clone(), 1).unwrap();
        assert!(slots.take(ada.clone(), 1).is_none());
        assert!(slots.take(Holder::Network("192.0.2.7".into()), 1).is_some());
        drop(first);
        assert!(slots.take(ada, 1).is_some());
    }
}

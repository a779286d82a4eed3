//! How many of something run at once, by key, so that one caller or one slow server does not stop the others.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts by key.
#[derive(Debug)]
pub(crate) struct Slots<K>(Arc<Mutex<HashMap<K, usize>>>);

/// One that runs; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot<K: Eq + Hash> {
    key: K,
    running: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K> Default for Slots<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone> Slots<K> {
    pub(crate) fn take(&self, key: &K, max: usize) -> Option<Slot<K>> {
        let mut running = lock(&self.0);
        let count = running.get(key).copied().unwrap_or(0);
        if count >= max {
            return None;
        }
        running.insert(key.clone(), count + 1);
        Some(Slot {
            key: key.clone(),
            running: self.0.clone(),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.0).is_empty()
    }
}

impl<K: Eq + Hash> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        if let Some(count) = running.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                running.remove(&self.key);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_limit_and_leaves_nothing_behind() {
        let slots = Slots::default();
        let held: Vec<_> = (0..3).map(|_| slots.take(&"a", 3).unwrap()).collect();
        assert!(slots.take(&"a", 3).is_none());
        let other = slots.take(&"b", 1).unwrap();
        drop(held);
        assert!(slots.take(&"a", 1).is_some());
        drop(other);
        assert!(slots.is_empty());
    }
}

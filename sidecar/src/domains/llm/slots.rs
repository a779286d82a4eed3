//! How many calls run at once: in all, of a caller, and of a provider, so that one slow provider or caller does not stop the others.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

/// Counts by key.
#[derive(Debug)]
pub(super) struct Slots<K>(Arc<Mutex<HashMap<K, usize>>>);

/// One call that runs; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Slot<K: Eq + Hash> {
    key: K,
    running: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K> Default for Slots<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash + Clone> Slots<K> {
    pub(super) fn take(&self, key: &K, max: usize) -> Option<Slot<K>> {
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

    pub(super) fn is_empty(&self) -> bool {
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

/// Whose limits with a vendor are shared: a row of providers, or the vendor of this process' own key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ProviderKey {
    Row(Uuid),
    Process(String),
}

/// Providers that asked for a pause. They are tried last until it is over.
#[derive(Debug, Default)]
pub(super) struct Pauses(Mutex<HashMap<ProviderKey, Instant>>);

/// A provider that asks for more is asked again then.
const MAX_PAUSE: Duration = Duration::from_secs(120);
/// After a failure that names no time.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

impl Pauses {
    pub(super) fn begin(&self, provider: &ProviderKey, asked: Option<Duration>, now: Instant) {
        let mut pauses = lock(&self.0);
        pauses.retain(|_, end| *end > now);
        let end = now + asked.unwrap_or(SHORT_PAUSE).min(MAX_PAUSE);
        pauses.insert(provider.clone(), end);
    }

    pub(super) fn end(&self, provider: &ProviderKey) {
        lock(&self.0).remove(provider);
    }

    pub(super) fn is_paused(&self, provider: &ProviderKey, now: Instant) -> bool {
        let end = lock(&self.0).get(provider).copied();
        end.is_some_and(|end| end > now)
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

    #[test]
    fn a_pause_ends_by_itself_and_is_bounded() {
        let (pauses, now) = (Pauses::default(), Instant::now());
        let provider = ProviderKey::Process("openai".to_owned());
        pauses.begin(&provider, Some(Duration::from_secs(86_400)), now);
        assert!(pauses.is_paused(&provider, now));
        assert!(!pauses.is_paused(&provider, now + MAX_PAUSE));
        pauses.begin(&provider, None, now);
        pauses.end(&provider);
        assert!(!pauses.is_paused(&provider, now));
    }
}

//! Providers that asked for a pause are tried last until it is over.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

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
        let mut pauses = self.lock();
        pauses.retain(|_, end| *end > now);
        let end = now + asked.unwrap_or(SHORT_PAUSE).min(MAX_PAUSE);
        pauses.insert(provider.clone(), end);
    }

    pub(super) fn end(&self, provider: &ProviderKey) {
        self.lock().remove(provider);
    }

    pub(super) fn is_paused(&self, provider: &ProviderKey, now: Instant) -> bool {
        let end = self.lock().get(provider).copied();
        end.is_some_and(|end| end > now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProviderKey, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

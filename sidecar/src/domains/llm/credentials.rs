//! What this process has for a while: the pass by which the API knows the gateway, and the keys of vendors.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::HeaderValue;
use kijko_core::secret::Secret;
use tokio::time::Instant;
use uuid::Uuid;

use super::store::Calls;

/// A pass is valid for 15 minutes.
const PASS_HOLDS: Duration = Duration::from_secs(600);
/// A key that was replaced is not used: the API says when the one of now was set.
const KEY_HOLDS: Duration = Duration::from_secs(300);
const MAX_KEYS: usize = 1_000;
/// How often keys that are no longer used are forgotten.
const PURGE: Duration = Duration::from_secs(60);

/// The pass of this process.
#[derive(Debug, Default)]
pub(super) struct Passes(Mutex<Option<(HeaderValue, Instant)>>);

impl Passes {
    /// None without the database. Then the API gives a ticket.
    pub(super) async fn get(&self, calls: &dyn Calls) -> Option<HeaderValue> {
        if let Some((pass, until)) = lock(&self.0).clone()
            && until > Instant::now()
        {
            return Some(pass);
        }
        let pass = calls.pass().await;
        let pass = pass.inspect_err(|error| tracing::warn!(%error, "no pass for the API"));
        let mut pass = HeaderValue::from_str(pass.ok()?.expose()).ok()?;
        pass.set_sensitive(true);
        *lock(&self.0) = Some((pass.clone(), Instant::now() + PASS_HOLDS));
        Some(pass)
    }
}

/// The keys that were used last, by provider.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<KnownKeys>);

#[derive(Debug, Default)]
struct KnownKeys {
    by_provider: HashMap<Uuid, KnownKey>,
    purged_at: Option<Instant>,
}

#[derive(Debug)]
struct KnownKey {
    set_at: i64,
    key: Secret,
    until: Instant,
}

impl Keys {
    pub(super) fn get(&self, provider: Uuid, set_at: i64, now: Instant) -> Option<Secret> {
        let mut known = lock(&self.0);
        if known.purged_at.is_none_or(|at| now >= at + PURGE) {
            known.by_provider.retain(|_, key| key.until > now);
            known.purged_at = Some(now);
        }
        let known = known.by_provider.get(&provider)?;
        (known.set_at == set_at && known.until > now).then(|| known.key.clone())
    }

    pub(super) fn insert(&self, provider: Uuid, set_at: i64, key: Secret, now: Instant) {
        let known = &mut lock(&self.0).by_provider;
        if known.len() >= MAX_KEYS {
            known.retain(|_, key| key.until > now);
        }
        if known.len() >= MAX_KEYS {
            known.clear();
        }
        let until = now + KEY_HOLDS;
        known.insert(provider, KnownKey { set_at, key, until });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_for_a_while_and_until_it_is_replaced() {
        let (keys, now) = (Keys::default(), Instant::now());
        let provider = Uuid::from_u128(1);
        keys.insert(provider, 1, Secret::new("a"), now);
        assert_eq!(keys.get(provider, 1, now).unwrap().expose(), "a");
        assert!(keys.get(provider, 2, now).is_none());
        assert!(keys.get(provider, 1, now + KEY_HOLDS).is_none());
        assert!(keys.get(Uuid::from_u128(2), 1, now).is_none());
        keys.insert(provider, 2, Secret::new("b"), now);
        assert_eq!(keys.get(provider, 2, now).unwrap().expose(), "b");
        for n in 0..=MAX_KEYS {
            keys.insert(Uuid::from_u128(n as u128), 1, Secret::new("c"), now);
        }
        assert!(lock(&keys.0).by_provider.len() <= MAX_KEYS);
        // The key of a provider that nobody calls any more goes, too.
        keys.get(Uuid::from_u128(5_000), 1, now + PURGE + KEY_HOLDS);
        assert!(lock(&keys.0).by_provider.is_empty());
    }
}

//! Who calls. The API is asked before anything of a body is read, so that nobody takes room without being known. A request that it
//! answers is counted against its caller, as any other; so an answer holds for a while.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use axum::http::HeaderMap;
use tokio::time::Instant;
use uuid::Uuid;

use crate::api::IDENTITY;

/// It gives room only: each call is authorized by itself.
const HOLDS: Duration = Duration::from_secs(300);
const MAX_KNOWN: usize = 10_000;

/// The organizations of callers whom the API identified.
#[derive(Debug, Default)]
pub(super) struct Identities {
    keys: RandomState,
    known: Mutex<HashMap<u64, (Uuid, Instant)>>,
}

impl Identities {
    /// The organization in which a request works, if it is known.
    pub(super) fn get(&self, headers: &HeaderMap, now: Instant) -> Option<Uuid> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (organization, until) = known.get(&self.key(headers))?;
        (*until > now).then_some(*organization)
    }

    pub(super) fn insert(&self, headers: &HeaderMap, organization: Uuid, now: Instant) {
        let key = self.key(headers);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.retain(|_, (_, until)| *until > now);
        }
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(key, (organization, now + HOLDS));
    }

    /// Of everything that identifies, but not of where the request comes from or its id.
    fn key(&self, headers: &HeaderMap) -> u64 {
        let named = IDENTITY.iter().filter(|name| {
            !name.starts_with("x-forwarded")
                && !name.ends_with("-request")
                && **name != "x-request-id"
        });
        let values: Vec<Vec<&[u8]>> = named
            .map(|name| {
                headers
                    .get_all(*name)
                    .iter()
                    .map(|it| it.as_bytes())
                    .collect()
            })
            .collect();
        self.keys.hash_one(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_the_same_credentials_and_for_a_while() {
        let (identities, now) = (Identities::default(), Instant::now());
        let headers = |key: &'static str, organization: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", key.parse().unwrap());
            headers.insert("x-org-id", organization.parse().unwrap());
            headers
        };
        let organization = Uuid::from_u128(1);
        identities.insert(&headers("a", "o"), organization, now);
        let mut same = headers("a", "o");
        same.insert("x-request-id", "r".parse().unwrap());
        same.insert("x-kijko-request", "r".parse().unwrap());
        assert_eq!(identities.get(&same, now), Some(organization));
        assert_eq!(identities.get(&same, now + HOLDS), None);
        for other in [headers("b", "o"), headers("a", "p"), HeaderMap::new()] {
            assert_eq!(identities.get(&other, now), None);
        }
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let (identities, now) = (Identities::default(), Instant::now());
        for n in 0..=MAX_KNOWN {
            let mut headers = HeaderMap::new();
            headers.insert("x-api-key", n.into());
            identities.insert(&headers, Uuid::nil(), now);
        }
        assert!(identities.known.lock().unwrap().len() <= MAX_KNOWN);
    }
}

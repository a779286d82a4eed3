//! Definitions of flags, compiled once for each revision.
//!
//! Each request asks the API who the caller is, with the revision that was last seen for the same credentials. The definitions come
//! along only if they have changed, so most requests cost one small answer.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::HeaderMap;
use kijko_core::error::Error;
use kijko_flags::{Context, Engine, Evaluation, Patterns};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::api::{Api, IDENTITY, NotGranted};

/// What compiled definitions may take in all, as estimated by [`compile`]. The ones that were used longest ago go first.
const MAX_WEIGHT: usize = 256 << 20;
/// Of an expression, compiled and with what it keeps while it searches.
const PATTERN_WEIGHT: usize = 512 << 10;
/// Threads that evaluate expressions at once. They are an organization's own, and may take long.
const PATTERN_THREADS: usize = 1;
/// Credentials whose revision is remembered.
const MAX_KNOWN: usize = 4_096;

/// Where definitions come from.
#[derive(Clone)]
pub(super) struct Sources {
    /// None: not configured.
    api: Option<Api>,
    cache: Arc<Mutex<Cache>>,
    hasher: RandomState,
    pattern_threads: Arc<Semaphore>,
}

/// The flags of an organization in an environment, for one request.
pub(super) struct Source {
    pub facts: Facts,
    pub compiled: Arc<Compiled>,
    /// What the answer says of limits.
    pub limits: HeaderMap,
}

/// What `public.flag_definitions` answers.
#[derive(Debug, Deserialize)]
pub(super) struct Facts {
    pub org_id: Uuid,
    pub environment: String,
    pub revision: i64,
    now: String,
    user_id: Option<String>,
    remote_address: Option<String>,
    properties: Map<String, Value>,
    definitions: Option<Value>,
}

/// Definitions of one revision.
pub(super) struct Compiled {
    pub engine: Engine,
    /// As Unleash's Client API has them.
    pub definitions: Value,
    has_patterns: bool,
    weight: usize,
}

type Key = (Uuid, String, i64);

#[derive(Default)]
struct Cache {
    compiled: HashMap<Key, (Arc<Compiled>, u64)>,
    known: HashMap<u64, Key>,
    weight: usize,
    clock: u64,
}

impl Sources {
    pub(super) fn new(api: Option<Api>) -> Self {
        Self {
            api,
            cache: Arc::default(),
            hasher: RandomState::new(),
            pattern_threads: Arc::new(Semaphore::new(PATTERN_THREADS)),
        }
    }

    pub(super) fn api(&self) -> Result<&Api, Error> {
        Api::configured(self.api.as_ref())
    }

    /// The flags of the organization that the sender of these headers means, if they may evaluate them.
    pub(super) async fn find(
        &self,
        headers: &HeaderMap,
        environment: &str,
    ) -> Result<Source, NotGranted> {
        let identity = self.identity(headers, environment);
        let mut known = self.cached(|cache| cache.revision(identity));
        loop {
            let arguments = json!({"environment": environment, "known_revision": known});
            let asked = self
                .api()?
                .call::<Facts>("flag_definitions", headers, &arguments);
            let (mut facts, limits) = asked.await?;
            let key = (facts.org_id, facts.environment.clone(), facts.revision);
            let compiled = match (
                self.cached(|cache| cache.find(&key)),
                facts.definitions.take(),
            ) {
                (Some(compiled), _) => compiled,
                (None, Some(definitions)) => {
                    let compiled = Arc::new(compile(definitions).await?);
                    self.cached(|cache| cache.keep(key.clone(), compiled.clone()));
                    compiled
                }
                // It was dropped meanwhile.
                (None, None) if known.is_some() => {
                    known = None;
                    continue;
                }
                (None, None) => {
                    let cause = "flag_definitions answered no definitions".to_owned();
                    return Err(Error::Internal { cause }.into());
                }
            };
            self.cached(|cache| cache.remember(identity, key));
            return Ok(Source {
                facts,
                compiled,
                limits,
            });
        }
    }

    pub(super) async fn evaluate(
        &self,
        source: &Source,
        name: &str,
        context: Context,
    ) -> Result<Option<Evaluation>, Error> {
        let name = name.to_owned();
        self.on_thread(source, move |engine| engine.evaluate(&name, &context))
            .await
    }

    pub(super) async fn evaluate_all(
        &self,
        source: &Source,
        context: Context,
    ) -> Result<Vec<Evaluation>, Error> {
        self.on_thread(source, move |engine| engine.evaluate_all(&context))
            .await
    }

    /// At once where it takes no time; on a thread of its own where there are expressions, which others do not wait for.
    async fn on_thread<T: Send + 'static>(
        &self,
        source: &Source,
        work: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let compiled = source.compiled.clone();
        if !compiled.has_patterns {
            return Ok(work(&compiled.engine));
        }
        let failed = |cause: String| Error::Internal { cause };
        let turn = self.pattern_threads.clone().acquire_owned().await;
        let turn = turn.map_err(|error| failed(error.to_string()))?;
        let worked = tokio::task::spawn_blocking(move || {
            let answer = work(&compiled.engine);
            drop(turn);
            answer
        });
        worked.await.map_err(|error| failed(error.to_string()))
    }

    fn identity(&self, headers: &HeaderMap, environment: &str) -> u64 {
        let values = |name: &&str| {
            let values = headers.get_all(*name).iter();
            values
                .map(|value| value.as_bytes().to_vec())
                .collect::<Vec<_>>()
        };
        // Not where the request comes from: that would be an entry for each visitor.
        let names = IDENTITY
            .iter()
            .filter(|name| !matches!(**name, "x-request-id" | "x-forwarded-for"));
        let values: Vec<_> = names.map(values).collect();
        self.hasher.hash_one((values, environment))
    }

    fn cached<T>(&self, body: impl FnOnce(&mut Cache) -> T) -> T {
        body(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Source {
    /// A context of the caller's, with what it leaves out: who and where they are, and the environment. Some properties say what a flag requires, and only we set those.
    pub(super) fn context(&self, mut members: Map<String, Value>) -> Context {
        let is_ours = |name: &String, _: &mut Value| {
            !matches!(name.as_str(), "plan" | "role") && !name.starts_with("entitled_")
        };
        members.retain(is_ours);
        if let Some(Value::Object(properties)) = members.get_mut("properties") {
            properties.retain(is_ours);
        }
        members.extend(self.facts.properties.clone());
        let mut context = kijko_flags::context(members, &self.facts.now);
        context.user_id = context.user_id.or_else(|| self.facts.user_id.clone());
        context.remote_address = context
            .remote_address
            .or_else(|| self.facts.remote_address.clone());
        context.environment = context
            .environment
            .or_else(|| Some(self.facts.environment.clone()));
        context
    }
}

impl Cache {
    fn revision(&self, identity: u64) -> Option<i64> {
        let key = self.known.get(&identity)?;
        self.compiled.contains_key(key).then_some(key.2)
    }

    fn find(&mut self, key: &Key) -> Option<Arc<Compiled>> {
        self.clock += 1;
        let (compiled, used) = self.compiled.get_mut(key)?;
        *used = self.clock;
        Some(compiled.clone())
    }

    fn keep(&mut self, key: Key, compiled: Arc<Compiled>) {
        // The former revision is of no use any more.
        let is_former = |other: &&Key| other.0 == key.0 && other.1 == key.1;
        let former = self.compiled.keys().find(is_former).cloned();
        former.into_iter().for_each(|key| self.forget(&key));
        self.weight += compiled.weight;
        self.clock += 1;
        self.compiled.insert(key, (compiled, self.clock));
        while self.weight > MAX_WEIGHT && self.compiled.len() > 1 {
            let oldest = self.compiled.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some((compiled, _)) = self.compiled.remove(key) {
            self.weight -= compiled.weight;
        }
    }

    fn remember(&mut self, identity: u64, key: Key) {
        if self.known.len() >= MAX_KNOWN && !self.known.contains_key(&identity) {
            self.known.clear();
        }
        self.known.insert(identity, key);
    }
}

/// Expressions in definitions, or a few more: a value may be called as their operator.
fn count_patterns(definitions: &str) -> usize {
    definitions.matches("\"REGEX\"").count()
}

async fn compile(definitions: Value) -> Result<Compiled, Error> {
    let compiled = tokio::task::spawn_blocking(move || {
        let text = definitions.to_string();
        Ok(Compiled {
            engine: Engine::compile(&text, Patterns::Evaluate)?,
            definitions,
            has_patterns: count_patterns(&text) > 0,
            weight: 8 * text.len() + PATTERN_WEIGHT * count_patterns(&text),
        })
    });
    let failed = |cause: String| Error::Internal { cause };
    compiled
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(weight: usize) -> Arc<Compiled> {
        let definitions = json!({"version": 2, "features": []});
        Arc::new(Compiled {
            engine: Engine::compile(&definitions.to_string(), Patterns::Evaluate).unwrap(),
            definitions,
            has_patterns: false,
            weight,
        })
    }

    #[test]
    fn the_ones_that_were_used_longest_ago_go_first() {
        let mut cache = Cache::default();
        let key = |n: u128, revision| (Uuid::from_u128(n), "production".to_owned(), revision);
        for n in 0..3 {
            cache.keep(key(n, 1), compiled(MAX_WEIGHT / 3));
        }
        assert!(cache.find(&key(0, 1)).is_some());
        cache.keep(key(3, 1), compiled(MAX_WEIGHT / 3));
        assert!(cache.find(&key(1, 1)).is_none() && cache.find(&key(0, 1)).is_some());
        // A newer revision takes the place of the former one.
        cache.keep(key(0, 2), compiled(1));
        assert!(cache.find(&key(0, 1)).is_none() && cache.compiled.len() == 3);
        assert_eq!(cache.weight, 2 * (MAX_WEIGHT / 3) + 1);
        cache.remember(7, key(0, 1));
        assert_eq!(cache.revision(7), None);
        cache.remember(7, key(0, 2));
        assert_eq!(cache.revision(7), Some(2));
    }

    #[test]
    fn a_context_does_not_say_what_its_sender_may() {
        let source = Source {
            facts: Facts {
                org_id: Uuid::nil(),
                environment: "production".to_owned(),
                revision: 1,
                now: "2026-11-29T12:00:00Z".to_owned(),
                user_id: None,
                remote_address: Some("192.0.2.1".to_owned()),
                properties: json!({"plan": "FREE"}).as_object().cloned().unwrap(),
                definitions: None,
            },
            compiled: compiled(1),
            limits: HeaderMap::new(),
        };
        let sent = json!({"plan": "PRO", "role": "owner", "properties": {"entitled_sso": "true", "plan": "PRO", "beta": "1"}});
        let context = source.context(sent.as_object().cloned().unwrap());
        let properties = context.properties.unwrap();
        assert_eq!((properties.len(), properties["plan"].as_str()), (2, "FREE"));
        assert_eq!(context.remote_address.as_deref(), Some("192.0.2.1"));
        assert_eq!(context.environment.as_deref(), Some("production"));
    }
}

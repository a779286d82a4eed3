//! The database functions of the gateway; the only SQL of this domain.

use std::collections::HashMap;

use futures_util::future::BoxFuture;
use kijko_core::{
    db::{Db, DbError},
    secret::Secret,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::llm::{Usage, Vendor};

/// What a ticket allows.
#[derive(Clone, Deserialize)]
pub(super) struct Opened {
    pub call_id: Uuid,
    /// Who pays.
    pub org_id: Uuid,
    /// Member, key, project and skill, as ids.
    #[serde(default)]
    pub attributes: Map<String, Value>,
    /// What the hold counts on.
    pub input_tokens: u64,
    /// In the order in which they are tried.
    pub targets: Vec<Target>,
    /// Further attempts on one target.
    pub retries: u32,
    /// Within it an answer must have begun, from whichever target.
    pub time_budget_seconds: u64,
    pub first_token_seconds: u64,
    pub idle_seconds: u64,
    /// Whether prompt and answer are kept.
    #[serde(default)]
    pub record_content: bool,
}

/// A model of a provider.
#[derive(Clone, Deserialize)]
pub(super) struct Target {
    pub index: i32,
    pub provider: String,
    pub kind: Kind,
    /// None, without a key: as this process is configured.
    pub base_url: Option<String>,
    pub key: Option<Secret>,
    /// When the provider's key was set, in microseconds. None: it has none.
    #[serde(default)]
    pub key_set_at: Option<i64>,
    /// The key is the organization's, which pays the vendor itself.
    #[serde(default)]
    pub own_key: bool,
    /// The vendor's own name.
    pub model: String,
    /// Of each choice; it is always sent.
    pub max_output_tokens: u64,
    pub max_concurrency: Option<usize>,
    /// What the hold counts on, if it is another number than the call's: some models count more for an image.
    #[serde(default)]
    pub input_tokens: Option<u64>,
    pub provider_id: Option<Uuid>,
    /// Hosts of the operator's own network that its address may name.
    #[serde(default)]
    pub allowed_hosts: String,
}

/// A key of a provider, and when it was set.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct KeySet {
    pub key: Option<Secret>,
    pub key_set_at: Option<i64>,
}

/// Which API a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    OpenAi,
    Anthropic,
    Gemini,
    Echo,
}

impl Kind {
    /// None: it is not called over the network.
    pub(super) fn vendor(self) -> Option<Vendor> {
        match self {
            Self::OpenAi => Some(Vendor::OpenAi),
            Self::Anthropic => Some(Vendor::Anthropic),
            Self::Gemini => Some(Vendor::Gemini),
            Self::Echo => None,
        }
    }

    /// In metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Echo => "echo",
        }
    }
}

/// What an attempt has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spent {
    /// Nobody was called yet.
    Unsent,
    /// Certainly nothing.
    Nothing,
    /// It may be anything up to the hold.
    Unknown,
    /// `estimated`: by us, not by the vendor.
    Counted { usage: Usage, estimated: bool },
}

/// The answer to the wish for one more attempt.
#[derive(Debug, Deserialize)]
pub(super) struct Raised {
    pub refused: Option<String>,
    pub message: Option<String>,
}

/// What a call was settled at.
#[derive(Debug, Deserialize)]
pub(super) struct Settled {
    /// None: no price is known.
    pub cost_microusd: Option<i64>,
    #[serde(default)]
    pub estimated: bool,
}

impl Opened {
    /// What the hold counts on for a target.
    pub(super) fn input_tokens_of(&self, index: i32) -> u64 {
        let target = self.targets.iter().find(|target| target.index == index);
        target
            .and_then(|target| target.input_tokens)
            .unwrap_or(self.input_tokens)
    }
}

/// What became of each call of a batch.
pub(super) type SettledCalls = HashMap<Uuid, Option<Settled>>;

/// The store of calls.
pub(super) trait Calls: Send + Sync {
    /// By which the API knows the gateway, for 15 minutes.
    fn pass(&self) -> BoxFuture<'_, Result<Secret, DbError>>;

    /// `None` when the provider is gone.
    fn key(&self, provider: Uuid) -> BoxFuture<'_, Result<Option<KeySet>, DbError>>;

    /// Whether calls of the organization were sent and are not settled.
    fn is_calling(&self, organization: Uuid) -> BoxFuture<'_, Result<bool, DbError>>;

    /// `None` when the ticket has expired.
    fn open(&self, ticket: String) -> BoxFuture<'_, Result<Option<Opened>, DbError>>;

    /// Before each further attempt, and before the first one if it is not at the first target. `None` when the call is settled.
    fn raise(
        &self,
        call: Uuid,
        target: i32,
        spent: Spent,
    ) -> BoxFuture<'_, Result<Option<Raised>, DbError>>;

    /// Ends a call, once; `None` when it was settled before.
    fn settle(&self, call: Uuid, usage: Value) -> BoxFuture<'_, Result<Option<Settled>, DbError>>;

    /// Ends calls in one transaction: all, or none if it fails. Those that another session holds are left out.
    fn settle_many(
        &self,
        calls: Vec<(Uuid, Value)>,
    ) -> BoxFuture<'_, Result<SettledCalls, DbError>>;
}

/// The database.
#[derive(Debug, Clone)]
pub(super) struct Store {
    db: Db,
}

impl Store {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }
}

impl Calls for Store {
    fn pass(&self) -> BoxFuture<'_, Result<Secret, DbError>> {
        Box::pin(async move {
            let sql = "select private.llm_gateway_pass()";
            Ok(Secret::new(self.db.scalar::<String>(sql, &[]).await?))
        })
    }

    fn key(&self, provider: Uuid) -> BoxFuture<'_, Result<Option<KeySet>, DbError>> {
        Box::pin(async move {
            let sql = "select private.llm_gateway_key($1)";
            let answer = self.db.scalar::<Option<Value>>(sql, &[&provider]).await?;
            read("llm_gateway_key", answer)
        })
    }

    fn is_calling(&self, organization: Uuid) -> BoxFuture<'_, Result<bool, DbError>> {
        Box::pin(async move {
            let sql = "select private.llm_is_calling($1)";
            self.db.scalar(sql, &[&organization]).await
        })
    }

    fn open(&self, ticket: String) -> BoxFuture<'_, Result<Option<Opened>, DbError>> {
        Box::pin(async move {
            let sql = "select private.llm_open($1)";
            let answer = self.db.scalar::<Option<Value>>(sql, &[&ticket]).await?;
            read("llm_open", answer)
        })
    }

    fn raise(
        &self,
        call: Uuid,
        target: i32,
        spent: Spent,
    ) -> BoxFuture<'_, Result<Option<Raised>, DbError>> {
        Box::pin(async move {
            let sql = "select private.llm_raise($1, $2, $3)";
            let spent = spent.raised();
            let answer: Option<Value> = self.db.scalar(sql, &[&call, &target, &spent]).await?;
            read("llm_raise", answer)
        })
    }

    fn settle(&self, call: Uuid, usage: Value) -> BoxFuture<'_, Result<Option<Settled>, DbError>> {
        Box::pin(async move {
            let mut settled = self.settle_many(vec![(call, usage)]).await?;
            settled.remove(&call).ok_or_else(busy)
        })
    }

    fn settle_many(
        &self,
        calls: Vec<(Uuid, Value)>,
    ) -> BoxFuture<'_, Result<SettledCalls, DbError>> {
        Box::pin(async move {
            let sql = "select private.llm_settle_many($1, $2)";
            let (ids, usages): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
            let usages = Value::Array(usages);
            let settled: Option<Value> = self.db.scalar(sql, &[&ids, &usages]).await?;
            Ok(read("llm_settle_many", settled)?.unwrap_or_default())
        })
    }
}

/// Another session holds the call or its organization.
fn busy() -> DbError {
    DbError::Refused {
        code: "55P03".to_owned(),
        message: "the call is locked".to_owned(),
        detail: None,
        hint: None,
        transient: true,
    }
}

fn read<T: DeserializeOwned>(function: &str, answer: Option<Value>) -> Result<Option<T>, DbError> {
    answer
        .map(serde_json::from_value)
        .transpose()
        .map_err(|error| DbError::Unexpected(format!("{function}: {error}")))
}

impl Spent {
    /// What `llm_raise` takes.
    fn raised(self) -> Option<Value> {
        match self {
            Self::Unsent => Some(json!({"sent": false})),
            Self::Nothing => None,
            Self::Unknown => Some(json!({"estimated": true})),
            Self::Counted { .. } => Some(self.counts()),
        }
    }

    /// The counts of `llm_settle_many`. What is left out is unknown.
    pub(super) fn counts(self) -> Value {
        match self {
            Self::Unsent | Self::Nothing => json!({"prompt_tokens": 0, "completion_tokens": 0}),
            Self::Unknown => json!({"estimated": true}),
            Self::Counted { usage, estimated } => json!({
                "prompt_tokens": usage.input,
                "completion_tokens": usage.output,
                "cached_tokens": usage.cache_read,
                "cache_write_tokens": usage.cache_write,
                "cache_write_1h_tokens": usage.cache_write_1h,
                "reasoning_tokens": usage.reasoning,
                "estimated": estimated,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_as_the_database_writes_it() {
        let target: Target = serde_json::from_value(json!({
            "index": 0, "provider": "openai", "kind": "openai", "base_url": null, "key": "sk-very-secret", "own_key": true,
            "model": "gpt-4o", "max_output_tokens": 4096, "max_concurrency": null, "provider_id": null, "allowed_hosts": "", "price": {"new": 1},
        }))
        .unwrap();
        assert_eq!((target.kind, target.index), (Kind::OpenAi, 0));
        assert!(target.own_key);
        assert!(!format!("{:?}", target.key).contains("secret"));
    }

    #[test]
    fn what_is_unknown_is_left_out_and_nothing_is_zero() {
        assert_eq!(Spent::Nothing.raised(), None);
        assert_eq!(Spent::Nothing.counts()["prompt_tokens"], 0);
        assert_eq!(Spent::Unsent.raised(), Some(json!({"sent": false})));
        assert_eq!(Spent::Unsent.counts(), Spent::Nothing.counts());
        assert!(Spent::Unknown.counts().get("prompt_tokens").is_none());
        let usage = Usage::new(3, 4);
        let counted = Spent::Counted {
            usage,
            estimated: true,
        };
        assert_eq!(counted.raised(), Some(counted.counts()));
        assert_eq!(counted.counts()["completion_tokens"], 4);
    }
}

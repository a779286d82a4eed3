//! Language models behind one small interface. Vendors are chosen by the model's name: by the part before the slash, or by
//! a well-known name.

pub mod config;
mod echo;
mod error;
mod estimate;
mod fault;
mod redact;
mod relay;
mod request;
mod usage;
mod vendor;
mod wire;

use std::sync::Arc;

pub use config::{LlmConfig, VendorConfig};
pub use echo::Echo;
pub use error::{LlmError, LlmFault};
use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
pub use usage::{CallState, Progress, Usage};
pub use vendor::{Vendor, VendorClient};

/// One question to a model.
#[derive(Debug, Clone)]
pub struct CompletionRequest {
    /// The vendor's own name of the model, without our prefix.
    pub model: String,
    /// The rendered prompt.
    pub prompt: String,
    /// The skill's parameters, as its author wrote them; each provider takes those it knows.
    pub parameters: Map<String, Value>,
    /// The longest answer that the vendor may give; reserved before the call, so it is always sent.
    pub max_tokens: u64,
    /// Kept up to date by the provider, for whoever settles the call when it is dropped or fails.
    pub progress: Progress,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// What the model said.
    pub text: String,
    /// The model that answered, in the vendor's words ("gpt-4o-2024-08-06" for "gpt-4o").
    pub model: String,
    /// What it used, as the vendor counts.
    pub usage: Usage,
    /// Why the model stopped: `stop`, `length` when the answer was cut, or another word of the vendor's.
    pub finish_reason: Option<String>,
}

/// A vendor of completions. Dropping the returned future cancels the call.
pub trait Provider: Send + Sync {
    /// Short name, used in metrics and as prefix of the model that answered.
    fn name(&self) -> &'static str;

    /// The most that the call can use, known before it. Vendors report the actual use afterwards.
    fn max_usage(&self, request: &CompletionRequest) -> Usage {
        let input = estimate::request_tokens(&request.prompt, &request.parameters);
        Usage::new(input, request.max_tokens)
    }

    /// Asks the model once. Retrying is the queue's business, which survives this process.
    fn complete(&self, request: CompletionRequest) -> BoxFuture<'_, Result<Completion, LlmError>>;
}

/// The providers that are configured.
#[derive(Clone, Default)]
pub struct Models {
    providers: Vec<(&'static str, Arc<dyn Provider>)>,
}

impl Models {
    /// Sets up what the configuration names.
    pub fn new(config: &LlmConfig) -> Result<Self, LlmError> {
        let mut models = Self::default();
        if config.echo {
            models.add(Arc::new(Echo));
        }
        for (vendor, settings) in [
            (Vendor::OpenAi, &config.openai),
            (Vendor::Anthropic, &config.anthropic),
            (Vendor::Gemini, &config.gemini),
        ] {
            if let Some(settings) = settings {
                models.add(Arc::new(VendorClient::new(vendor, settings)?));
            }
        }
        Ok(models)
    }

    /// Adds a provider under its name.
    pub fn add(&mut self, provider: Arc<dyn Provider>) {
        self.providers.push((provider.name(), provider));
    }

    /// Names of the configured providers.
    pub fn names(&self) -> Vec<&'static str> {
        self.providers.iter().map(|(name, _)| *name).collect()
    }

    /// The provider of a model such as `openai/gpt-4o`, and the vendor's own name of the model. A name without a
    /// prefix belongs to whose it is known to be, or else to the OpenAI-compatible vendor. Only the first part counts: `openai/meta/llama` asks the
    /// OpenAI-compatible vendor (a router, say) for `meta/llama`.
    pub fn pick(&self, model: &str) -> Result<(Arc<dyn Provider>, String), LlmError> {
        let (prefix, name) = model.split_once('/').unwrap_or_else(|| {
            let vendor = Vendor::of_well_known(model).unwrap_or(Vendor::OpenAi);
            (vendor.name(), model)
        });
        match self
            .providers
            .iter()
            .find(|(provider, _)| *provider == prefix)
        {
            Some((_, provider)) => Ok((provider.clone(), name.to_owned())),
            None => Err(LlmError::new(
                LlmFault::ModelNotAvailable,
                format!("no provider is configured for {prefix}/… models"),
            )),
        }
    }
}

/// The longest answer that a skill allows: its `max_tokens` or `max_completion_tokens`, or else this default, which is no
/// more than the model gives. Anthropic's thinking has a budget of its own and comes on top of the default.
pub fn max_tokens(
    parameters: &Map<String, Value>,
    default: u64,
    model_max: Option<u64>,
) -> Result<u64, LlmError> {
    let mut given = None;
    for name in ["max_tokens", "max_completion_tokens"] {
        match parameters.get(name) {
            None | Some(Value::Null) => {}
            Some(value) => given = given.max(Some(whole(name, value)?)),
        }
    }
    let thinking = parameters
        .get("thinking")
        .and_then(|thinking| thinking.get("budget_tokens")?.as_u64())
        .unwrap_or(0);
    Ok(given.unwrap_or_else(|| {
        let default = default.saturating_add(thinking);
        model_max.map_or(default, |max| default.min(max))
    }))
}

fn whole(name: &str, value: &Value) -> Result<u64, LlmError> {
    let number = value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|n| n.fract() == 0.0)
            .map(|n| n as u64)
    });
    number
        .filter(|number| (1..=10_000_000).contains(number))
        .ok_or_else(|| {
            LlmError::new(
                LlmFault::Rejected,
                format!("{name}: a whole number from 1 to 10,000,000"),
            )
        })
}

/// `"response_format"` is `"json"`, `"json_object"`, `"json_schema"`, or an object with one of these as its `type`.
pub fn is_json_format(format: &Value) -> bool {
    let kind = format.get("type").unwrap_or(format).as_str();
    matches!(kind, Some("json" | "json_object" | "json_schema"))
}

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Models").field(&self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_chooses_the_provider() {
        let mut models = Models::default();
        models.add(Arc::new(Echo));
        let (provider, name) = models.pick("echo/some/thing").unwrap();
        assert_eq!((provider.name(), name.as_str()), ("echo", "some/thing"));
    }

    #[test]
    fn the_longest_answer_is_the_skills_or_the_default() {
        let most = |parameters: Value, model: Option<u64>| {
            max_tokens(parameters.as_object().unwrap(), 8_192, model).ok()
        };
        for (parameters, model, wanted) in [
            (serde_json::json!({}), None, Some(8_192)),
            (serde_json::json!({}), Some(4_096), Some(4_096)),
            (
                serde_json::json!({"max_tokens": null}),
                Some(64_000),
                Some(8_192),
            ),
            (serde_json::json!({"max_tokens": 50}), Some(20), Some(50)),
            (
                serde_json::json!({"max_tokens": 50, "max_completion_tokens": 70}),
                None,
                Some(70),
            ),
            (serde_json::json!({"max_tokens": 50.0}), None, Some(50)),
            (
                serde_json::json!({"thinking": {"budget_tokens": 10_000}}),
                Some(64_000),
                Some(18_192),
            ),
            (serde_json::json!({"max_tokens": "50"}), None, None),
            (serde_json::json!({"max_tokens": 0}), None, None),
            (serde_json::json!({"max_completion_tokens": -1}), None, None),
            (serde_json::json!({"max_tokens": 1.5}), None, None),
        ] {
            assert_eq!(most(parameters.clone(), model), wanted, "{parameters}");
        }
    }

    #[test]
    fn a_provider_that_is_not_configured_is_not_available() {
        for model in ["echo/echo", "openai/gpt-4o", "gpt-4o", "anthropic/claude"] {
            let error = Models::default().pick(model).err().unwrap();
            assert_eq!(
                (error.code(), error.retryable()),
                ("model_not_available", false),
                "{model}"
            );
        }
    }
}

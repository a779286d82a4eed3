//! The names of OpenTelemetry's GenAI conventions, all in this file: they are still in development, and move.

use super::Usage;
use kijko_core::telemetry::traces::span::Attributes;

pub(crate) const OPERATION_NAME: &str = "gen_ai.operation.name";
pub(crate) const PROVIDER_NAME: &str = "gen_ai.provider.name";
pub(crate) const OUTPUT_TYPE: &str = "gen_ai.output.type";

pub(crate) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(crate) const REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
pub(crate) const REQUEST_TEMPERATURE: &str = "gen_ai.request.temperature";
pub(crate) const REQUEST_TOP_P: &str = "gen_ai.request.top_p";
pub(crate) const REQUEST_SEED: &str = "gen_ai.request.seed";
pub(crate) const REQUEST_STOP_SEQUENCES: &str = "gen_ai.request.stop_sequences";
pub(crate) const REQUEST_FREQUENCY_PENALTY: &str = "gen_ai.request.frequency_penalty";
pub(crate) const REQUEST_PRESENCE_PENALTY: &str = "gen_ai.request.presence_penalty";
pub(crate) const REQUEST_CHOICE_COUNT: &str = "gen_ai.request.choice.count";
pub(crate) const REQUEST_STREAM: &str = "gen_ai.request.stream";
pub(crate) const REQUEST_ENCODING_FORMATS: &str = "gen_ai.request.encoding_formats";

pub(crate) const RESPONSE_ID: &str = "gen_ai.response.id";
pub(crate) const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub(crate) const RESPONSE_FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
/// Seconds.
pub(crate) const RESPONSE_TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";

/// Cached tokens are among them. Anthropic's own count leaves them out; [`Usage`] does not.
const USAGE_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
const USAGE_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
const USAGE_CACHE_READ: &str = "gen_ai.usage.cache_read.input_tokens";
const USAGE_CACHE_CREATION: &str = "gen_ai.usage.cache_creation.input_tokens";
const USAGE_REASONING: &str = "gen_ai.usage.reasoning.output_tokens";

/// Opt-in.
pub(crate) const INPUT_MESSAGES: &str = "gen_ai.input.messages";
pub(crate) const OUTPUT_MESSAGES: &str = "gen_ai.output.messages";

pub(crate) const ERROR_TYPE: &str = "error.type";
pub(crate) const SERVER_ADDRESS: &str = "server.address";
pub(crate) const SERVER_PORT: &str = "server.port";
pub(crate) const USER_ID: &str = "user.id";

/// Langfuse's own, which win over the ones above: kinds of tokens that do not overlap, and US dollars.
const LANGFUSE_USAGE: &str = "langfuse.observation.usage_details";
const LANGFUSE_COST: &str = "langfuse.observation.cost_details";

/// Ours: what the conventions have no name for.
pub(crate) const ORG_ID: &str = "kijko.org.id";
pub(crate) const PROJECT_ID: &str = "kijko.project.id";
pub(crate) const SKILL_ID: &str = "kijko.skill.id";
pub(crate) const KEY_ID: &str = "kijko.key.id";
pub(crate) const EXECUTION_ID: &str = "kijko.execution.id";
pub(crate) const JOB_ATTEMPT: &str = "kijko.job.attempt";
pub(crate) const CALL_ID: &str = "kijko.llm.call.id";
/// What the caller named: a route, or a model.
pub(crate) const CALLED_MODEL: &str = "kijko.llm.called_model";
/// The name of the provider's row.
pub(crate) const PROVIDER: &str = "kijko.llm.provider";
pub(crate) const OWN_KEY: &str = "kijko.llm.own_key";
pub(crate) const ATTEMPTS: &str = "kijko.llm.attempts";
pub(crate) const OUTCOME: &str = "kijko.llm.outcome";
/// Whether tokens and cost are no counts of the vendor.
pub(crate) const ESTIMATED: &str = "kijko.llm.estimated";
const COST: &str = "kijko.llm.cost_microusd";
/// An event of a call.
pub(crate) const ATTEMPT_EVENT: &str = "kijko.llm.attempt";

/// Operations.
pub(crate) const CHAT: &str = "chat";
pub(crate) const EMBEDDINGS: &str = "embeddings";
pub(crate) const GENERATE_CONTENT: &str = "generate_content";
pub(crate) const INVOKE_AGENT: &str = "invoke_agent";

/// The conventions' name of a provider that we have another one for.
pub(crate) fn provider_name(provider: &str) -> &str {
    match provider {
        "gemini" => "gcp.gemini",
        other => other,
    }
}

/// What a call has used.
pub(crate) fn usage(attributes: &mut Attributes, usage: &Usage) {
    if usage.is_empty() {
        return;
    }
    attributes.set(USAGE_INPUT_TOKENS, usage.input);
    attributes.set(USAGE_OUTPUT_TOKENS, usage.output);
    attributes.set(USAGE_CACHE_READ, usage.cache_read);
    attributes.set(USAGE_CACHE_CREATION, usage.cache_write);
    attributes.set(USAGE_REASONING, usage.reasoning);
    let (cached, thought) = (usage.cache_read + usage.cache_write, usage.reasoning);
    let details = serde_json::json!({
        "input": usage.input.saturating_sub(cached),
        "input_cache_read": usage.cache_read,
        "input_cache_creation": usage.cache_write,
        "output": usage.output.saturating_sub(thought),
        "output_reasoning": thought,
    });
    attributes.set(LANGFUSE_USAGE, details.to_string());
}

/// What it has cost.
pub(crate) fn cost(attributes: &mut Attributes, microusd: i64) {
    attributes.set(COST, microusd);
    let dollars = microusd as f64 / 1e6;
    attributes.set(
        LANGFUSE_COST,
        serde_json::json!({"total": dollars}).to_string(),
    );
}

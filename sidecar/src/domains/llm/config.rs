//! The settings of the gateway, beside those of the vendors.

use kijko_core::config::Reader;

use crate::llm::LlmConfig;

/// The gateway's settings.
#[derive(Debug, Clone)]
pub(super) struct GatewayConfig {
    /// The vendors that this process has keys of.
    pub vendors: LlmConfig,
    /// Larger requests are refused; images come within them.
    pub max_body_bytes: usize,
    /// Calls at once, in all.
    pub max_calls: usize,
    /// Of an organization.
    pub max_calls_of_caller: usize,
    /// Of a provider whose row says nothing else.
    pub max_calls_of_provider: usize,
}

impl GatewayConfig {
    pub(super) fn read(env: &mut Reader<'_>) -> Self {
        let mut number = |name: &str, default: u64, most: u64, least: u64| {
            env.number(name, default, least..=most) as usize
        };
        Self {
            max_body_bytes: number("KIJKO_LLM_MAX_BODY_BYTES", 20 << 20, 32 << 20, 1_024),
            max_calls: number("KIJKO_LLM_MAX_CALLS", 2_048, 100_000, 1),
            max_calls_of_caller: number("KIJKO_LLM_MAX_CALLS_OF_CALLER", 256, 100_000, 1),
            max_calls_of_provider: number("KIJKO_LLM_MAX_CALLS_OF_PROVIDER", 1_024, 100_000, 1),
            vendors: LlmConfig::read(env),
        }
    }
}

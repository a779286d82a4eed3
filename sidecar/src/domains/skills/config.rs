//! The settings of skills.

use kijko_core::{config::Reader, outbound::Url};

use crate::{api::Api, input_files::InputFiles, llm::LlmConfig};

/// Where the API is, and what a skill's answer may have at most.
#[derive(Debug)]
pub(super) struct SkillsConfig {
    /// None: the routes of this domain are not configured.
    pub rest_url: Option<Url>,
    /// None: dry runs read no files.
    pub storage_url: Option<Url>,
    /// `max_tokens` of a skill that sets none.
    pub default_max_tokens: u64,
}

impl SkillsConfig {
    pub(super) fn read(env: &mut Reader<'_>) -> Self {
        Self {
            // Other domains read the same variables; a problem is reported once.
            rest_url: Api::url(env),
            storage_url: InputFiles::url(env),
            default_max_tokens: LlmConfig::read(env).default_max_tokens,
        }
    }
}

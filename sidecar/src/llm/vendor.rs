//! The vendors: their names, addresses and well-known models.

use kijko_core::outbound::Url;

/// A vendor of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// OpenAI, vLLM, Ollama, LiteLLM, OpenRouter, …
    OpenAi,
    /// Claude.
    Anthropic,
    /// Google's.
    Gemini,
}

impl Vendor {
    /// Prefix of its models.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }

    /// Where the vendor itself answers.
    pub(crate) fn home(self) -> Url {
        let url = match self {
            Self::OpenAi => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com",
            Self::Gemini => "https://generativelanguage.googleapis.com",
        };
        url.parse().expect("the address is valid")
    }

    /// The vendor that is known for a name without a prefix. Any other name may be of any vendor.
    pub fn of_well_known(model: &str) -> Option<Self> {
        match model {
            _ if model.starts_with("claude-") => Some(Self::Anthropic),
            _ if model.starts_with("gemini-") => Some(Self::Gemini),
            _ if model.starts_with("gpt-")
                || model.starts_with("chatgpt-")
                || is_o_series(model) =>
            {
                Some(Self::OpenAi)
            }
            _ => None,
        }
    }

    /// The base URL is what the vendor's own libraries take under the same variable: OpenAI's with the version,
    /// the others' without; one that has it is fine as well.
    pub(crate) fn address(self, base: &Url, model: &str) -> Url {
        let mut address = base.clone();
        let path = base.path().trim_end_matches('/');
        let versioned = |version: &str| {
            if path.ends_with("/v1") || path.ends_with("/v1beta") {
                path.to_owned()
            } else {
                format!("{path}/{version}")
            }
        };
        match self {
            Self::OpenAi => address.set_path(&format!("{path}/chat/completions")),
            Self::Anthropic => address.set_path(&format!("{}/messages", versioned("v1"))),
            Self::Gemini => {
                address.set_path(&format!(
                    "{}/models/{model}:streamGenerateContent",
                    versioned("v1beta")
                ));
                address.set_query(Some("alt=sse"));
            }
        }
        address
    }
}

fn is_o_series(model: &str) -> bool {
    let version = model.strip_prefix('o');
    version.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Whether OpenAI's model refuses `max_tokens` and takes `max_completion_tokens` instead: the o series, and GPT-5 and later.
pub(crate) fn counts_reasoning(model: &str) -> bool {
    let version = model.strip_prefix("gpt-").unwrap_or_default();
    let digits = version.find(|c: char| !c.is_ascii_digit());
    let major = version[..digits.unwrap_or(version.len())].parse::<u32>();
    is_o_series(model) || major.is_ok_and(|major| major >= 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_names_tell_their_vendor() {
        for (name, vendor) in [
            ("gpt-4o", Some(Vendor::OpenAi)),
            ("chatgpt-4o-latest", Some(Vendor::OpenAi)),
            ("o3-mini", Some(Vendor::OpenAi)),
            ("claude-sonnet-4-5", Some(Vendor::Anthropic)),
            ("gemini-2.5-pro", Some(Vendor::Gemini)),
            ("llama3", None),
            ("other", None),
        ] {
            assert_eq!(Vendor::of_well_known(name), vendor, "{name}");
        }
    }

    #[test]
    fn addresses_take_a_base_with_and_without_a_version() {
        let address =
            |vendor: Vendor, base: &str| vendor.address(&base.parse().unwrap(), "m").to_string();
        assert_eq!(
            address(Vendor::OpenAi, "http://h/v1"),
            "http://h/v1/chat/completions"
        );
        for base in ["http://h", "http://h/v1"] {
            assert_eq!(address(Vendor::Anthropic, base), "http://h/v1/messages");
        }
        for base in ["http://h/proxy", "http://h/proxy/v1beta"] {
            assert_eq!(
                address(Vendor::Gemini, base),
                "http://h/proxy/v1beta/models/m:streamGenerateContent?alt=sse"
            );
        }
    }

    #[test]
    fn models_that_reason_have_another_name_for_the_limit() {
        for (model, counts) in [
            ("gpt-4o", false),
            ("gpt-4.1", false),
            ("gpt-5-mini", true),
            ("gpt-5.6", true),
            ("gpt-6", true),
            ("gpt-10-x", true),
            ("o3-mini", true),
            ("gpt-oss", false),
            ("qwen/qwen3", false),
        ] {
            assert_eq!(counts_reasoning(model), counts, "{model}");
        }
    }
}

//! The vendors: their names, addresses, headers and well-known models.

use kijko_core::{
    outbound::{RequestBuilder, Url},
    secret::Secret,
};

/// What a request asks for, of the vendors that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A streamed answer, for Gemini.
    Chat,
    Embeddings,
    Images,
}

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

    /// Whether the vendor can have a model of this name. Gemini's is part of the address, and must not lead elsewhere with the key.
    pub(crate) fn takes_name(self, model: &str) -> bool {
        self != Self::Gemini || !model.contains(['/', ':', '@', '?', '#', '\\'])
    }

    /// The base URL is what the vendor's own libraries take under the same variable: OpenAI's with the version,
    /// the others' without; one that has it is fine as well.
    pub(crate) fn address(self, base: &Url, endpoint: Endpoint, model: &str) -> Url {
        let mut address = base.clone();
        let path = base.path().trim_end_matches('/');
        let versioned = |version: &str| {
            if path.ends_with("/v1") || path.ends_with("/v1beta") {
                path.to_owned()
            } else {
                format!("{path}/{version}")
            }
        };
        let path = match (self, endpoint) {
            (Self::OpenAi, Endpoint::Chat) => format!("{path}/chat/completions"),
            (Self::OpenAi, Endpoint::Embeddings) => format!("{path}/embeddings"),
            (Self::OpenAi, Endpoint::Images) => format!("{path}/images/generations"),
            (Self::Anthropic, _) => format!("{}/messages", versioned("v1")),
            (Self::Gemini, _) => {
                let method = match endpoint {
                    Endpoint::Chat => "streamGenerateContent",
                    Endpoint::Embeddings => "batchEmbedContents",
                    Endpoint::Images => "generateContent",
                };
                format!("{}/models/{model}:{method}", versioned("v1beta"))
            }
        };
        address.set_path(&path);
        if (self, endpoint) == (Self::Gemini, Endpoint::Chat) {
            address.set_query(Some("alt=sse"));
        }
        address
    }

    /// A request with the key, if there is one, in the header that the vendor reads. Servers on the operator's own machine often
    /// want none.
    pub(crate) fn authorize(self, request: RequestBuilder, key: Option<&Secret>) -> RequestBuilder {
        let request = match (self, key.map(Secret::expose)) {
            (_, None) => request,
            (Self::OpenAi, Some(key)) => request.bearer_auth(key),
            (Self::Anthropic, Some(key)) => request.header("x-api-key", key),
            (Self::Gemini, Some(key)) => request.header("x-goog-api-key", key),
        };
        match self {
            Self::Anthropic => request.header("anthropic-version", "2023-06-01"),
            Self::OpenAi | Self::Gemini => request,
        }
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
        let address_of = |vendor: Vendor, endpoint, base: &str| {
            vendor
                .address(&base.parse().unwrap(), endpoint, "m")
                .to_string()
        };
        let address = |vendor, base: &str| address_of(vendor, Endpoint::Chat, base);
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
        for (vendor, endpoint, wanted) in [
            (
                Vendor::OpenAi,
                Endpoint::Embeddings,
                "http://h/v1/embeddings",
            ),
            (
                Vendor::OpenAi,
                Endpoint::Images,
                "http://h/v1/images/generations",
            ),
            (
                Vendor::Gemini,
                Endpoint::Embeddings,
                "http://h/v1/models/m:batchEmbedContents",
            ),
            (
                Vendor::Gemini,
                Endpoint::Images,
                "http://h/v1/models/m:generateContent",
            ),
        ] {
            assert_eq!(address_of(vendor, endpoint, "http://h/v1"), wanted);
        }
    }

    #[test]
    fn the_name_of_a_model_leads_nowhere_else() {
        for name in ["../x", "m:x", "m@x", "m?x", "m#x", "..\\x"] {
            assert!(!Vendor::Gemini.takes_name(name), "{name}");
            assert!(Vendor::OpenAi.takes_name(name), "{name}");
        }
        assert!(Vendor::Gemini.takes_name("gemini-2.5-pro"));
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

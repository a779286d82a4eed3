//! The settings of model vendors.

use kijko_core::{
    config::Reader,
    outbound::{Limits, Url, header},
    secret::Secret,
};

use super::vendor::Vendor;

/// The model vendors' settings.
#[derive(Debug, Clone)]
pub struct LlmConfig {
    /// Whether `echo/…` models answer. For development: they cost nothing and repeat the prompt.
    pub echo: bool,
    /// `max_tokens` of a skill that sets none.
    pub default_max_tokens: u64,
    /// The limits of each call; a job's own timeout may be shorter.
    pub limits: Limits,
    /// Any service that speaks OpenAI's chat completions. A vendor is `None` when neither its key nor its base URL is set.
    pub openai: Option<VendorConfig>,
    /// Claude.
    pub anthropic: Option<VendorConfig>,
    /// Google's.
    pub gemini: Option<VendorConfig>,
}

/// One vendor.
#[derive(Debug, Clone)]
pub struct VendorConfig {
    /// The base URL, without a trailing slash; the path of a call is appended.
    pub base_url: Url,
    /// The key, if the vendor wants one.
    pub api_key: Option<Secret>,
    /// The limits of each call; a job's own timeout may be shorter.
    pub limits: Limits,
}

impl LlmConfig {
    /// Reads the variables. A key that no header can carry is a problem, and so is a URL that cannot be parsed.
    pub fn read(env: &mut Reader<'_>) -> Self {
        let echo = env.flag("KIJKO_LLM_ECHO");
        let default_max_tokens = env.number("KIJKO_LLM_DEFAULT_MAX_TOKENS", 8_192, 1..=10_000_000);
        let limits = read_limits(env);
        Self {
            echo,
            default_max_tokens,
            limits,
            openai: VendorConfig::read(env, "OPENAI", Vendor::OpenAi, limits),
            anthropic: VendorConfig::read(env, "ANTHROPIC", Vendor::Anthropic, limits),
            gemini: VendorConfig::read(env, "GEMINI", Vendor::Gemini, limits),
        }
    }
}

/// What is the same for all vendors.
fn read_limits(env: &mut Reader<'_>) -> Limits {
    Limits {
        connect_timeout: env.seconds("KIJKO_LLM_CONNECT_TIMEOUT_SECONDS", 10, 1..=120),
        total_timeout: env.seconds("KIJKO_LLM_TIMEOUT_SECONDS", 120, 1..=3_600),
        idle_timeout: env.seconds("KIJKO_LLM_IDLE_TIMEOUT_SECONDS", 60, 1..=3_600),
        max_bytes: env.number("KIJKO_LLM_MAX_RESPONSE_BYTES", 16 << 20, 1_024..=256 << 20) as usize,
    }
}

impl VendorConfig {
    fn read(env: &mut Reader<'_>, name: &str, vendor: Vendor, limits: Limits) -> Option<Self> {
        let (key_name, url_name) = (format!("{name}_API_KEY"), format!("{name}_BASE_URL"));
        let api_key = env.text(&key_name).map(Secret::new);
        let base_url = env.text(&url_name);
        if api_key.is_none() && base_url.is_none() {
            return None;
        }
        if api_key
            .as_ref()
            .is_some_and(|key| header::HeaderValue::from_str(key.expose()).is_err())
        {
            env.problem(&key_name, "has characters that no HTTP header may carry");
        }
        let base_url = match base_url {
            Some(url) => vendor_url(env, &url_name, &url)?,
            None => vendor.home(),
        };
        Some(Self {
            base_url,
            api_key,
            limits,
        })
    }
}

/// A vendor's base URL. Credentials in it are refused, because URLs end up in logs and keys must not.
pub(crate) fn vendor_url(env: &mut Reader<'_>, name: &str, value: &str) -> Option<Url> {
    match Url::parse(value.trim_end_matches('/')) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            env.problem(name, "must start with http:// or https://")
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            env.problem(
                name,
                "must not carry a user or password; the key has its own variable",
            );
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            env.problem(name, "must not have a query or fragment")
        }
        Ok(url) => return Some(url),
        Err(_) => env.problem(name, "is not a URL"),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::SERVICE;

    fn read(pairs: &[(&str, &str)]) -> Result<LlmConfig, kijko_core::config::ConfigError> {
        let lookup = |name: &str| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut env = Reader::new(SERVICE, &lookup);
        let config = LlmConfig::read(&mut env);
        env.finish(Some(config))
    }

    #[test]
    fn no_vendor_is_on_by_itself() {
        let config = read(&[("OPENAI_API_KEY", "")]).unwrap();
        assert!(!config.echo);
        assert!(config.openai.is_none() && config.anthropic.is_none() && config.gemini.is_none());
    }

    #[test]
    fn secrets_are_in_no_debug_output_and_no_problem() {
        let keys = [
            ("OPENAI_API_KEY", "sk-topsecret"),
            ("ANTHROPIC_API_KEY", "sk-ant-topsecret"),
            ("GEMINI_API_KEY", "AIza-topsecret"),
        ];
        let debug = format!("{:?}", read(&keys).unwrap());
        assert!(!debug.contains("topsecret"), "{debug}");
        let text = read(&[("OPENAI_API_KEY", "sk-top\nsecret")])
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("OPENAI_API_KEY") && !text.contains("sk-top"),
            "{text}"
        );
    }

    #[test]
    fn a_key_alone_turns_a_vendor_on_at_its_own_address() {
        let config = read(&[("ANTHROPIC_API_KEY", "k"), ("GEMINI_API_KEY", "k")]).unwrap();
        assert!(config.openai.is_none());
        let address = |vendor: Option<VendorConfig>| vendor.unwrap().base_url.to_string();
        assert_eq!(address(config.anthropic), "https://api.anthropic.com/");
        assert_eq!(
            address(config.gemini),
            "https://generativelanguage.googleapis.com/"
        );
    }

    #[test]
    fn a_base_url_alone_turns_the_vendor_on() {
        let config = read(&[("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1/")]).unwrap();
        let openai = config.openai.unwrap();
        assert_eq!(openai.base_url.as_str(), "http://127.0.0.1:11434/v1");
        assert!(openai.api_key.is_none());
    }
}

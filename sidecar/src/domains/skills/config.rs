//! The settings of skills.

use kijko_core::{config::Reader, outbound::Url};

use crate::llm::LlmConfig;

/// Where the API is, and what a skill's answer may have at most.
#[derive(Debug)]
pub(super) struct SkillsConfig {
    /// PostgREST, which identifies callers for the routes of this domain. None: they are not configured.
    pub rest_url: Option<Url>,
    /// `max_tokens` of a skill that sets none.
    pub default_max_tokens: u64,
}

impl SkillsConfig {
    pub(super) fn read(env: &mut Reader<'_>) -> Self {
        let rest_url = env.text("KIJKO_REST_URL");
        let parsed = rest_url.and_then(|text| {
            let url = text.parse::<Url>().ok().filter(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.query().is_none()
            });
            if url.is_none() {
                let shape = "must be the address of PostgREST, such as http://127.0.0.1:54331";
                env.problem("KIJKO_REST_URL", shape);
            }
            url
        });
        Self {
            rest_url: parsed,
            // The executions domain reads the same variables; a problem is reported once.
            default_max_tokens: LlmConfig::read(env).default_max_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &'static str) -> (Option<String>, usize) {
        let lookup = |name: &str| (name == "KIJKO_REST_URL").then(|| value.to_owned());
        let mut env = Reader::new(crate::app::SERVICE, &lookup);
        let url = SkillsConfig::read(&mut env).rest_url;
        let problems = env
            .finish(Some(()))
            .map_or_else(|error| error.problems.len(), |()| 0);
        (url.map(|url| url.to_string()), problems)
    }

    #[test]
    fn an_address_is_http_and_holds_no_secret() {
        assert_eq!(
            read("http://127.0.0.1:54331"),
            (Some("http://127.0.0.1:54331/".to_owned()), 0)
        );
        for bad in ["here", "ftp://x", "http://user:pw@x/", "http://x/?apikey=y"] {
            assert_eq!(read(bad), (None, 1), "{bad}");
        }
    }
}

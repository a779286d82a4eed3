//! The settings of publishing.

use std::time::Duration;

use kijko_core::{config::Reader, outbound::Url};

use crate::{api, input_files::InputFiles};

/// Where the platforms are.
#[derive(Debug)]
pub(super) struct SocialConfig {
    pub linkedin: Url,
    /// `LinkedIn-Version`: a version lives for a year.
    pub linkedin_version: String,
    pub facebook: Url,
    pub instagram: Url,
    pub twitter: Url,
    /// Of each call; the create call has ended by then.
    pub timeout: Duration,
    /// The storage service. None: posts with images fail.
    pub storage: Option<Url>,
}

impl SocialConfig {
    pub(super) fn read(env: &mut Reader<'_>) -> Self {
        let linkedin_version = env
            .text("KIJKO_SOCIAL_LINKEDIN_VERSION")
            .unwrap_or_else(|| "202605".to_owned());
        if linkedin_version.len() != 6 || !linkedin_version.bytes().all(|it| it.is_ascii_digit()) {
            env.problem(
                "KIJKO_SOCIAL_LINKEDIN_VERSION",
                "must be a year and a month, such as 202605",
            );
        }
        Self {
            linkedin: platform(env, "KIJKO_SOCIAL_LINKEDIN_URL", "https://api.linkedin.com"),
            linkedin_version,
            facebook: platform(
                env,
                "KIJKO_SOCIAL_FACEBOOK_URL",
                "https://graph.facebook.com/v25.0",
            ),
            instagram: platform(
                env,
                "KIJKO_SOCIAL_INSTAGRAM_URL",
                "https://graph.instagram.com/v25.0",
            ),
            twitter: platform(env, "KIJKO_SOCIAL_TWITTER_URL", "https://api.x.com"),
            timeout: env.seconds("KIJKO_SOCIAL_TIMEOUT_SECONDS", 30, 1..=120),
            storage: InputFiles::url(env),
        }
    }
}

fn platform(env: &mut Reader<'_>, name: &'static str, default: &str) -> Url {
    let given = api::address(env, name, "the platform's API");
    given.unwrap_or_else(|| default.parse().expect("the default is valid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let lookup = |name: &str| match name {
            "KIJKO_SOCIAL_LINKEDIN_VERSION" => Some("may".to_owned()),
            "KIJKO_SOCIAL_TWITTER_URL" => Some("ftp://x.example".to_owned()),
            "KIJKO_SOCIAL_TIMEOUT_SECONDS" => Some("0".to_owned()),
            _ => None,
        };
        let mut env = Reader::new(crate::app::SERVICE, &lookup);
        let config = SocialConfig::read(&mut env);
        assert_eq!(config.twitter.as_str(), "https://api.x.com/");
        let problems = env.finish(Some(())).unwrap_err().problems;
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}

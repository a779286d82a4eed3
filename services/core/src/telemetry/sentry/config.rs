//! The settings, by the names that Sentry gives them.

use sentry_types::Dsn;

use crate::config::Reader;

/// Where reports go, and what they say of this process.
#[derive(Clone)]
pub struct SentryConfig {
    /// The project's address and key.
    pub(super) dsn: Dsn,
    /// Such as `production`.
    pub(super) environment: String,
    /// The release, such as `kijko-sidecar@0.1.0`.
    pub(super) release: String,
}

impl SentryConfig {
    /// None: there is no DSN, and nothing is sent.
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let service = env.service();
        let own = format!("{}@{}", service.name, service.version);
        let environment = name(env, "SENTRY_ENVIRONMENT", 64).unwrap_or("production".to_owned());
        let release = name(env, "SENTRY_RELEASE", 200).unwrap_or(own);
        let dsn = env.text("SENTRY_DSN")?.parse::<Dsn>();
        if dsn.is_err() {
            let shape = "must be the DSN of a project, such as https://KEY@sentry.example.com/1";
            env.problem("SENTRY_DSN", shape);
        }
        Some(Self {
            dsn: dsn.ok()?,
            environment,
            release,
        })
    }
}

/// Sentry takes no blanks and slashes in these.
fn name(env: &mut Reader<'_>, variable: &'static str, most: usize) -> Option<String> {
    let text = env.text(variable)?;
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b'\\';
    if text.len() > most || !text.bytes().all(is_plain) {
        let what = format_args!(
            "must be at most {most} letters, digits and signs without blanks and slashes"
        );
        env.problem(variable, what);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Service;

    fn read(given: &[(&str, &str)]) -> Result<Option<SentryConfig>, Vec<String>> {
        let lookup = |name: &str| {
            let found = given.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut env = Reader::new(Service::TEST, &lookup);
        let config = SentryConfig::read(&mut env);
        env.finish(Some(config)).map_err(|error| error.problems)
    }

    #[test]
    fn nothing_is_sent_without_a_dsn() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("SENTRY_RELEASE", "a@1")]).unwrap().is_none());
    }

    #[test]
    fn a_dsn_is_an_address_and_the_rest_has_defaults() {
        let config = read(&[("SENTRY_DSN", "https://key@sentry.example.com/sub/42")]).unwrap();
        let config = config.unwrap();
        assert_eq!(
            config.dsn.envelope_api_url().as_str(),
            "https://sentry.example.com/sub/api/42/envelope/"
        );
        assert_eq!(config.environment, "production");
        assert_eq!(config.release, "kijko-test@1.2.3");
    }

    #[test]
    fn what_is_wrong_names_its_variable_and_no_value() {
        for (name, value) in [
            ("SENTRY_DSN", "hidden"),
            ("SENTRY_DSN", "https://sentry.example.com/1"),
            ("SENTRY_DSN", "https://hidden@sentry.example.com"),
            ("SENTRY_DSN", "ftp://hidden@sentry.example.com/1"),
            ("SENTRY_ENVIRONMENT", "hidden place"),
            ("SENTRY_RELEASE", "hidden/1"),
        ] {
            let problems = read(&[(name, value)]).err().unwrap_or_default().join("");
            assert!(
                problems.starts_with(name) && !problems.contains("hidden"),
                "{name}: {problems}"
            );
        }
    }
}

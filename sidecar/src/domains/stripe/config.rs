//! `STRIPE_WEBHOOK_SECRET`.

use kijko_core::{config::Reader, secret::Secret};

/// Stripe's settings.
#[derive(Debug, Clone, Default)]
pub(super) struct StripeConfig {
    /// Any of these may have signed a delivery: the old and the new one while a secret is rolled. None: no webhooks.
    pub webhook_secrets: Vec<Secret>,
}

impl StripeConfig {
    pub(super) fn read(env: &mut Reader<'_>) -> Self {
        let text = env.text("STRIPE_WEBHOOK_SECRET").unwrap_or_default();
        let secrets: Vec<&str> = text
            .split(',')
            .map(str::trim)
            .filter(|secret| !secret.is_empty())
            .collect();
        // With the API key in its place every delivery would be refused, without an explanation.
        if secrets
            .iter()
            .any(|secret| secret.strip_prefix("whsec_").is_none_or(str::is_empty))
        {
            env.problem(
                "STRIPE_WEBHOOK_SECRET",
                "must be the endpoint's signing secrets, separated by commas; each starts with whsec_",
            );
        }
        Self {
            webhook_secrets: secrets.into_iter().map(Secret::new).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> (StripeConfig, Vec<String>) {
        let lookup = |_: &str| Some(value.to_owned());
        let mut env = Reader::new(crate::app::SERVICE, &lookup);
        let config = StripeConfig::read(&mut env);
        let problems = env
            .finish(Some(()))
            .map_or_else(|error| error.problems, |()| Vec::new());
        (config, problems)
    }

    #[test]
    fn several_secrets_are_separated_by_commas() {
        let (config, problems) = read(" whsec_a , whsec_b,,");
        assert!(problems.is_empty());
        assert_eq!(
            config.webhook_secrets,
            [Secret::new("whsec_a"), Secret::new("whsec_b")]
        );
        assert!(read("").0.webhook_secrets.is_empty());
    }

    #[test]
    fn an_api_key_is_refused_and_not_repeated() {
        for value in ["sk_live_hidden", "whsec_a,sk_live_hidden", "whsec_"] {
            let (_, problems) = read(value);
            assert!(
                problems[0].starts_with("STRIPE_WEBHOOK_SECRET must be"),
                "{problems:?}"
            );
            assert!(!problems[0].contains("hidden"));
        }
    }
}

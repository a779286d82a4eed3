//! `STRIPE_API_KEY` and `STRIPE_API_URL`.

use kijko_core::{config::Reader, outbound::Url, secret::Secret};

use crate::api::address;

/// The account at Stripe.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub key: Secret,
    /// Where the API is, without a slash at its end. Only the operator's environment names another one than Stripe's.
    pub api_url: String,
    /// False: a key of test mode.
    pub livemode: bool,
}

const API_URL: &str = "https://api.stripe.com";

impl Account {
    /// None: no key is set, or a setting is wrong.
    pub(crate) fn read(env: &mut Reader<'_>) -> Option<Self> {
        let url = match env.text("STRIPE_API_URL") {
            Some(_) => address(
                env,
                "STRIPE_API_URL",
                "Stripe's API, such as https://api.stripe.com",
            )?,
            None => API_URL.parse::<Url>().ok()?,
        };
        let key = env.text("STRIPE_API_KEY")?;
        let livemode = ["sk_live_", "rk_live_"]
            .iter()
            .any(|it| key.starts_with(it));
        let is_test = ["sk_test_", "rk_test_"]
            .iter()
            .any(|it| key.starts_with(it));
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if !(livemode || is_test) || !visible {
            env.problem(
                "STRIPE_API_KEY",
                "must be a secret or restricted key: it starts with sk_live_, sk_test_, rk_live_ or rk_test_",
            );
            return None;
        }
        let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if url.scheme() != "https" && !(is_local && is_test) {
            env.problem(
                "STRIPE_API_URL",
                "must be https, except for a key of test mode and this machine",
            );
            return None;
        }
        Some(Self {
            key: Secret::new(key),
            api_url: url.as_str().trim_end_matches('/').to_owned(),
            livemode,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, url: &str) -> (Option<(String, bool)>, Vec<String>) {
        let lookup = |name: &str| match name {
            "STRIPE_API_KEY" => Some(key.to_owned()),
            _ => Some(url.to_owned()).filter(|url| !url.is_empty()),
        };
        let mut env = Reader::new(crate::app::SERVICE, &lookup);
        let account = Account::read(&mut env).map(|it| (it.api_url, it.livemode));
        let problems = env
            .finish(Some(()))
            .map_or_else(|error| error.problems, |()| Vec::new());
        (account, problems)
    }

    #[test]
    fn a_key_says_its_mode() {
        let stripe = || "https://api.stripe.com".to_owned();
        assert_eq!(read("sk_live_x", "").0, Some((stripe(), true)));
        assert_eq!(read("rk_test_x", "").0, Some((stripe(), false)));
        assert_eq!(read("", ""), (None, vec![]));
        let local = "http://localhost:12111";
        assert_eq!(
            read("sk_test_x", "http://localhost:12111/").0,
            Some((local.to_owned(), false))
        );
    }

    #[test]
    fn what_is_no_key_or_would_show_it_is_refused_and_not_repeated() {
        for (key, url) in [
            ("whsec_hidden", ""),
            ("pk_live_hidden", ""),
            ("sk_live_hidden\u{7f}", ""),
            ("sk_live_hidden", "http://localhost:12111"),
            ("sk_test_hidden", "http://stripe.example"),
            ("sk_test_hidden", "https://user:pw@stripe.example"),
        ] {
            let (account, problems) = read(key, url);
            assert!(account.is_none() && problems.len() == 1, "{key} {url}");
            assert!(!problems[0].contains("hidden"), "{problems:?}");
        }
    }
}

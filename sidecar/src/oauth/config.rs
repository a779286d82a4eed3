//! The settings of outside providers: of sign-in, of connections, or of both.

use std::collections::BTreeSet;

use kijko_core::{config::Reader, secret::Secret};
use kijko_guard::AllowedHosts;
use reqwest::Url;

use super::http::is_private_enough;

/// Names that identities and settings of login have for other things.
const RESERVED: [&str; 5] = ["email", "phone", "anonymous_users", "sso", "web3"];

/// The providers of sign-in.
const SIGN_IN: &str = "KIJKO_OAUTH_PROVIDERS";
/// The providers of connections, which need not be among those.
const CONNECTIONS: &str = "KIJKO_CONNECTION_PROVIDERS";
const KINDS: [&str; 7] = [
    "github",
    "gitlab",
    "oidc",
    "linkedin",
    "facebook",
    "instagram",
    "twitter",
];
const SCOPES: &str = "must be scopes, separated by blanks";

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// GitHub's OAuth, and its API.
    GitHub,
    /// GitLab's OAuth, and its API.
    GitLab,
    /// OpenID Connect with discovery.
    Oidc,
    /// Of connections only, as the three below.
    LinkedIn,
    /// A page of Facebook.
    Facebook,
    /// A professional account of Instagram.
    Instagram,
    /// X.
    Twitter,
}

impl Kind {
    /// Whether nobody signs in by it.
    pub(crate) fn is_social(self) -> bool {
        !matches!(self, Self::GitHub | Self::GitLab | Self::Oidc)
    }
}

/// One provider.
#[derive(Debug, Clone)]
pub(crate) struct ProviderConfig {
    pub name: String,
    pub kind: Kind,
    /// Without a slash at its end for GitHub and GitLab; for OpenID Connect the issuer, to the letter.
    pub url: String,
    /// The first is ours; identity tokens may be for any of them.
    pub client_ids: Vec<String>,
    pub client_secret: Secret,
    pub scopes: String,
    /// Whether a new identity is linked to the account with its address.
    pub verifying: bool,
    /// Whether users sign in by it.
    pub signs_in: bool,
    /// What a connection may ask for; `None` if organizations connect no accounts there.
    pub connection_scopes: Option<Vec<String>>,
}

/// The settings of all providers.
#[derive(Debug, Default)]
pub(crate) struct OAuthConfig {
    pub providers: Vec<ProviderConfig>,
    pub allowed: AllowedHosts,
}

impl OAuthConfig {
    pub(crate) fn read(env: &mut Reader<'_>) -> Self {
        let allowed = env.parsed(
            "KIJKO_OAUTH_ALLOWED_HOSTS",
            "",
            "hosts, each with a port or without, separated by commas",
        );
        let names = list(env.text(SIGN_IN));
        let connecting = list(env.text(CONNECTIONS));
        let verifying = list(env.text("KIJKO_OAUTH_LINK_BY_ADDRESS"));
        for (variable, names) in [(SIGN_IN, &names), (CONNECTIONS, &connecting)] {
            if names.iter().any(|name| !is_name(name)) {
                env.problem(
                    variable,
                    "must be names of small letters, digits and _, separated by commas",
                );
                return Self::default();
            }
        }
        if verifying.iter().any(|name| !names.contains(name)) {
            env.problem(
                "KIJKO_OAUTH_LINK_BY_ADDRESS",
                "must be names of KIJKO_OAUTH_PROVIDERS, separated by commas",
            );
        }
        let all: BTreeSet<&String> = names.iter().chain(&connecting).collect();
        let providers = all
            .into_iter()
            .filter_map(|name| {
                let mut config = provider(env, name, &allowed)?;
                config.verifying = verifying.contains(name);
                config.signs_in = names.contains(name);
                if config.signs_in && config.kind.is_social() {
                    env.problem(
                        SIGN_IN,
                        format_args!("has {name}, which is for connections only"),
                    );
                }
                config.connection_scopes = connecting
                    .contains(name)
                    .then(|| connection_scopes(env, name));
                Some(config)
            })
            .collect();
        Self { providers, allowed }
    }
}

fn variable(name: &str, what: &str) -> String {
    format!("KIJKO_OAUTH_{}_{what}", name.to_ascii_uppercase())
}

fn connection_scopes(env: &mut Reader<'_>, name: &str) -> Vec<String> {
    let variable = variable(name, "CONNECTION_SCOPES");
    let scopes = env.text(&variable).unwrap_or_default();
    if !are_scopes(&scopes) {
        env.problem(&variable, SCOPES);
    }
    scopes.split_whitespace().map(str::to_owned).collect()
}

/// The kind of a provider with its server and scopes. Names that are known have one; others are of OpenID Connect, unless the
/// operator says so.
fn kind(env: &mut Reader<'_>, name: &str) -> (Kind, Option<&'static str>, &'static str) {
    const OIDC_SCOPES: &str = "openid email profile";
    let variable = variable(name, "KIND");
    let stated = env.text(&variable);
    let is_known = |kind: &&str| KINDS.contains(kind);
    if stated.as_deref().is_some_and(|kind| !is_known(&kind)) {
        env.problem(
            &variable,
            "must be github, gitlab, oidc, linkedin, facebook, instagram or twitter",
        );
    }
    match stated.as_deref().filter(is_known).unwrap_or(name) {
        "github" => (Kind::GitHub, Some("https://github.com"), "user:email"),
        "gitlab" => (Kind::GitLab, Some("https://gitlab.com"), "read_user"),
        "linkedin" => (Kind::LinkedIn, Some("https://www.linkedin.com"), ""),
        "facebook" => (Kind::Facebook, Some("https://www.facebook.com"), ""),
        "instagram" => (Kind::Instagram, Some("https://www.instagram.com"), ""),
        "twitter" => (Kind::Twitter, Some("https://x.com"), ""),
        "google" => (Kind::Oidc, Some("https://accounts.google.com"), OIDC_SCOPES),
        _ => (Kind::Oidc, None, OIDC_SCOPES),
    }
}

fn provider(env: &mut Reader<'_>, name: &str, allowed: &AllowedHosts) -> Option<ProviderConfig> {
    let (kind, default_url, default_scopes) = kind(env, name);
    let variable = |what: &str| variable(name, what);
    let mut required = |what: &str| {
        let value = env.text(&variable(what));
        if value.is_none() {
            env.problem(
                &variable(what),
                format_args!("is required, since {SIGN_IN} or {CONNECTIONS} has {name}"),
            );
        }
        value
    };
    let client_id = required("CLIENT_ID");
    let is_given = client_id.is_some();
    let client_ids = list(client_id);
    let client_secret = required("CLIENT_SECRET").map(Secret::new);
    let url = match default_url {
        Some(_) => env.text(&variable("URL")),
        None => required("URL"),
    };
    let url = url.or_else(|| default_url.map(str::to_owned))?;
    if !is_address(&url, allowed) {
        env.problem(
            &variable("URL"),
            "must be an https:// URL without user, query and fragment; http:// only for a host of KIJKO_OAUTH_ALLOWED_HOSTS",
        );
        return None;
    }
    let url = match kind {
        Kind::Oidc => url,
        _ => url.trim_end_matches('/').to_owned(),
    };
    let scopes = env.text(&variable("SCOPES"));
    if scopes.as_deref().is_some_and(|scopes| !are_scopes(scopes)) {
        env.problem(&variable("SCOPES"), SCOPES);
    }
    if client_ids.is_empty() {
        if is_given {
            env.problem(
                &variable("CLIENT_ID"),
                "must be one or more ids, separated by commas",
            );
        }
        return None;
    }
    Some(ProviderConfig {
        name: name.to_owned(),
        kind,
        url,
        client_ids,
        client_secret: client_secret?,
        scopes: scopes.unwrap_or_else(|| default_scopes.to_owned()),
        verifying: false,
        signs_in: false,
        connection_scopes: None,
    })
}

fn list(text: Option<String>) -> Vec<String> {
    text.unwrap_or_default()
        .split([',', ' '])
        .filter(|entry| !entry.is_empty())
        .map(str::to_owned)
        .collect()
}

fn is_name(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !RESERVED.contains(&name)
}

/// As of RFC 6749, section 3.3.
fn are_scopes(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
}

fn is_address(text: &str, allowed: &AllowedHosts) -> bool {
    text.parse::<Url>().is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && is_private_enough(&url, allowed)
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[(&str, &str)]) -> (OAuthConfig, Vec<String>) {
        let lookup = |name: &str| {
            let found = given.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut env = Reader::new(crate::app::SERVICE, &lookup);
        let config = OAuthConfig::read(&mut env);
        let problems = env
            .finish(Some(()))
            .map_or_else(|error| error.problems, |()| Vec::new());
        (config, problems)
    }

    #[test]
    fn it_is_off_by_default() {
        let (config, problems) = read(&[("KIJKO_OAUTH_GITHUB_CLIENT_ID", "id")]);
        assert!(config.providers.is_empty() && problems.is_empty());
    }

    #[test]
    fn a_provider_has_an_id_a_secret_and_an_address() {
        let (config, problems) = read(&[
            ("KIJKO_OAUTH_PROVIDERS", "github, acme_2"),
            ("KIJKO_OAUTH_LINK_BY_ADDRESS", "github"),
            ("KIJKO_OAUTH_GITHUB_CLIENT_ID", "one,two"),
            ("KIJKO_OAUTH_GITHUB_CLIENT_SECRET", "hidden"),
            ("KIJKO_OAUTH_ACME_2_CLIENT_ID", "id"),
            ("KIJKO_OAUTH_ACME_2_CLIENT_SECRET", "hidden"),
            (
                "KIJKO_OAUTH_ACME_2_URL",
                "https://id.acme.example/realms/a/",
            ),
        ]);
        assert_eq!(problems, Vec::<String>::new());
        let [acme, github] = &config.providers[..] else {
            panic!("{config:?}")
        };
        assert_eq!((github.kind, github.verifying), (Kind::GitHub, true));
        assert_eq!(github.client_ids, ["one", "two"]);
        assert_eq!((acme.kind, acme.verifying), (Kind::Oidc, false));
        assert_eq!(acme.url, "https://id.acme.example/realms/a/");
        assert!(!format!("{config:?}").contains("hidden"));
    }

    #[test]
    fn a_provider_may_be_for_connections_alone() {
        let (config, problems) = read(&[
            ("KIJKO_OAUTH_PROVIDERS", "github"),
            ("KIJKO_CONNECTION_PROVIDERS", "code github"),
            ("KIJKO_OAUTH_GITHUB_CLIENT_ID", "id"),
            ("KIJKO_OAUTH_GITHUB_CLIENT_SECRET", "hidden"),
            ("KIJKO_OAUTH_CODE_KIND", "github"),
            ("KIJKO_OAUTH_CODE_CLIENT_ID", "id"),
            ("KIJKO_OAUTH_CODE_CLIENT_SECRET", "hidden"),
            ("KIJKO_OAUTH_CODE_CONNECTION_SCOPES", "repo  read:org"),
        ]);
        assert_eq!(problems, Vec::<String>::new());
        let [code, github] = &config.providers[..] else {
            panic!("{config:?}")
        };
        assert_eq!((code.kind, code.signs_in), (Kind::GitHub, false));
        assert_eq!(code.url, "https://github.com");
        let scopes = ["repo", "read:org"].map(str::to_owned).to_vec();
        assert_eq!(code.connection_scopes, Some(scopes));
        assert!(github.signs_in && github.connection_scopes == Some(Vec::new()));
    }

    #[test]
    fn what_is_missing_or_unsafe_is_named() {
        for (given, wrong) in [
            (
                vec![("KIJKO_OAUTH_PROVIDERS", "email")],
                "KIJKO_OAUTH_PROVIDERS",
            ),
            (
                vec![("KIJKO_OAUTH_PROVIDERS", "A")],
                "KIJKO_OAUTH_PROVIDERS",
            ),
            (
                vec![("KIJKO_CONNECTION_PROVIDERS", "email")],
                "KIJKO_CONNECTION_PROVIDERS",
            ),
            (
                vec![
                    ("KIJKO_CONNECTION_PROVIDERS", "acme"),
                    ("KIJKO_OAUTH_ACME_KIND", "saml"),
                ],
                "KIJKO_OAUTH_ACME_KIND",
            ),
            (
                vec![("KIJKO_OAUTH_LINK_BY_ADDRESS", "github")],
                "KIJKO_OAUTH_LINK_BY_ADDRESS",
            ),
            (
                vec![("KIJKO_OAUTH_PROVIDERS", "google")],
                "KIJKO_OAUTH_GOOGLE_CLIENT_ID",
            ),
            (
                vec![
                    ("KIJKO_OAUTH_PROVIDERS", "acme"),
                    ("KIJKO_OAUTH_ACME_CLIENT_ID", "id"),
                    ("KIJKO_OAUTH_ACME_CLIENT_SECRET", "s"),
                ],
                "KIJKO_OAUTH_ACME_URL",
            ),
            (
                vec![
                    ("KIJKO_OAUTH_PROVIDERS", "acme"),
                    ("KIJKO_OAUTH_ACME_CLIENT_ID", "id"),
                    ("KIJKO_OAUTH_ACME_CLIENT_SECRET", "s"),
                    ("KIJKO_OAUTH_ACME_URL", "http://id.acme.example"),
                ],
                "KIJKO_OAUTH_ACME_URL",
            ),
        ] {
            let (_, problems) = read(&given);
            assert!(problems[0].starts_with(wrong), "{problems:?}");
        }
    }
}

//! What each kind of provider is asked: where a browser signs in, what a code or a refresh token is worth, and to forget a token.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use kijko_core::secret::Secret;
use reqwest::{Method, RequestBuilder, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    browser,
    config::{Kind, ProviderConfig},
    discovery::{Discovery, Metadata},
    http::{Fault, Http, is_below},
};

pub(crate) type Providers = BTreeMap<String, Provider>;
pub(crate) type Query = Map<String, Value>;

/// What a client may not set in the address of the provider.
const OURS: [&str; 18] = [
    "apikey",
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "invite_token",
    "nonce",
    "provider",
    "redirect_to",
    "redirect_uri",
    "request",
    "request_uri",
    "response_mode",
    "response_type",
    "scope",
    "scopes",
    "skip_http_redirect",
    "state",
];
/// The scope that asks an OpenID provider for a refresh token.
const OFFLINE: &str = "offline_access";
/// It asks for that by a parameter instead.
const GOOGLE: &str = "https://accounts.google.com";
const MAX_PARAMETERS: usize = 10;
const MAX_PARAMETER: usize = 500;

/// One provider.
#[derive(Clone)]
pub(crate) struct Provider {
    pub config: ProviderConfig,
    pub(super) http: Http,
    pub(super) discovery: Option<Arc<Discovery>>,
}

/// An organization's own client of a provider.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Application {
    pub client_id: String,
    pub client_secret: Secret,
}

/// What a browser is sent to a provider with.
pub(crate) struct Authorization<'a> {
    /// Separated by blanks.
    pub scopes: String,
    /// What else the client wants to say. Names of ours are left out.
    pub parameters: &'a Query,
    pub callback: &'a str,
    pub state: &'a Secret,
    pub browser: &'a Secret,
}

/// What a code or a refresh token is worth.
#[derive(Deserialize)]
pub(crate) struct Tokens {
    pub access_token: Secret,
    pub refresh_token: Option<Secret>,
    pub id_token: Option<Secret>,
    /// Seconds; some write them as text.
    pub expires_in: Option<Value>,
    /// GitHub's name for the seconds of its refresh token.
    pub refresh_token_expires_in: Option<Value>,
    /// GitHub separates by commas.
    pub scope: Option<String>,
}

/// Tokens that are to be revoked.
#[derive(Debug, Deserialize)]
pub(crate) struct Revocation {
    #[serde(alias = "provider_token")]
    pub access_token: Secret,
    #[serde(alias = "provider_refresh_token")]
    pub refresh_token: Option<Secret>,
}

/// Scopes and those of the others that are not among them.
fn joined<'a>(scopes: &str, others: impl IntoIterator<Item = &'a str>) -> String {
    let mut all: Vec<&str> = scopes.split(' ').filter(|it| !it.is_empty()).collect();
    for scope in others {
        if !scope.is_empty() && !all.contains(&scope) {
            all.push(scope);
        }
    }
    all.join(" ")
}

#[derive(Deserialize)]
struct OAuthError {
    error: String,
}

impl Provider {
    pub(crate) fn new(config: ProviderConfig, http: Http) -> Self {
        let discovery = (config.kind == Kind::Oidc)
            .then(|| Arc::new(Discovery::new(config.url.clone(), http.clone())));
        Self {
            config,
            http,
            discovery,
        }
    }

    /// The same provider, as it is asked by an application of an organization; by the operator's without one.
    pub(crate) fn by(&self, application: Option<&Application>) -> Self {
        let mut provider = self.clone();
        if let Some(application) = application {
            provider.config.client_ids = vec![application.client_id.clone()];
            provider.config.client_secret = application.client_secret.clone();
        }
        provider
    }

    pub(super) fn client_id(&self) -> &str {
        &self.config.client_ids[0]
    }

    pub(super) async fn metadata(&self) -> Result<Option<Arc<Metadata>>, Fault> {
        match &self.discovery {
            Some(discovery) => discovery.metadata().await.map(Some),
            None => Ok(None),
        }
    }

    /// Whether the provider can be asked at all; looks it up where that needs a request.
    pub(crate) async fn ready(&self) -> Result<(), Fault> {
        self.metadata().await.map(drop)
    }

    /// The scopes of a sign-in: ours, and those that the client adds.
    pub(crate) fn sign_in_scopes(&self, query: &Query) -> String {
        let added = query.get("scopes").and_then(Value::as_str);
        joined(&self.config.scopes, added.unwrap_or_default().split(' '))
    }

    /// The scopes of a connection: what tells whose account it is and lets its token be refreshed, and what it is for.
    pub(crate) async fn connection_scopes(&self, asked: &[String]) -> Result<String, Fault> {
        let metadata = self.metadata().await?;
        let mut scopes = match self.config.kind {
            Kind::GitHub => String::new(),
            Kind::GitLab => "read_user".to_owned(),
            Kind::Oidc => "openid".to_owned(),
            _ => self.social_scopes().to_owned(),
        };
        if metadata.is_some_and(|it| it.scopes_supported.iter().any(|it| it == OFFLINE)) {
            scopes = joined(&scopes, [OFFLINE]);
        }
        let scopes = joined(&scopes, asked.iter().map(String::as_str));
        Ok(match self.config.kind {
            Kind::Facebook | Kind::Instagram => scopes.replace(' ', ","),
            _ => scopes,
        })
    }

    /// What else a connection says: without consent OpenID providers give no token that lasts.
    pub(crate) fn connection_parameters(&self) -> Query {
        let mut parameters = Query::new();
        if self.config.kind == Kind::Oidc {
            parameters.insert("prompt".to_owned(), "consent".into());
        }
        if self.config.url == GOOGLE {
            parameters.insert("access_type".to_owned(), "offline".into());
        }
        parameters
    }

    /// Where the browser signs in.
    pub(crate) async fn authorize_url(&self, asked: &Authorization<'_>) -> Result<String, Fault> {
        let metadata = self.metadata().await?;
        let endpoint = match (self.config.kind, &metadata) {
            (Kind::GitHub, _) => format!("{}/login/oauth/authorize", self.config.url),
            (Kind::GitLab, _) => format!("{}/oauth/authorize", self.config.url),
            (Kind::Oidc, Some(metadata)) => metadata.authorization_endpoint.clone(),
            (Kind::Oidc, None) => return Err(Fault::Unexpected("discovery")),
            _ => self.social_authorize(),
        };
        let mut parameters = form_urlencoded::Serializer::new(String::new());
        parameters
            .append_pair("client_id", self.client_id())
            .append_pair("redirect_uri", asked.callback)
            .append_pair("response_type", "code")
            .append_pair("scope", &asked.scopes)
            .append_pair("state", asked.state.expose())
            .append_pair("code_challenge", &browser::challenge(asked.browser))
            .append_pair("code_challenge_method", "S256");
        if self.config.kind == Kind::Oidc {
            parameters.append_pair("nonce", &browser::nonce(asked.browser));
        }
        let others = asked
            .parameters
            .iter()
            .filter(|(name, _)| !OURS.contains(&name.as_str()));
        for (name, value) in others.take(MAX_PARAMETERS) {
            if let Some(value) = value.as_str()
                && value.len() <= MAX_PARAMETER
            {
                parameters.append_pair(name, value);
            }
        }
        let join = if endpoint.contains('?') { '&' } else { '?' };
        Ok(format!("{endpoint}{join}{}", parameters.finish()))
    }

    /// Whether a callback may be this provider's (RFC 9207). A provider that names itself in its answers always does.
    pub(crate) async fn is_issuer(&self, iss: Option<&str>) -> Result<bool, Fault> {
        Ok(match (self.metadata().await?, iss) {
            (Some(metadata), Some(iss)) => metadata.issuer == iss,
            (Some(metadata), None) => !metadata.authorization_response_iss_parameter_supported,
            // Without metadata the name is not known to the letter: https://github.com/login/oauth is GitHub's.
            (None, Some(iss)) => is_below(iss, &self.config.url),
            (None, None) => true,
        })
    }

    /// Exchanges a code.
    pub(super) async fn exchange(
        &self,
        code: &str,
        callback: &str,
        browser: &Secret,
    ) -> Result<Tokens, Fault> {
        let verifier = browser::verifier(browser);
        self.token(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", callback),
            ("code_verifier", verifier.expose()),
        ])
        .await
    }

    /// Exchanges a refresh token. A provider that rotates takes it once.
    pub(crate) async fn refresh(&self, refresh_token: &Secret) -> Result<Tokens, Fault> {
        if self.config.kind == Kind::Instagram {
            return self.instagram_refresh(refresh_token).await;
        }
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.expose()),
        ];
        self.social_refreshed(self.token(&fields).await)
    }

    pub(super) async fn token(&self, fields: &[(&str, &str)]) -> Result<Tokens, Fault> {
        const WHAT: &str = "the token endpoint";
        let metadata = self.metadata().await?;
        let endpoint = match (self.config.kind, &metadata) {
            (Kind::GitHub, _) => format!("{}/login/oauth/access_token", self.config.url),
            (Kind::GitLab, _) => format!("{}/oauth/token", self.config.url),
            (Kind::Oidc, Some(metadata)) => metadata.token_endpoint.clone(),
            (Kind::Oidc, None) => return Err(Fault::Unexpected("discovery")),
            _ => self.social_token(),
        };
        let request = self.http.request(Method::POST, &endpoint, WHAT)?;
        let request = self.authenticated(request, fields, metadata.as_deref());
        let answer = self.http.send(request, WHAT).await?;
        // GitHub says what is wrong with a status of 200.
        if let Ok(OAuthError { error }) = serde_json::from_slice(&answer.body) {
            let error: String = error.chars().take(100).collect();
            return Err(Fault::Error(WHAT, error));
        }
        if answer.status != 200 {
            return Err(Fault::Status(WHAT, answer.status));
        }
        serde_json::from_slice(&answer.body).map_err(|_| Fault::Unexpected(WHAT))
    }

    /// A form with the client's id and secret: in the header where the provider takes it (RFC 6749, 2.3.1), else in the form.
    pub(super) fn authenticated(
        &self,
        request: RequestBuilder,
        fields: &[(&str, &str)],
        metadata: Option<&Metadata>,
    ) -> RequestBuilder {
        let secret = self.config.client_secret.expose();
        let methods = metadata.map(|metadata| &metadata.token_endpoint_auth_methods_supported);
        let basic = match methods {
            Some(methods) => {
                methods.is_empty() || methods.iter().any(|method| method == "client_secret_basic")
            }
            None => self.config.kind == Kind::Twitter,
        };
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let request = if basic {
            request.header(header::AUTHORIZATION, self.basic(true))
        } else {
            form.append_pair("client_id", self.client_id())
                .append_pair("client_secret", secret);
            request
        };
        request
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.finish())
    }

    pub(super) fn basic(&self, encoded: bool) -> String {
        let part = |text: &str| match encoded {
            true => form_urlencoded::byte_serialize(text.as_bytes()).collect(),
            false => text.to_owned(),
        };
        let secret = part(self.config.client_secret.expose());
        let pair = format!("{}:{secret}", part(self.client_id()));
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }

    pub(super) async fn api<T: DeserializeOwned>(
        &self,
        url: &str,
        access_token: &Secret,
        what: &'static str,
    ) -> Result<T, Fault> {
        let request = self.http.request(Method::GET, url, what)?;
        let bearer = format!("Bearer {}", access_token.expose());
        let request = request.header(header::AUTHORIZATION, bearer);
        self.http.json(request, what).await
    }

    pub(super) fn github_api(&self) -> String {
        match self.config.url.as_str() {
            "https://github.com" => "https://api.github.com".to_owned(),
            url => format!("{url}/api/v3"),
        }
    }

    /// Whether clients can bring identity tokens of this provider.
    pub(crate) fn has_identity_tokens(&self) -> bool {
        self.discovery.is_some()
    }
}

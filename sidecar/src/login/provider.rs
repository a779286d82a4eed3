//! What each kind of provider is asked: where a browser signs in, what a code is worth, who has signed in, and to forget a token.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use kijko_core::secret::Secret;
use reqwest::{Method, RequestBuilder, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    browser,
    config::{Kind, ProviderConfig},
    discovery::{Discovery, Metadata},
    http::{Fault, Http, is_below},
};

pub(super) type Providers = BTreeMap<String, Provider>;
pub(super) type Query = Map<String, Value>;

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
const MAX_PARAMETERS: usize = 10;
const MAX_PARAMETER: usize = 500;

/// One provider.
pub(super) struct Provider {
    pub config: ProviderConfig,
    http: Http,
    discovery: Option<Discovery>,
}

/// What a code is worth.
#[derive(Deserialize)]
pub(super) struct Tokens {
    access_token: String,
    refresh_token: Option<String>,
    id_token: Option<String>,
}

/// Tokens that are to be revoked.
pub(super) struct Revocation {
    pub access_token: Secret,
    pub refresh_token: Option<Secret>,
}

#[derive(Deserialize)]
struct OAuthError {
    error: String,
}

#[derive(Deserialize)]
struct GitHubEmail {
    email: String,
    primary: bool,
    verified: bool,
}

impl Provider {
    pub(super) fn new(config: ProviderConfig, http: Http) -> Self {
        let discovery =
            (config.kind == Kind::Oidc).then(|| Discovery::new(config.url.clone(), http.clone()));
        Self {
            config,
            http,
            discovery,
        }
    }

    fn client_id(&self) -> &str {
        &self.config.client_ids[0]
    }

    async fn metadata(&self) -> Result<Option<Arc<Metadata>>, Fault> {
        match &self.discovery {
            Some(discovery) => discovery.metadata().await.map(Some),
            None => Ok(None),
        }
    }

    /// Whether the provider can be asked at all; looks it up where that needs a request.
    pub(super) async fn ready(&self) -> Result<(), Fault> {
        self.metadata().await.map(drop)
    }

    /// Where the browser signs in.
    pub(super) async fn authorize_url(
        &self,
        query: &Query,
        callback: &str,
        state: &Secret,
        browser: &Secret,
    ) -> Result<String, Fault> {
        let metadata = self.metadata().await?;
        let endpoint = match (self.config.kind, &metadata) {
            (Kind::GitHub, _) => format!("{}/login/oauth/authorize", self.config.url),
            (Kind::GitLab, _) => format!("{}/oauth/authorize", self.config.url),
            (Kind::Oidc, Some(metadata)) => metadata.authorization_endpoint.clone(),
            (Kind::Oidc, None) => return Err(Fault::Unexpected("discovery")),
        };
        let text = |name: &str| query.get(name).and_then(Value::as_str);
        let mut scopes = self.config.scopes.clone();
        for scope in text("scopes").unwrap_or_default().split(' ') {
            if !scope.is_empty() && !scopes.split(' ').any(|known| known == scope) {
                scopes = format!("{scopes} {scope}");
            }
        }
        let mut parameters = form_urlencoded::Serializer::new(String::new());
        parameters
            .append_pair("client_id", self.client_id())
            .append_pair("redirect_uri", callback)
            .append_pair("response_type", "code")
            .append_pair("scope", &scopes)
            .append_pair("state", state.expose())
            .append_pair("code_challenge", &browser::challenge(browser))
            .append_pair("code_challenge_method", "S256");
        if self.config.kind == Kind::Oidc {
            parameters.append_pair("nonce", &browser::nonce(browser));
        }
        let others = query
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
    pub(super) async fn is_issuer(&self, iss: Option<&str>) -> Result<bool, Fault> {
        Ok(match (self.metadata().await?, iss) {
            (Some(metadata), Some(iss)) => metadata.issuer == iss,
            (Some(metadata), None) => !metadata.authorization_response_iss_parameter_supported,
            // Without metadata the name is not known to the letter: https://github.com/login/oauth is GitHub's.
            (None, Some(iss)) => is_below(iss, &self.config.url),
            (None, None) => true,
        })
    }

    /// Exchanges a code and asks who has signed in: what the database decides by.
    pub(super) async fn complete(
        &self,
        code: &str,
        callback: &str,
        browser: &Secret,
    ) -> Result<Value, Fault> {
        let tokens = self.exchange(code, callback, browser).await?;
        let mut found = match self.config.kind {
            Kind::GitHub => json!({"profile": self.github_profile(&tokens).await?}),
            Kind::GitLab => json!({"profile": self.gitlab_profile(&tokens).await?}),
            Kind::Oidc => self.identity(&tokens, browser).await?,
        };
        found["verifying"] = self.config.verifying.into();
        found["tokens"] = json!({
            "access_token": tokens.access_token, "refresh_token": tokens.refresh_token
        });
        Ok(found)
    }

    async fn exchange(
        &self,
        code: &str,
        callback: &str,
        browser: &Secret,
    ) -> Result<Tokens, Fault> {
        const WHAT: &str = "the token endpoint";
        let metadata = self.metadata().await?;
        let endpoint = match (self.config.kind, &metadata) {
            (Kind::GitHub, _) => format!("{}/login/oauth/access_token", self.config.url),
            (Kind::GitLab, _) => format!("{}/oauth/token", self.config.url),
            (Kind::Oidc, Some(metadata)) => metadata.token_endpoint.clone(),
            (Kind::Oidc, None) => return Err(Fault::Unexpected("discovery")),
        };
        let verifier = browser::verifier(browser);
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", callback),
            ("code_verifier", verifier.expose()),
        ];
        let request = self.http.request(Method::POST, &endpoint, WHAT)?;
        let request = self.authenticated(request, &fields, metadata.as_deref());
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
    fn authenticated(
        &self,
        request: RequestBuilder,
        fields: &[(&str, &str)],
        metadata: Option<&Metadata>,
    ) -> RequestBuilder {
        let secret = self.config.client_secret.expose();
        let methods = metadata.map(|metadata| &metadata.token_endpoint_auth_methods_supported);
        let basic = methods.is_some_and(|methods| {
            methods.is_empty() || methods.iter().any(|method| method == "client_secret_basic")
        });
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

    fn basic(&self, encoded: bool) -> String {
        let part = |text: &str| match encoded {
            true => form_urlencoded::byte_serialize(text.as_bytes()).collect(),
            false => text.to_owned(),
        };
        let secret = part(self.config.client_secret.expose());
        let pair = format!("{}:{secret}", part(self.client_id()));
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }

    async fn api<T: serde::de::DeserializeOwned>(
        &self,
        url: &str,
        tokens: &Tokens,
        what: &'static str,
    ) -> Result<T, Fault> {
        let request = self.http.request(Method::GET, url, what)?;
        let bearer = format!("Bearer {}", tokens.access_token);
        let request = request.header(header::AUTHORIZATION, bearer);
        self.http.json(request, what).await
    }

    fn github_api(&self) -> String {
        match self.config.url.as_str() {
            "https://github.com" => "https://api.github.com".to_owned(),
            url => format!("{url}/api/v3"),
        }
    }

    async fn github_profile(&self, tokens: &Tokens) -> Result<Value, Fault> {
        let api = self.github_api();
        let user: Value = self.api(&format!("{api}/user"), tokens, "the user").await?;
        let emails: Vec<GitHubEmail> = self
            .api(&format!("{api}/user/emails"), tokens, "the addresses")
            .await?;
        let email = emails.iter().find(|email| email.primary);
        let subject = user["id"].as_u64().ok_or(Fault::Unexpected("the user"))?;
        Ok(json!({
            "iss": api, "sub": subject.to_string(), "name": user["name"], "avatar_url": user["avatar_url"],
            "user_name": user["login"], "preferred_username": user["login"],
            "email": email.map(|email| &email.email), "email_verified": email.is_some_and(|email| email.verified),
        }))
    }

    async fn gitlab_profile(&self, tokens: &Tokens) -> Result<Value, Fault> {
        let url = format!("{}/api/v4/user", self.config.url);
        let user: Value = self.api(&url, tokens, "the user").await?;
        let subject = user["id"].as_u64().ok_or(Fault::Unexpected("the user"))?;
        Ok(json!({
            "iss": self.config.url, "sub": subject.to_string(), "name": user["name"], "avatar_url": user["avatar_url"],
            "user_name": user["username"], "preferred_username": user["username"],
            "email": user["email"], "email_verified": !user["confirmed_at"].is_null(),
        }))
    }

    /// The identity token with what verifies it. Many providers keep the address for userinfo.
    async fn identity(&self, tokens: &Tokens, browser: &Secret) -> Result<Value, Fault> {
        let Some(id_token) = &tokens.id_token else {
            return Err(Fault::Unexpected("the token endpoint"));
        };
        let mut found = self.verification(id_token).await?;
        found["id_token"] = id_token.as_str().into();
        found["nonce"] = browser::nonce(browser).into();
        if let Some(metadata) = self.metadata().await?
            && let Some(endpoint) = &metadata.userinfo_endpoint
        {
            found["userinfo"] = self.api(endpoint, tokens, "userinfo").await?;
        }
        Ok(found)
    }

    /// What verifies an identity token of this provider. A fault where it has none.
    pub(super) async fn verification(&self, id_token: &str) -> Result<Value, Fault> {
        let Some(discovery) = &self.discovery else {
            return Err(Fault::Unexpected("discovery"));
        };
        let keys = discovery.keys_for(id_token).await?;
        Ok(json!({
            "jwks": *keys, "issuer": self.config.url, "client_ids": self.config.client_ids,
            "verifying": self.config.verifying,
        }))
    }

    /// Whether clients can bring identity tokens of this provider.
    pub(super) fn has_identity_tokens(&self) -> bool {
        self.discovery.is_some()
    }

    /// Asks the provider to forget tokens. Done where it has no endpoint for that, or does not know them.
    pub(super) async fn revoke(&self, tokens: &Revocation) -> Result<(), Fault> {
        const WHAT: &str = "revocation";
        if self.config.kind == Kind::GitHub {
            let url = format!(
                "{}/applications/{}/grant",
                self.github_api(),
                self.client_id()
            );
            let request = self.http.request(Method::DELETE, &url, WHAT)?;
            let request = request
                .header(header::AUTHORIZATION, self.basic(false))
                .header(header::CONTENT_TYPE, "application/json")
                .body(json!({"access_token": tokens.access_token.expose()}).to_string());
            return match self.http.send(request, WHAT).await?.status {
                200..300 | 404 | 422 => Ok(()),
                status => Err(Fault::Status(WHAT, status)),
            };
        }
        let metadata = self.metadata().await?;
        let endpoint = match &metadata {
            None => Some(format!("{}/oauth/revoke", self.config.url)),
            Some(metadata) => metadata.revocation_endpoint.clone(),
        };
        let Some(endpoint) = endpoint else {
            return Ok(());
        };
        let refresh = tokens
            .refresh_token
            .iter()
            .map(|token| ("refresh_token", token));
        for (hint, token) in refresh.chain([("access_token", &tokens.access_token)]) {
            let fields = [("token", token.expose()), ("token_type_hint", hint)];
            let request = self.http.request(Method::POST, &endpoint, WHAT)?;
            let request = self.authenticated(request, &fields, metadata.as_deref());
            let status = self.http.send(request, WHAT).await?.status;
            if !(200..300).contains(&status) {
                return Err(Fault::Status(WHAT, status));
            }
        }
        Ok(())
    }
}

//! `/auth/v1/authorize`, `/auth/v1/callback`, `/auth/v1/user/identities/authorize`, and `/auth/v1/token` for identity tokens.
//! Refusals have GoTrue's shapes: the database writes them.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use kijko_core::{error::Error, http::extract::body, secret::Secret, telemetry::canonical};
use serde_json::{Value, json};

use super::store::Store;
use crate::oauth::{
    browser,
    callback::{Denial, Purpose, answer, callback_query, query_of, text, to_provider, unbound},
    http::Fault,
    provider::{Authorization, Provider, Providers, Query},
};

/// What the routes need.
#[derive(Clone)]
pub(super) struct Login {
    pub store: Store,
    pub providers: Arc<Providers>,
    pub max_body_bytes: usize,
}

pub(super) fn routes(login: Login) -> Router {
    Router::new()
        .route("/auth/v1/authorize", get(authorize).head(nothing))
        .route("/auth/v1/callback", get(callback).head(nothing))
        .route("/auth/v1/user/identities/authorize", get(authorize_link))
        .route("/auth/v1/token", post(id_token))
        .with_state(login)
}

/// A program that only looks at an address uses nothing up.
async fn nothing() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn authorize(
    State(login): State<Login>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let query = query_of(raw);
    let (state, browser) = (browser::random(), browser::random());
    if let Some(ticket) = text(&query, "ticket") {
        let input = json!({"ticket": ticket, "state": state.expose(), "browser": browser.expose()});
        let answer = login.store.answer("ticket", &headers, &input).await?;
        if !answer.is_ok() {
            return Ok(answer.into_response());
        }
        let Some(provider) = login.providers.get(answer.text("provider")?) else {
            return login.refuse_provider(&headers).await;
        };
        let query = answer.body["query"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        let callback = answer.text("callback")?.to_owned();
        return login
            .redirect(&headers, provider, &query, &callback, &state, &browser)
            .await;
    }
    let Some(provider) = login.provider(&query) else {
        return login.refuse_provider(&headers).await;
    };
    if let Err(fault) = provider.ready().await {
        return login.refuse_fault(&headers, provider, &fault).await;
    }
    let input = json!({
        "provider": provider.config.name, "query": query, "state": state.expose(), "browser": browser.expose()
    });
    let answer = login.store.answer("authorize", &headers, &input).await?;
    if !answer.is_ok() {
        return Ok(answer.into_response());
    }
    let callback = answer.text("callback")?.to_owned();
    login
        .redirect(&headers, provider, &query, &callback, &state, &browser)
        .await
}

async fn authorize_link(
    State(login): State<Login>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let query = query_of(raw);
    if login.providers.is_empty() {
        let message = "Manual linking is disabled";
        return login
            .refuse(&headers, 404, "manual_linking_disabled", message)
            .await;
    }
    let Some(provider) = login.provider(&query) else {
        return login.refuse_provider(&headers).await;
    };
    let input = json!({"provider": provider.config.name, "query": query});
    let answer = login
        .store
        .answer("authorize_link", &headers, &input)
        .await?;
    Ok(answer.into_response())
}

async fn callback(
    State(login): State<Login>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let Some((query, state)) = callback_query(raw) else {
        let message = "OAuth state parameter missing, or a parameter is repeated";
        return login
            .refuse(&headers, 400, "bad_oauth_callback", message)
            .await;
    };
    let browser = browser::claimed(&headers, &state);
    let input = json!({"state": state.expose(), "browser": browser.expose()});
    let flow = login.store.answer("callback", &headers, &input).await?;
    if !flow.is_ok() {
        return Ok(flow.into_response());
    }
    let (provider, callback) = (flow.text("provider")?, flow.text("callback")?);
    if !browser::counts(&headers, &state, &browser, callback) {
        let message = "OAuth state does not belong to this browser";
        return login
            .refuse(&headers, 400, "bad_oauth_state", message)
            .await;
    }
    canonical::add("oauth_provider", provider);
    let (provider, purpose) = (login.providers.get(provider), Purpose::SignIn);
    let ended = match answer(provider, &query, callback, &browser, purpose).await {
        Ok(mut found) => {
            found["flow"] = flow.body["flow"].clone();
            login.store.answer("finish", &headers, &found).await?
        }
        Err(denial) => {
            let mut failure = failure(denial);
            failure["flow"] = flow.body["flow"].clone();
            login.store.answer("fail", &headers, &failure).await?
        }
    };
    canonical::add("oauth_status", ended.status);
    Ok(unbound(ended.into_response(), callback, &state))
}

/// As the database says it in the redirect.
fn failure(denial: Denial) -> Value {
    let Denial {
        error,
        error_code,
        description,
    } = denial;
    json!({"error": error, "error_code": error_code, "description": description})
}

/// Only identity tokens come here: the proxy sends the other grants to the database.
async fn id_token(
    State(login): State<Login>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let body = body::read(body, login.max_body_bytes).await?;
    let body = String::from_utf8_lossy(&body);
    let parsed: Value = serde_json::from_str(&body).unwrap_or_default();
    let asked = parsed.as_object().cloned().unwrap_or_default();
    let provider = login
        .provider(&asked)
        .filter(|provider| provider.has_identity_tokens());
    let Some(provider) = provider else {
        let message = "Provider is not enabled";
        return login
            .refuse(&headers, 400, "provider_disabled", message)
            .await;
    };
    let token = text(&asked, "id_token").unwrap_or_default();
    let mut input = match provider.verification(token).await {
        Ok(input) => input,
        Err(fault) => return login.refuse_fault(&headers, provider, &fault).await,
    };
    input["provider"] = provider.config.name.as_str().into();
    input["body"] = body.into();
    let answer = login.store.answer("id_token", &headers, &input).await?;
    Ok(answer.into_response())
}

impl Login {
    /// supabase-js may write `custom:` before the name of a provider that it does not know.
    fn provider(&self, query: &Query) -> Option<&Provider> {
        let name = text(query, "provider")?;
        let name = name.strip_prefix("custom:").unwrap_or(name);
        let provider = self.providers.get(name)?;
        canonical::add("oauth_provider", provider.config.name.as_str());
        Some(provider)
    }

    async fn refuse(
        &self,
        headers: &HeaderMap,
        status: u16,
        code: &str,
        message: &str,
    ) -> Result<Response, Error> {
        let input = json!({"status": status, "code": code, "message": message});
        let answer = self.store.answer("refuse", headers, &input).await?;
        Ok(answer.into_response())
    }

    async fn refuse_provider(&self, headers: &HeaderMap) -> Result<Response, Error> {
        let message = "Unsupported provider: provider is not enabled";
        self.refuse(headers, 400, "validation_failed", message)
            .await
    }

    async fn refuse_fault(
        &self,
        headers: &HeaderMap,
        provider: &Provider,
        fault: &Fault,
    ) -> Result<Response, Error> {
        tracing::warn!(provider = provider.config.name, %fault, "an outside provider does not answer");
        let message = "The provider does not answer";
        self.refuse(headers, 500, "unexpected_failure", message)
            .await
    }

    async fn redirect(
        &self,
        headers: &HeaderMap,
        provider: &Provider,
        query: &Query,
        callback: &str,
        state: &Secret,
        browser: &Secret,
    ) -> Result<Response, Error> {
        let asked = Authorization {
            scopes: provider.sign_in_scopes(query),
            parameters: query,
            callback,
            state,
            browser,
        };
        match provider.authorize_url(&asked).await {
            Ok(url) => to_provider(&url, callback, state, browser),
            Err(fault) => self.refuse_fault(headers, provider, &fault).await,
        }
    }
}

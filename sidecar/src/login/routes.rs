//! `/auth/v1/authorize`, `/auth/v1/callback`, `/auth/v1/user/identities/authorize`, and `/auth/v1/token` for identity tokens.
//! Refusals have GoTrue's shapes: the database writes them.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
    routing::{get, post},
};
use kijko_core::{error::Error, http::extract::body, secret::Secret, telemetry::canonical};
use serde_json::{Value, json};

use super::{
    browser,
    http::Fault,
    provider::{Provider, Providers, Query},
    store::{Answer, Store},
};

/// How long the provider may take in all, below the limit of a request: the browser then goes back where it came from, with an error.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(20);

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

/// Of a repeated name the last value counts, as in the rest of login.
fn query_of(raw: Option<String>) -> Query {
    let raw = raw.unwrap_or_default();
    form_urlencoded::parse(raw.as_bytes())
        .map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())))
        .collect()
}

fn text<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query
        .get(name)
        .and_then(Value::as_str)
        .filter(|value| !value.is_empty())
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
    let raw = raw.unwrap_or_default();
    let query = query_of(Some(raw.clone()));
    let repeated = query.len() != form_urlencoded::parse(raw.as_bytes()).count();
    let Some(state) = text(&query, "state").filter(|_| !repeated) else {
        let message = "OAuth state parameter missing, or a parameter is repeated";
        return login
            .refuse(&headers, 400, "bad_oauth_callback", message)
            .await;
    };
    let state = Secret::new(state);
    let of_browser = |secure| browser::of_request(&headers, &state, secure);
    let browser = of_browser(true).or_else(|| of_browser(false));
    let browser = browser.unwrap_or_else(|| Secret::new(""));
    let input = json!({"state": state.expose(), "browser": browser.expose()});
    let answer = login.store.answer("callback", &headers, &input).await?;
    if !answer.is_ok() {
        return Ok(answer.into_response());
    }
    let callback = answer.text("callback")?;
    let secure = callback.starts_with("https:");
    // Another host of the domain can set the cookie without the prefix, so with TLS that one does not count.
    if of_browser(secure).as_ref() != Some(&browser) {
        let message = "OAuth state does not belong to this browser";
        return login
            .refuse(&headers, 400, "bad_oauth_state", message)
            .await;
    }
    let ended = match login
        .ask_provider(&answer, &query, callback, &browser)
        .await
    {
        Ok(mut found) => {
            found["flow"] = answer.body["flow"].clone();
            login.store.answer("finish", &headers, &found).await?
        }
        Err(mut failure) => {
            failure["flow"] = answer.body["flow"].clone();
            login.store.answer("fail", &headers, &failure).await?
        }
    };
    canonical::add("oauth_status", ended.status);
    Ok(with_cookie(
        ended.into_response(),
        &browser::expired(&state, secure),
    ))
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
        let url = match provider
            .authorize_url(query, callback, state, browser)
            .await
        {
            Ok(url) => url,
            Err(fault) => return self.refuse_fault(headers, provider, &fault).await,
        };
        let location = HeaderValue::from_str(&url).map_err(|_| Error::Internal {
            cause: "the provider's address is no header".to_owned(),
        })?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::FOUND;
        let all = response.headers_mut();
        all.insert(header::LOCATION, location);
        all.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let secure = callback.starts_with("https:");
        Ok(with_cookie(
            response,
            &browser::cookie(state, browser, secure),
        ))
    }

    /// The profile that the provider answers, or the error for the browser.
    async fn ask_provider(
        &self,
        flow: &Answer,
        query: &Query,
        callback: &str,
        browser: &Secret,
    ) -> Result<Value, Value> {
        let failed = |code: &str, description: &str| json!({"error": "server_error", "error_code": code, "description": description});
        let provider = flow.body["provider"].as_str().unwrap_or_default();
        canonical::add("oauth_provider", provider);
        let Some(provider) = self.providers.get(provider) else {
            return Err(failed("unexpected_failure", "The provider is not enabled"));
        };
        let asked = async {
            if !provider.is_issuer(text(query, "iss")).await? {
                let message = "The answer is of another provider";
                return Ok(Err(failed("bad_oauth_callback", message)));
            }
            if let Some(error) = text(query, "error") {
                let description = text(query, "error_description");
                return Ok(Err(json!({"error": error, "description": description})));
            }
            let Some(code) = text(query, "code") else {
                let message = "OAuth callback with missing authorization code";
                return Ok(Err(failed("bad_oauth_callback", message)));
            };
            provider.complete(code, callback, browser).await.map(Ok)
        };
        let fault = match tokio::time::timeout(PROVIDER_TIMEOUT, asked).await {
            Ok(Ok(found)) => return found,
            Ok(Err(fault)) => fault,
            Err(_) => Fault::Unreachable("the provider", "it took too long".to_owned()),
        };
        tracing::warn!(provider = provider.config.name, %fault, "an outside provider did not sign in");
        Err(failed(
            "unexpected_failure",
            "Unable to exchange external code",
        ))
    }
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

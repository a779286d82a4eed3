//! `/auth/v1/authorize/connection` and `/auth/v1/callback/connection`: a browser on its way to the provider, and back.

use std::sync::Arc;

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::get,
};
use kijko_core::{error::Error, secret::Secret, telemetry::canonical};
use uuid::Uuid;

use super::{
    metrics::ConnectionSeries,
    store::{Flow, Store},
};
use crate::oauth::{
    browser,
    callback::{
        Denial, Purpose, answer, callback_query, found, query_of, text, to_provider, unbound,
    },
    http::Fault,
    provider::{Authorization, Provider, Providers, Query},
};

/// What the routes need.
#[derive(Clone)]
pub(super) struct Connections {
    pub store: Store,
    pub providers: Arc<Providers>,
    pub series: Arc<ConnectionSeries>,
}

pub(super) fn routes(connections: Connections) -> Router {
    Router::new()
        .route(
            "/auth/v1/authorize/connection",
            get(authorize).head(nothing),
        )
        .route("/auth/v1/callback/connection", get(callback).head(nothing))
        .with_state(connections)
}

/// A program that only looks at an address uses nothing up.
async fn nothing() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn authorize(
    State(connections): State<Connections>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Error> {
    let query = query_of(raw);
    let ticket = Secret::new(text(&query, "ticket").unwrap_or_default());
    let (state, browser) = (browser::random(), browser::random());
    let flow = connections.store.take_ticket(&ticket, &state, &browser);
    let Some(flow) = flow.await? else {
        let message = "the ticket is unknown, used or expired";
        return Err(Error::BadRequest(message.to_owned()));
    };
    canonical::add("oauth_provider", flow.provider.as_str());
    let Some(provider) = connections.providers.get(&flow.provider) else {
        let message = "The provider is not enabled";
        return connections.fail(flow.flow, &unavailable(message)).await;
    };
    let provider = provider.by(flow.application.as_ref());
    match authorize_url(&provider, &flow, &state, &browser).await {
        Ok(url) => to_provider(&url, &flow.callback, &state, &browser),
        Err(fault) => {
            tracing::warn!(provider = flow.provider, %fault, "an outside provider does not answer");
            let message = "The provider does not answer";
            connections.fail(flow.flow, &unavailable(message)).await
        }
    }
}

async fn authorize_url(
    provider: &Provider,
    flow: &Flow,
    state: &Secret,
    browser: &Secret,
) -> Result<String, Fault> {
    let asked = Authorization {
        scopes: provider.connection_scopes(&flow.scopes).await?,
        parameters: &provider.connection_parameters(),
        callback: &flow.callback,
        state,
        browser,
    };
    provider.authorize_url(&asked).await
}

async fn callback(
    State(connections): State<Connections>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let Some((query, state)) = callback_query(raw) else {
        let message = "the state is missing, or a parameter is repeated";
        return Err(Error::BadRequest(message.to_owned()));
    };
    let browser = browser::claimed(&headers, &state);
    let taken = connections.store.take_state(&state, &browser).await?;
    let of_browser = |flow: &Flow| browser::counts(&headers, &state, &browser, &flow.callback);
    let Some(flow) = taken.filter(of_browser) else {
        let message = "the state is unknown, used, expired or of another browser";
        return Err(Error::BadRequest(message.to_owned()));
    };
    canonical::add("oauth_provider", flow.provider.as_str());
    let callback = flow.callback.clone();
    // In a task of its own: a browser that goes away must not lose a token that the provider has given.
    let exchange = async move { connections.exchange(flow, &query, &browser).await };
    let ended = tokio::spawn(canonical::carried(exchange));
    let response = ended.await.map_err(|error| Error::Internal {
        cause: error.to_string(),
    })??;
    Ok(unbound(response, &callback, &state))
}

impl Connections {
    /// Asks the provider for tokens, and says where the browser goes.
    async fn exchange(
        self,
        flow: Flow,
        query: &Query,
        browser: &Secret,
    ) -> Result<Response, Error> {
        let provider = self.providers.get(&flow.provider);
        let provider = provider.map(|provider| provider.by(flow.application.as_ref()));
        let (callback, purpose) = (&flow.callback, Purpose::Connection);
        let asked = answer(provider.as_ref(), query, callback, browser, purpose).await;
        self.series.authorized(asked.is_ok());
        match asked {
            Ok(answer) => match self.store.authorized(flow.flow, &answer).await {
                Err(error) if error.is_about_the_data() => {
                    tracing::warn!(provider = flow.provider, %error, "the account cannot be stored");
                    let message = "The provider answered something that cannot be stored";
                    self.fail(flow.flow, &unusable(message)).await
                }
                location => redirect(location?),
            },
            Err(denial) => self.fail(flow.flow, &denial).await,
        }
    }

    /// Sends the browser back where it came from, with an error.
    async fn fail(&self, flow: Uuid, denial: &Denial) -> Result<Response, Error> {
        let description = denial.description.as_deref();
        redirect(self.store.fail(flow, &denial.error, description).await?)
    }
}

fn unavailable(description: &str) -> Denial {
    denial("temporarily_unavailable", description)
}

fn unusable(description: &str) -> Denial {
    denial("server_error", description)
}

fn denial(error: &str, description: &str) -> Denial {
    Denial {
        error: error.to_owned(),
        error_code: None,
        description: Some(description.to_owned()),
    }
}

fn redirect(location: Option<String>) -> Result<Response, Error> {
    match location {
        Some(location) => found(&location),
        None => Err(Error::BadRequest("the flow has ended".to_owned())),
    }
}

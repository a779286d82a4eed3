//! `/llm/v1`: OpenAI's API.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, Request as HttpRequest, State},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use kijko_core::http::{RouteLimit, RouteLimits};

use super::{
    chat::Chat, embeddings::Embeddings, error::ApiError, gateway::Gateway, handlers::Intake,
    images::Images, request::Request,
};

/// Routes of calls.
const CALLS: [&str; 4] = [
    "/llm/v1/chat/completions",
    "/llm/v1/embeddings",
    "/llm/v1/images/generations",
    "/llm/v1/prompts/{*path}",
];

/// A model may think for long before it answers. The route of the call ends it earlier.
const MAX_TIME: Duration = Duration::from_secs(3_600);

pub(super) fn routes(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/llm/v1/chat/completions", post(chat).fallback(no_method))
        .route("/llm/v1/embeddings", post(embeddings).fallback(no_method))
        .route(
            "/llm/v1/images/generations",
            post(images).fallback(no_method),
        )
        .route("/llm/v1/prompts/{*path}", post(prompt).fallback(no_method))
        .route("/llm/v1/models", get(models).fallback(no_method))
        .route("/llm/v1/models/{*id}", get(model).fallback(no_method))
        .route("/llm/v1/{*path}", any(nothing))
        .with_state(gateway)
}

/// Answers take longer than others. The handler bounds the bodies, which are larger, and says so in OpenAI's shape.
pub(super) fn limits() -> RouteLimits {
    let limit = RouteLimit {
        request_timeout: MAX_TIME,
        max_body_bytes: usize::MAX,
    };
    CALLS.map(|route| (route, limit)).into()
}

async fn chat(State(gateway): State<Arc<Gateway>>, request: HttpRequest) -> Response {
    let read = |body: &[u8]| Chat::read(body).map(Request::Chat);
    gateway.answer(request, Intake::Body(read)).await
}

async fn embeddings(State(gateway): State<Arc<Gateway>>, request: HttpRequest) -> Response {
    let read = |body: &[u8]| Embeddings::read(body).map(Request::Embeddings);
    gateway.answer(request, Intake::Body(read)).await
}

async fn images(State(gateway): State<Arc<Gateway>>, request: HttpRequest) -> Response {
    let read = |body: &[u8]| Images::read(body).map(Request::Images);
    gateway.answer(request, Intake::Body(read)).await
}

/// Paths of prompts have slashes, which come encoded or not.
async fn prompt(
    State(gateway): State<Arc<Gateway>>,
    Path(path): Path<String>,
    request: HttpRequest,
) -> Response {
    match path.strip_suffix("/call") {
        Some(path) => {
            let intake = Intake::Prompt(path.to_owned());
            gateway.answer(request, intake).await
        }
        None => nothing().await,
    }
}

async fn models(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    gateway.models(headers, None).await
}

async fn model(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    gateway.models(headers, Some(&id)).await
}

async fn no_method() -> Response {
    ApiError::new(
        405,
        "method_not_allowed",
        "this path does not take this method",
    )
    .into_response()
}

async fn nothing() -> Response {
    let message = "there is nothing at this path; see /llm/v1/models, chat/completions, embeddings, images/generations and prompts/{path}/call";
    ApiError::new(404, "not_found", message).into_response()
}

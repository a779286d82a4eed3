//! `GET /api/public/v2/prompts`: what Langfuse's clients ask to read prompts, in its shapes. Their Basic credentials are any name and an
//! API key. The API says who the caller is and whether they may.

use axum::{
    Json, Router,
    body::to_bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use kijko_core::{error::Error, http::Accepted};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::{Api, NotGranted},
    basic::{self, Fault},
    query::Query,
};

/// A refusal of the API is small.
const MAX_REFUSAL: usize = 64 << 10;

/// None: not configured.
#[derive(Clone)]
struct Prompts(Option<Api>);

/// What `list_prompts` answers.
#[derive(Deserialize)]
struct Page {
    total: u64,
    prompts: Vec<Value>,
}

pub(super) fn routes(api: Option<Api>) -> Router {
    Router::new()
        .route("/api/public/v2/prompts", get(list))
        .route("/api/public/v2/prompts/{*name}", get(one))
        .with_state(Prompts(api))
}

async fn one(
    State(prompts): State<Prompts>,
    Path(name): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> Response {
    let version = match query.number("version", 1, i32::MAX as u64) {
        Ok(version) => version,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, &message),
    };
    let arguments = json!({"path": name, "label": query.text("label"), "version": version});
    match prompts
        .ask::<Value>("get_prompt", headers, &arguments)
        .await
    {
        Ok((prompt, limits)) => (limits, Json(described(&prompt))).into_response(),
        Err(refusal) => refusal,
    }
}

async fn list(State(prompts): State<Prompts>, query: Query, headers: HeaderMap) -> Response {
    let (page, limit) = match (
        query.number("page", 1, 1_000),
        query.number("limit", 1, 100),
    ) {
        (Ok(page), Ok(limit)) => (page.unwrap_or(1), limit.unwrap_or(50)),
        (Err(message), _) | (_, Err(message)) => return refuse(StatusCode::BAD_REQUEST, &message),
    };
    let arguments = json!({
        "path": query.text("name"), "label": query.text("label"), "tag": query.text("tag"), "n": limit, "skip": (page - 1) * limit,
        "changed_since": query.text("fromUpdatedAt"), "changed_until": query.text("toUpdatedAt"), "with_content": false,
    });
    match prompts
        .ask::<Page>("list_prompts", headers, &arguments)
        .await
    {
        Ok((found, limits)) => {
            let data: Vec<Value> = found.prompts.iter().map(listed).collect();
            let meta = json!({
                "page": page, "limit": limit, "totalItems": found.total, "totalPages": found.total.div_ceil(limit),
            });
            (limits, Json(json!({"data": data, "meta": meta}))).into_response()
        }
        Err(refusal) => refusal,
    }
}

impl Prompts {
    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        function: &str,
        headers: HeaderMap,
        arguments: &Value,
    ) -> Result<(T, HeaderMap), Response> {
        let api = Api::configured(self.0.as_ref()).map_err(Error::into_response)?;
        let headers = with_key(headers).map_err(|refusal| *refusal)?;
        match api.call::<T>(function, &headers, arguments).await {
            Ok(granted) => Ok(granted),
            Err(NotGranted::Refused(refusal)) => Err(translate(*refusal).await),
            Err(NotGranted::Failed(error)) => Err(error.into_response()),
        }
    }
}

/// The secret of Basic credentials is the key.
fn with_key(mut headers: HeaderMap) -> Result<HeaderMap, Box<Response>> {
    let Some(credentials) = basic::credentials(&headers) else {
        return Ok(headers);
    };
    let assumed = credentials.and_then(|it| basic::assume_key(&mut headers, &it.secret));
    match assumed {
        Ok(()) => Ok(headers),
        Err(fault) => {
            let status = match fault {
                Fault::NotAKey => StatusCode::UNAUTHORIZED,
                Fault::TwoKeys => StatusCode::BAD_REQUEST,
            };
            Err(Box::new(refuse(status, fault.message())))
        }
    }
}

fn described(prompt: &Value) -> Value {
    let content = match prompt["content"].as_array() {
        None => prompt["content"].clone(),
        Some(parts) => parts
            .iter()
            .map(|part| match part.get("role") {
                Some(role) => {
                    json!({"type": "chatmessage", "role": role, "content": part["content"]})
                }
                None => json!({"type": "placeholder", "name": part["name"]}),
            })
            .collect(),
    };
    json!({
        "id": prompt["version_id"], "name": prompt["path"], "version": prompt["version"], "type": prompt["type"], "prompt": content,
        "config": config(prompt), "labels": prompt["labels"], "tags": prompt["tags"], "commitMessage": prompt["message"],
        "createdAt": prompt["created_at"], "updatedAt": prompt["created_at"],
    })
}

/// Langfuse has one object for what a program needs besides the text.
fn config(prompt: &Value) -> Value {
    let mut config = prompt["parameters"].clone();
    if let (Some(config), Some(model)) = (config.as_object_mut(), prompt["model"].as_str()) {
        config.insert("model".to_owned(), json!(model));
    }
    config
}

fn listed(prompt: &Value) -> Value {
    json!({
        "name": prompt["path"], "type": prompt["type"], "versions": prompt["versions"], "labels": prompt["all_labels"],
        "tags": prompt["tags"], "lastUpdatedAt": prompt["updated_at"], "lastConfig": config(prompt),
    })
}

/// Our refusal in Langfuse's shape. Its clients choose their error by the status.
async fn translate(refusal: Response) -> Response {
    let (parts, body) = refusal.into_parts();
    let body = to_bytes(body, MAX_REFUSAL).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().filter(|it| !it.is_empty());
    let message: Vec<_> = ["message", "details", "hint"]
        .into_iter()
        .filter_map(text)
        .collect();
    let mut response = refuse(parts.status, &message.join(" "));
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            response.headers_mut().insert(name, value.clone());
        }
    }
    // The database has counted who calls against their own limits; only unauthenticated ones count for their address.
    if parts.status != StatusCode::UNAUTHORIZED {
        response.extensions_mut().insert(Accepted);
    }
    response
}

fn refuse(status: StatusCode, message: &str) -> Response {
    let error = match status {
        StatusCode::NOT_FOUND => "LangfuseNotFoundError",
        StatusCode::UNAUTHORIZED => "UnauthorizedError",
        StatusCode::FORBIDDEN => "ForbiddenError",
        _ => "InvalidRequestError",
    };
    (status, Json(json!({"message": message, "error": error}))).into_response()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_STANDARD};

    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        headers
    }

    #[test]
    fn the_secret_of_basic_credentials_is_the_key() {
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        let made = with_key(headers(&basic("pk:kjk_live_a:b"))).unwrap();
        assert_eq!(made["x-api-key"], "kjk_live_a:b");
        assert!(made["x-api-key"].is_sensitive() && !made.contains_key("authorization"));
        for bad in [
            basic("pk:sk-lf-1"),
            basic("kjk_live_a"),
            "Basic !".to_owned(),
        ] {
            assert_eq!(with_key(headers(&bad)).unwrap_err().status(), 401);
        }
        let mut two = headers(&basic("pk:kjk_live_a"));
        two.insert("x-api-key", "kjk_live_b".parse().unwrap());
        assert_eq!(with_key(two).unwrap_err().status(), 400);
        let bearer = with_key(headers("Bearer x")).unwrap();
        assert_eq!(bearer["authorization"], "Bearer x");
    }

    #[test]
    fn shapes_are_langfuses() {
        let prompt = json!({
            "version_id": "i", "path": "a/b", "version": 2, "type": "chat", "labels": ["production"], "tags": [], "message": null,
            "content": [{"role": "user", "content": "{{x}}"}, {"type": "placeholder", "name": "h"}], "parameters": {"temperature": 0},
            "model": "openai/gpt-4o", "created_at": "t", "updated_at": "u", "versions": [1, 2], "all_labels": ["production"],
        });
        let shown = described(&prompt);
        assert_eq!(
            shown["prompt"],
            json!([
                {"type": "chatmessage", "role": "user", "content": "{{x}}"}, {"type": "placeholder", "name": "h"}
            ])
        );
        assert_eq!(
            shown["config"],
            json!({"temperature": 0, "model": "openai/gpt-4o"})
        );
        assert_eq!(listed(&prompt)["name"], "a/b");
    }
}

//! What each route does: asks the API who calls and whether they may, and lets the call run in a task of its own.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::Request as HttpRequest,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use kijko_core::{error::Error, telemetry::canonical};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::{
    call::Call,
    chat::MAX_WEIGHT,
    error::{ApiError, accepted},
    gateway::Gateway,
    intake,
    output::Reply,
    prompts::PromptCall,
    request::Request,
    settlement::Taken,
    span::Place,
};
use crate::{
    api::{Api, NotGranted},
    llm::weight,
};

/// What a request brings.
pub(super) enum Intake {
    /// A body, which this reads.
    Body(fn(&[u8]) -> Result<Request, ApiError>),
    /// The path of a stored prompt, whose variables are in the body.
    Prompt(String),
}

/// A model that the caller may use, as the database lists it.
#[derive(Deserialize)]
struct Model {
    id: String,
    owned_by: String,
    created_at: String,
}

impl Gateway {
    /// Answers a request.
    pub(super) async fn answer(self: &Arc<Self>, request: HttpRequest, intake: Intake) -> Response {
        let outcome = self.let_through(request, intake).await;
        outcome.unwrap_or_else(ApiError::into_response)
    }

    async fn let_through(
        self: &Arc<Self>,
        request: HttpRequest,
        intake: Intake,
    ) -> Result<Response, ApiError> {
        let (parts, body) = request.into_parts();
        let headers = named(parts.headers);
        let organization = self.identify(&headers).await?;
        let of_organization = self
            .organizations
            .take(&organization, self.max_of_caller)
            .ok_or_else(|| ApiError::crowded("calls"))?;
        let Some(slot) = self.all.take(&(), self.max_calls) else {
            let cause = "too many calls at once".to_owned();
            return Err(Error::Unavailable { cause }.into());
        };
        let mut room = self.bodies.enter(organization).ok_or_else(|| {
            let cause = "there is no room for requests".to_owned();
            ApiError::from(Error::Internal { cause })
        })?;
        let bytes = intake::read(body, self.max_body_bytes, &mut room, intake::PACE).await?;
        room.grow(weight(&bytes).min(MAX_WEIGHT)).await?;
        let (request, prompt) = match intake {
            Intake::Body(read) => (read(&bytes)?, None),
            Intake::Prompt(path) => {
                let call = PromptCall::read(&path, &bytes)?;
                let (request, called) =
                    call.render(self, organization, &headers, &mut room).await?;
                (request, Some(called))
            }
        };
        drop(bytes);
        canonical::add("llm_kind", request.kind());
        canonical::add("model", request.model());
        let place = Place::of(&headers);
        let mut arguments = request.arguments(&headers, place.trace)?;
        if let Some(called) = &prompt {
            arguments["prompt_version_id"] = json!(called.version_id);
        }
        let places: Taken = Arc::new((of_organization, slot));
        let opening = self.authorize(organization, &headers, &arguments, &places);
        // From here to the task that calls, nothing waits: whoever hangs up, the call is settled.
        let (grant, rate) = opening.await?;
        let gone = CancellationToken::new();
        let guard = gone.clone().drop_guard();
        let (kept, share) = room.into_permits();
        let call = Call {
            gateway: self.clone(),
            request,
            place,
            gone,
            kept,
            settles_first: false,
        };
        let (reply, answer) = oneshot::channel();
        let taken = (places, share);
        self.tasks.spawn(canonical::carried(async move {
            call.run(grant, reply).await;
            drop(taken);
        }));
        let response = match answer.await {
            Ok(Reply::Whole(mut whole)) => {
                if let Some(called) = &prompt {
                    whole["prompt"] = called.to_json();
                }
                Json(whole).into_response()
            }
            Ok(Reply::Stream(parts)) => stream_of(parts, guard),
            Ok(Reply::Failed(error)) => error.into_response(),
            // Its task has panicked; the call is settled all the same.
            Err(_) => {
                let cause = "the task of the call ended without an answer".to_owned();
                ApiError::from(Error::Internal { cause }).into_response()
            }
        };
        let mut response = accepted(response);
        if let Some(called) = &prompt {
            called.describe(response.headers_mut());
        }
        for (name, value) in &rate {
            if !response.headers().contains_key(name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        Ok(response)
    }

    /// The organization in which the request works. The API refuses whom it does not know.
    async fn identify(&self, headers: &HeaderMap) -> Result<Uuid, ApiError> {
        if let Some(organization) = self.identities.get(headers, Instant::now()) {
            return Ok(organization);
        }
        let none = json!({});
        let organization = self.ask::<Option<Uuid>>("org_id", headers, &none);
        let (organization, _) = organization.await?;
        let Some(organization) = organization else {
            // It refuses, and says why: there may be no second factor, or the organization is closed.
            self.ask::<IgnoredAny>("list_llm_models", headers, &none)
                .await?;
            let message = "the caller is no member of an organization";
            let mut error = ApiError::new(403, "not_a_member", message);
            error.counted = true;
            return Err(error);
        };
        self.identities
            .insert(headers, organization, Instant::now());
        Ok(organization)
    }

    pub(super) async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        function: &str,
        headers: &HeaderMap,
        arguments: &Value,
    ) -> Result<(T, HeaderMap), ApiError> {
        let api = Api::configured(self.api.as_ref())?;
        match api.call::<T>(function, headers, arguments).await {
            Ok(granted) => Ok(granted),
            Err(NotGranted::Failed(error)) => Err(error.into()),
            Err(NotGranted::Refused(refusal)) => Err(ApiError::of_caller(*refusal).await),
        }
    }

    /// The models that the caller may use; one of them if it is named.
    pub(super) async fn models(&self, headers: HeaderMap, id: Option<&str>) -> Response {
        match self.list_models(headers, id).await {
            Ok(response) => response,
            Err(error) => error.into_response(),
        }
    }

    async fn list_models(
        &self,
        headers: HeaderMap,
        id: Option<&str>,
    ) -> Result<Response, ApiError> {
        let headers = named(headers);
        let none = json!({});
        let models = self.ask::<Vec<Model>>("list_llm_models", &headers, &none);
        let (models, rate) = models.await?;
        let mut response = match id {
            None => {
                let data: Vec<_> = models.iter().map(Model::to_json).collect();
                Json(json!({"object": "list", "data": data})).into_response()
            }
            Some(id) => match models.iter().find(|model| model.id == id) {
                Some(model) => Json(model.to_json()).into_response(),
                None => {
                    let message = format!("there is no model {id:?} for this caller");
                    let mut error = ApiError::new(404, "model_not_found", message);
                    error.param = Some("model");
                    error.into_response()
                }
            },
        };
        response.headers_mut().extend(rate);
        Ok(accepted(response))
    }
}

impl Model {
    fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "object": "model",
            "created": seconds(&self.created_at),
            "owned_by": self.owned_by,
        })
    }
}

/// Seconds of the Unix epoch of a time as Postgres writes it in JSON.
fn seconds(time: &str) -> i64 {
    let time = time.parse::<jiff::Timestamp>();
    time.map_or(0, jiff::Timestamp::as_second)
}

/// OpenAI's clients name organization and project by headers of their own.
fn named(mut headers: HeaderMap) -> HeaderMap {
    if let Some(organization) = headers.get("openai-organization").cloned()
        && !headers.contains_key("x-org-id")
    {
        headers.insert("x-org-id", organization);
    }
    headers
}

/// The parts as they come. With the body the guard is dropped: the client has hung up.
fn stream_of(parts: mpsc::Receiver<Bytes>, guard: DropGuard) -> Response {
    let body = stream::unfold((parts, guard), |(mut parts, guard)| async move {
        let part = parts.recv().await?;
        Some((Ok::<_, std::io::Error>(part), (parts, guard)))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // nginx would collect the stream.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_database() {
        for (time, wanted) in [
            ("1970-01-01T00:00:00+00:00", 0),
            ("2024-02-29T12:00:01.5+00:00", 1_709_208_001),
            ("2026-11-29T07:42:18.123456+00:00", 1_795_938_138),
            ("2026-11-29T09:42:18.123456+02:00", 1_795_938_138),
            ("", 0),
        ] {
            assert_eq!(seconds(time), wanted, "{time}");
        }
    }

    #[test]
    fn the_organization_of_openais_clients_is_ours() {
        let mut headers = HeaderMap::new();
        headers.insert("openai-organization", "a".parse().unwrap());
        assert_eq!(named(headers.clone())["x-org-id"], "a");
        headers.insert("x-org-id", "b".parse().unwrap());
        assert_eq!(named(headers)["x-org-id"], "b");
    }
}

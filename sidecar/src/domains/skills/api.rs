//! Asks the API, as the caller, what they may. The request carries the caller's own headers, so that PostgREST and the database
//! identify them, apply their rate limits and check the organization as for any other request.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use kijko_core::{
    error::Error,
    outbound::{Client, Limits, OutboundError, Url},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::check::Problem;
use crate::service::SERVICE;

/// A skill with its template is below 1 MiB, also when JSON escapes each of its characters.
const LIMITS: Limits = Limits {
    connect_timeout: Duration::from_secs(5),
    total_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(10),
    max_bytes: 4 << 20,
};

/// Who the caller is, which organization they mean, and for the limits of addresses where they come from.
const IDENTITY: [&str; 5] = [
    "authorization",
    "x-api-key",
    "x-org-id",
    "x-forwarded-for",
    "x-request-id",
];

/// What an answer says of limits.
const LIMIT_HEADERS: [&str; 7] = [
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-resource",
];

/// What `public.check_skill` answers.
#[derive(Debug, Deserialize)]
pub(super) struct Facts {
    pub org_id: Uuid,
    pub problems: Vec<Problem>,
    pub model: String,
    pub parameters: Map<String, Value>,
    /// Of the skill that was named.
    pub prompt_template: Option<String>,
    pub input_schema: Option<Value>,
    pub max_output_tokens: Option<u64>,
}

/// The answer to the question.
pub(super) enum Permission {
    /// The caller may; the headers say what is left of their limits.
    Granted(Box<Facts>, HeaderMap),
    /// The API's refusal, for the caller.
    Refused(Box<Response>),
}

/// The API.
#[derive(Debug, Clone)]
pub(super) struct Api {
    client: Client,
    url: Url,
}

impl Api {
    pub(super) fn new(mut url: Url) -> Result<Self, OutboundError> {
        let path = format!("{}/rpc/check_skill", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(Self {
            client: Client::new(SERVICE, LIMITS)?,
            url,
        })
    }

    /// Calls `public.check_skill` as the sender of these headers.
    pub(super) async fn check_skill(
        &self,
        headers: &HeaderMap,
        arguments: &Value,
    ) -> Result<Permission, Error> {
        let mut request = self.client.post(self.url.clone()).json(arguments);
        for name in IDENTITY {
            for value in headers.get_all(name) {
                request = request.header(name, value.as_bytes());
            }
        }
        let answer = self.client.send(request).await.map_err(unavailable)?;
        let (status, limits) = (answer.status().as_u16(), limit_headers(answer.headers()));
        let body = answer.bytes().await.map_err(unavailable)?;
        match status {
            200..=299 => {
                let facts = serde_json::from_slice(&body).map_err(|error| Error::Internal {
                    cause: format!("check_skill answered something unexpected: {error}"),
                })?;
                Ok(Permission::Granted(Box::new(facts), limits))
            }
            400..=499 => Ok(Permission::Refused(Box::new(refusal(status, body, limits)))),
            other => Err(Error::Unavailable {
                cause: format!("the API answered {other}"),
            }),
        }
    }
}

fn limit_headers(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in LIMIT_HEADERS {
        if let Some(value) = headers.get(name)
            && let Ok(value) = HeaderValue::from_bytes(value.as_bytes())
        {
            kept.insert(HeaderName::from_static(name), value);
        }
    }
    kept
}

fn refusal(status: u16, body: Vec<u8>, limits: HeaderMap) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    *response.headers_mut() = limits;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

fn unavailable(error: OutboundError) -> Error {
    Error::Unavailable {
        cause: format!("the API: {error}"),
    }
}

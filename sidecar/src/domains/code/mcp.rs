//! `/mcp`: the Model Context Protocol over streamable HTTP, for agents. Stateless: each request is a message with the caller's API key,
//! and its answer is JSON. There are tools ([`super::tools`]) and nothing else, so the server never has a reason to open a stream.
//!
//! By hand rather than by the crate `rmcp`: these are five methods, and it would bring nine crates more, and sessions, streams and
//! another body limit that would have to be turned off.

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use kijko_core::{error::Error, http::extract::body, telemetry::canonical};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    refusal::{Refusal, refusal},
    service::Code,
    tools::{TOOLS, Tool},
};
use crate::api::NotGranted;

/// The newest first; what we do is the same in each.
const VERSIONS: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];
const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;

/// For the model.
const INSTRUCTIONS: &str = "Search and read the code of the organization's repositories as they are indexed. Find definitions by \
search_symbols, text by search_code, and who uses a symbol by symbol_graph; read around a place by read_code_file. Find notes and \
decisions by search_documents. Lines count from 1, columns from 0 in bytes.";

/// A request, or without an id a notification.
#[derive(Deserialize)]
struct Message {
    jsonrpc: String,
    method: Option<String>,
    #[serde(default)]
    params: Map<String, Value>,
    #[serde(default, deserialize_with = "some")]
    id: Option<Value>,
}

/// `null` is an id, too, and not a missing one.
fn some<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What a method answers.
type Outcome = Result<(Value, HeaderMap), Failure>;

enum Failure {
    /// Of the protocol: code and message.
    Protocol(i32, String),
    /// Of HTTP: the caller is not identified, or the fault is ours.
    Http(Box<Response>),
}

pub(super) fn routes(code: Code) -> Router {
    Router::new().route("/mcp", post(answer)).with_state(code)
}

async fn answer(State(code): State<Code>, headers: HeaderMap, body: Body) -> Response {
    let body = match body::read(body, code.max_body_bytes).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let message = match read(&headers, &body) {
        Ok(message) => message,
        Err((code, message)) => {
            let body = json!({ "jsonrpc": "2.0", "id": null, "error": { "code": code, "message": message } });
            return (StatusCode::BAD_REQUEST, Json(body)).into_response();
        }
    };
    // A notification needs no answer, and no method of ours needs a notification.
    let (Some(id), Some(method)) = (message.id, message.method) else {
        return StatusCode::ACCEPTED.into_response();
    };
    canonical::add("mcp_method", method.as_str());
    match code.method(&method, &headers, message.params).await {
        Ok((result, limits)) => {
            let body = json!({ "jsonrpc": "2.0", "id": id, "result": result });
            (limits, Json(body)).into_response()
        }
        Err(Failure::Protocol(code, message)) => {
            let error = json!({ "code": code, "message": message });
            Json(json!({ "jsonrpc": "2.0", "id": id, "error": error })).into_response()
        }
        Err(Failure::Http(response)) => *response,
    }
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<Message, (i32, String)> {
    if let Some(version) = headers.get("mcp-protocol-version")
        && !VERSIONS.iter().any(|known| version == known)
    {
        let message = format!("MCP-Protocol-Version: one of {VERSIONS:?}");
        return Err((INVALID_REQUEST, message));
    }
    let value: Value = body::json(body).map_err(|error| (PARSE_ERROR, error.to_string()))?;
    if value.is_array() {
        let message = "batches are not answered: send one message a request".to_owned();
        return Err((INVALID_REQUEST, message));
    }
    let message: Message =
        serde_json::from_value(value).map_err(|error| (INVALID_REQUEST, error.to_string()))?;
    let is_id = |id: &Value| id.is_string() || id.is_i64() || id.is_u64();
    if message.jsonrpc != "2.0" || !message.id.as_ref().is_none_or(is_id) {
        let message = "not a message of JSON-RPC 2.0 with an id of text or an integer".to_owned();
        return Err((INVALID_REQUEST, message));
    }
    Ok(message)
}

impl Code {
    async fn method(
        &self,
        method: &str,
        headers: &HeaderMap,
        params: Map<String, Value>,
    ) -> Outcome {
        match method {
            "initialize" => self.initialize(headers, &params).await,
            "ping" => Ok((json!({}), HeaderMap::new())),
            "tools/list" => Ok((json!({ "tools": *TOOLS }), HeaderMap::new())),
            "tools/call" => self.call_tool(headers, params).await,
            _ => Err(Failure::Protocol(
                METHOD_NOT_FOUND,
                format!("there is no method {method:?}"),
            )),
        }
    }

    /// A wrong key is refused here, before an agent goes to work.
    async fn initialize(&self, headers: &HeaderMap, params: &Map<String, Value>) -> Outcome {
        let api = self.api()?;
        let (_, limits) = api.call::<Value>("org_id", headers, &json!({})).await?;
        let asked = params.get("protocolVersion").and_then(Value::as_str);
        let version = VERSIONS.into_iter().find(|known| asked == Some(known));
        let result = json!({
            "protocolVersion": version.unwrap_or(VERSIONS[0]),
            "capabilities": { "tools": {} },
            "serverInfo": { "name": "kijko", "title": "Kijko", "version": crate::VERSION },
            "instructions": INSTRUCTIONS,
        });
        Ok((result, limits))
    }

    async fn call_tool(&self, headers: &HeaderMap, mut params: Map<String, Value>) -> Outcome {
        let name = params
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let Some(tool) = Tool::named(name) else {
            let message = format!("there is no tool {name:?}");
            return Err(Failure::Protocol(INVALID_PARAMS, message));
        };
        canonical::add("mcp_tool", tool.name);
        let arguments = match params.remove("arguments") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(_) => {
                let message = "arguments: must be an object".to_owned();
                return Err(Failure::Protocol(INVALID_PARAMS, message));
            }
        };
        let called = match tool.check(&arguments) {
            Ok(()) => tool.call(self, headers, arguments).await,
            Err(message) => Err(Error::BadRequest(message).into()),
        };
        match called {
            Ok((value, limits)) => Ok((result(value, false), limits)),
            Err(refused) => match refusal(refused).await {
                // The model reads what is wrong, and may do it better.
                Refusal::Said {
                    status,
                    body,
                    headers,
                    ..
                } if status != StatusCode::UNAUTHORIZED => {
                    Ok((result(json!({ "error": body }), true), headers))
                }
                refused => Err(Failure::Http(Box::new(refused.into_response()))),
            },
        }
    }
}

/// Programs read the structure, models the text.
fn result(value: Value, is_error: bool) -> Value {
    json!({
        "content": [{ "type": "text", "text": value.to_string() }], "structuredContent": value, "isError": is_error,
    })
}

impl From<NotGranted> for Failure {
    fn from(not_granted: NotGranted) -> Self {
        Self::Http(Box::new(not_granted.into_response()))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Http(Box::new(error.into_response()))
    }
}

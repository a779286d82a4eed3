//! OpenFeature's remote evaluation protocol: `ofrep/v1/evaluate/flags/{key}` for one flag, `ofrep/v1/evaluate/flags` for all.
//!
//! The value of a flag is whether it is on, or the payload of its variant. A flag whose variants have payloads has no value while it
//! is off: the program's own default counts then.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use kijko_core::{
    error::Error,
    http::{Accepted, extract::body},
};
use kijko_flags::Evaluation;
use serde_json::{Map, Value, json};

use super::{
    service::{Environment, Flags, MAX_BODY_BYTES, TOO_LONG, fits, is_known},
    source::Source,
};
use crate::api::NotGranted;

pub(super) fn routes(flags: Flags) -> Router {
    Router::new()
        .route("/api/v1/flags/ofrep/v1/evaluate/flags", post(evaluate_all))
        .route(
            "/api/v1/flags/ofrep/v1/evaluate/flags/{key}",
            post(evaluate),
        )
        .route(
            "/api/v1/flags/environments/{environment}/ofrep/v1/evaluate/flags",
            post(evaluate_all),
        )
        .route(
            "/api/v1/flags/environments/{environment}/ofrep/v1/evaluate/flags/{key}",
            post(evaluate),
        )
        .with_state(flags)
}

async fn evaluate(
    State(flags): State<Flags>,
    Environment(environment): Environment,
    Path(mut names): Path<HashMap<String, String>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, NotGranted> {
    let key = names.remove("key").unwrap_or_default();
    let body = body::read(body, MAX_BODY_BYTES).await?;
    let source = flags.sources.find(&headers, &environment).await?;
    let refuse = |status, code: &str, details: String| {
        let answer = json!({"key": key, "errorCode": code, "errorDetails": details});
        Ok(refused(source.limits.clone(), status, answer))
    };
    let context = match read_context(&body) {
        Ok(members) => source.context(members),
        Err((code, details)) => return refuse(StatusCode::BAD_REQUEST, code, details),
    };
    let evaluated = flags.sources.evaluate(&source, &key, context).await?;
    let Some(evaluation) = evaluated else {
        let details = "there is no such flag".to_owned();
        return refuse(StatusCode::NOT_FOUND, "FLAG_NOT_FOUND", details);
    };
    let answer = described(&source, &evaluation);
    let facts = &source.facts;
    flags
        .counts
        .add(facts.org_id, &facts.environment, &[evaluation]);
    Ok((source.limits, Json(answer)).into_response())
}

/// A refusal in OFREP's form. The database has counted the caller's request.
fn refused(limits: HeaderMap, status: StatusCode, answer: Value) -> Response {
    let mut answer = (status, limits, Json(answer)).into_response();
    answer.extensions_mut().insert(Accepted);
    answer
}

/// All flags. They are not counted: a client asks for them before it knows which it uses.
async fn evaluate_all(
    State(flags): State<Flags>,
    Environment(environment): Environment,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, NotGranted> {
    let body = body::read(body, MAX_BODY_BYTES).await?;
    let source = flags.sources.find(&headers, &environment).await?;
    let context = match read_context(&body) {
        Ok(members) => source.context(members),
        Err((code, details)) => {
            let answer = json!({"errorCode": code, "errorDetails": details});
            return Ok(refused(source.limits, StatusCode::BAD_REQUEST, answer));
        }
    };
    let all = flags.sources.evaluate_all(&source, context).await?;
    let all: Vec<Value> = all.iter().map(|flag| described(&source, flag)).collect();
    let answer = json!({ "flags": all });
    let mut digest = DefaultHasher::new();
    (source.facts.org_id, answer.to_string()).hash(&mut digest);
    let tag = format!("\"{:016x}\"", digest.finish());
    let mut response = match is_known(&headers, &tag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Json(answer).into_response(),
    };
    response.headers_mut().extend(source.limits);
    if let Ok(tag) = tag.parse() {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// The context in Unleash's terms, or why there is none. The error is OpenFeature's.
fn read_context(body: &[u8]) -> Result<Map<String, Value>, (&'static str, String)> {
    let body: Result<Map<String, Value>, Error> = body::json(body);
    let mut body = body.map_err(|error| ("PARSE_ERROR", error.to_string()))?;
    let mut context = match body.remove("context") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(context)) => context,
        Some(_) => return Err(("INVALID_CONTEXT", "context: must be an object".to_owned())),
    };
    match context.remove("targetingKey") {
        None | Some(Value::Null) => {}
        Some(Value::String(key)) => _ = context.entry("userId").or_insert(json!(key)),
        Some(_) => {
            let details = "context.targetingKey: must be a text".to_owned();
            return Err(("INVALID_CONTEXT", details));
        }
    }
    if !fits(&context) {
        return Err(("INVALID_CONTEXT", TOO_LONG.to_owned()));
    }
    Ok(context)
}

fn described(source: &Source, flag: &Evaluation) -> Value {
    let reason = match flag.enabled {
        true => "TARGETING_MATCH",
        false => "DEFAULT",
    };
    let mut answer = json!({
        "key": flag.name, "reason": reason, "metadata": {"environment": source.facts.environment, "revision": source.facts.revision},
    });
    if flag.variant_enabled {
        answer["variant"] = json!(flag.variant);
    }
    let value = match &flag.payload {
        Some((kind, text)) => Some(payload(kind, text)),
        None if !flag.enabled && has_payloads(&source.compiled.definitions, &flag.name) => None,
        None => Some(json!(flag.enabled)),
    };
    if let Some(value) = value {
        answer["value"] = value;
    }
    answer
}

fn payload(kind: &str, text: &str) -> Value {
    let parsed = match kind {
        "number" | "json" => serde_json::from_str(text).ok(),
        _ => None,
    };
    parsed.unwrap_or_else(|| json!(text))
}

fn has_payloads(definitions: &Value, name: &str) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let has = |owner: &Value| {
        list(&owner["variants"])
            .iter()
            .any(|variant| variant["payload"].is_object())
    };
    let flags = definitions["features"].as_array().into_iter().flatten();
    flags
        .filter(|flag| flag["name"] == name)
        .any(|flag| has(flag) || list(&flag["strategies"]).iter().any(has))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targeting_key_is_the_user() {
        let read = |body: &str| read_context(body.as_bytes());
        assert_eq!(
            read(r#"{"context": {"targetingKey": "u", "a": 1}}"#).unwrap()["userId"],
            "u"
        );
        assert!(read("{}").unwrap().is_empty());
        let long = |name: &str| format!(r#"{{"context": {{"{name}": "{}"}}}}"#, "x".repeat(1_001));
        assert_eq!(
            read(&long("targetingKey")).unwrap_err().0,
            "INVALID_CONTEXT"
        );
        for (bad, code) in [
            ("", "PARSE_ERROR"),
            ("[]", "PARSE_ERROR"),
            (r#"{"context": []}"#, "INVALID_CONTEXT"),
            (r#"{"context": {"targetingKey": 7}}"#, "INVALID_CONTEXT"),
        ] {
            assert_eq!(read(bad).unwrap_err().0, code, "{bad}");
        }
    }

    #[test]
    fn payloads_have_their_type() {
        assert_eq!(payload("number", "1.5"), json!(1.5));
        assert_eq!(payload("json", r#"{"a": [1]}"#), json!({"a": [1]}));
        assert_eq!(payload("string", "1"), json!("1"));
        let definitions = json!({"features": [
            {"name": "a", "variants": [], "strategies": [{"variants": [{"name": "x", "payload": {"type": "string", "value": ""}}]}]},
            {"name": "b", "variants": [{"name": "x"}], "strategies": []},
        ]});
        assert!(has_payloads(&definitions, "a") && !has_payloads(&definitions, "b"));
    }
}

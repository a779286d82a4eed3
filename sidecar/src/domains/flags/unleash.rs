//! Unleash's Client API (`client/*`), for programs that evaluate flags themselves, and its Frontend API (`frontend`), which answers
//! what is on for a context.

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use kijko_core::{error::Error, http::extract::body};
use serde_json::{Map, Value, json};

use super::service::{Environment, Flags, MAX_BODY_BYTES, TOO_LONG, fits, is_known};
use crate::{api::NotGranted, query::Query};

/// The first version of the protocol whose clients resolve segments themselves.
const SEGMENTS_SINCE: (u32, u32) = (4, 2);

pub(super) fn routes(flags: Flags) -> Router {
    Router::new()
        .route("/api/v1/flags/client/features", get(features))
        .route("/api/v1/flags/client/register", post(register))
        .route("/api/v1/flags/client/metrics", post(metrics))
        .route(
            "/api/v1/flags/frontend",
            get(toggles_of_query).post(toggles_of_body),
        )
        .route("/api/v1/flags/frontend/client/register", post(register))
        .route("/api/v1/flags/frontend/client/metrics", post(metrics))
        .route(
            "/api/v1/flags/environments/{environment}/client/features",
            get(features),
        )
        .route(
            "/api/v1/flags/environments/{environment}/client/register",
            post(register),
        )
        .route(
            "/api/v1/flags/environments/{environment}/client/metrics",
            post(metrics),
        )
        .route(
            "/api/v1/flags/environments/{environment}/frontend",
            get(toggles_of_query).post(toggles_of_body),
        )
        .route(
            "/api/v1/flags/environments/{environment}/frontend/client/register",
            post(register),
        )
        .route(
            "/api/v1/flags/environments/{environment}/frontend/client/metrics",
            post(metrics),
        )
        .with_state(flags)
}

/// The definitions, with an entity tag that changes with them.
async fn features(
    State(flags): State<Flags>,
    Environment(environment): Environment,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, NotGranted> {
    let source = flags.sources.find(&headers, &environment).await?;
    let has_segments = knows_segments(&headers);
    let prefix = query.text("namePrefix").unwrap_or_default();
    let tag = format!(
        "\"{}:{}:{}:{}:{}:v1\"",
        source.facts.org_id.simple(),
        // A name of small letters, digits, _ and -.
        source.facts.environment,
        source.facts.revision,
        u8::from(has_segments),
        prefix
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
    );
    let mut answer = if is_known(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut definitions = source.compiled.definitions.clone();
        if let Some(list) = definitions["features"].as_array_mut() {
            list.retain(|flag| {
                flag["name"]
                    .as_str()
                    .is_some_and(|name| name.starts_with(prefix))
            });
        }
        if !has_segments {
            inline_segments(&mut definitions);
        }
        Json(definitions).into_response()
    };
    answer.headers_mut().extend(source.limits);
    if let Ok(tag) = tag.parse() {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    Ok(answer)
}

fn knows_segments(headers: &HeaderMap) -> bool {
    let version = headers
        .get("unleash-client-spec")
        .and_then(|value| value.to_str().ok());
    let mut parts = version
        .unwrap_or_default()
        .split('.')
        .map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= SEGMENTS_SINCE,
        _ => false,
    }
}

/// For clients that know no segments: their constraints, in each strategy.
fn inline_segments(definitions: &mut Value) {
    let segments = definitions["segments"].take();
    let constraints_of = |id: &Value| {
        let found = segments
            .as_array()?
            .iter()
            .find(|segment| segment["id"] == *id)?;
        found["constraints"].as_array().cloned()
    };
    let features = definitions["features"].as_array_mut().into_iter().flatten();
    let strategies = features
        .filter_map(|flag| flag["strategies"].as_array_mut())
        .flatten();
    for strategy in strategies.filter_map(Value::as_object_mut) {
        let ids = strategy.remove("segments").unwrap_or_default();
        let ids = ids.as_array().into_iter().flatten();
        let more: Vec<Value> = ids.filter_map(constraints_of).flatten().collect();
        if let Some(list) = strategy
            .get_mut("constraints")
            .and_then(Value::as_array_mut)
        {
            list.extend(more);
        }
    }
    if let Some(definitions) = definitions.as_object_mut() {
        definitions.remove("segments");
    }
}

/// A program that starts says which it is. The database keeps that, and checks the caller.
async fn register(
    State(flags): State<Flags>,
    Environment(environment): Environment,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, NotGranted> {
    let body = body::read(body, MAX_BODY_BYTES).await?;
    let program: Map<String, Value> = body::json(&body)?;
    let names = ["appName", "instanceId", "sdkVersion", "strategies"];
    let arguments = json!({"application": members(&program, &names), "environment": environment});
    let api = flags.sources.api()?;
    let registered = api.run("register_flag_application", &headers, &arguments);
    let limits = registered.await?;
    Ok((StatusCode::ACCEPTED, limits).into_response())
}

/// Those of an object that the database is asked to keep.
fn members(object: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    let found = names.iter().filter_map(|name| object.get_key_value(*name));
    found
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// What a program has evaluated since its last report.
async fn metrics(
    State(flags): State<Flags>,
    Environment(environment): Environment,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, NotGranted> {
    let body = body::read(body, MAX_BODY_BYTES).await?;
    let mut report: Map<String, Value> = body::json(&body)?;
    let toggles = match report.remove("bucket") {
        None | Some(Value::Null) => json!({}),
        Some(Value::Object(mut bucket)) => bucket.remove("toggles").unwrap_or_default(),
        Some(_) => Value::Null,
    };
    if !toggles.is_object() {
        let fault = "bucket.toggles: must be an object".to_owned();
        return Err(Error::BadRequest(fault).into());
    }
    let program: Map<String, Value> = members(&report, &["appName", "instanceId"])
        .into_iter()
        .filter(|(_, value)| value.as_str().is_some_and(|text| text.len() <= 200))
        .collect();
    let arguments = json!({"toggles": toggles, "environment": environment, "application": program});
    let api = flags.sources.api()?;
    let recorded = api.run("record_flag_evaluations", &headers, &arguments);
    let limits = recorded.await?;
    Ok((StatusCode::ACCEPTED, limits).into_response())
}

async fn toggles_of_query(
    state: State<Flags>,
    environment: Environment,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, NotGranted> {
    toggles(&state, environment, &headers, query_context(&query)).await
}

async fn toggles_of_body(
    state: State<Flags>,
    environment: Environment,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, NotGranted> {
    let body = body::read(body, MAX_BODY_BYTES).await?;
    let mut members: Map<String, Value> = body::json(&body)?;
    let members = match members.remove("context") {
        None => members,
        Some(Value::Object(context)) => context,
        Some(_) => return Err(Error::BadRequest("context: must be an object".to_owned()).into()),
    };
    toggles(&state, environment, &headers, members).await
}

async fn toggles(
    flags: &Flags,
    Environment(environment): Environment,
    headers: &HeaderMap,
    members: Map<String, Value>,
) -> Result<Response, NotGranted> {
    if !fits(&members) {
        return Err(Error::BadRequest(TOO_LONG.to_owned()).into());
    }
    let source = flags.sources.find(headers, &environment).await?;
    let context = source.context(members);
    let all = flags.sources.evaluate_all(&source, context).await?;
    let on: Vec<Value> = all
        .iter()
        .filter(|flag| flag.enabled)
        .map(kijko_flags::Evaluation::toggle)
        .collect();
    Ok((source.limits, Json(json!({"toggles": on}))).into_response())
}

/// Parameters are members of the context, and `properties[name]` its properties.
fn query_context(query: &Query) -> Map<String, Value> {
    let mut members = Map::new();
    for name in query.names() {
        let value = json!(query.text(name).unwrap_or_default());
        match name
            .strip_prefix("properties[")
            .and_then(|rest| rest.strip_suffix(']'))
        {
            Some(property) => {
                let properties = members.entry("properties").or_insert_with(|| json!({}));
                if properties.is_object() {
                    properties[property] = value;
                }
            }
            None if name == "properties" => {}
            None => _ = members.insert(name.to_owned(), value),
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_a_context() {
        let query = Query::read(Some("userId=7&properties%5Bplan%5D=x&properties=y&beta=1"));
        assert_eq!(
            Value::Object(query_context(&query)),
            json!({"userId": "7", "properties": {"plan": "x"}, "beta": "1"})
        );
    }

    #[test]
    fn old_clients_get_the_constraints_of_segments() {
        let of = |version: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("unleash-client-spec", version.parse().unwrap());
            knows_segments(&headers)
        };
        assert!(
            of("5.2.0")
                && of("4.2.2")
                && !of("4.1.0")
                && !of("x")
                && !knows_segments(&HeaderMap::new())
        );
        let constraint =
            |name: &str| json!({"contextName": name, "operator": "IN", "values": ["x"]});
        let mut definitions = json!({
            "version": 2, "segments": [{"id": 3, "constraints": [constraint("b")]}],
            "features": [{"name": "f", "strategies": [{"name": "default", "constraints": [constraint("a")], "segments": [3, 4]}]}],
        });
        inline_segments(&mut definitions);
        assert_eq!(
            definitions,
            json!({"version": 2, "features": [
                {"name": "f", "strategies": [{"name": "default", "constraints": [constraint("a"), constraint("b")]}]}
            ]})
        );
    }

    #[test]
    fn a_tag_is_known_by_any_client() {
        let mut headers = HeaderMap::new();
        headers.insert("if-none-match", "\"x\", W/\"a:1:v1\"".parse().unwrap());
        assert!(is_known(&headers, "\"a:1:v1\"") && !is_known(&headers, "\"a:2:v1\""));
    }
}

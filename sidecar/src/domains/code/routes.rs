//! `/api/v1/symbols/search`: symbols by name, in our own shape.

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::get,
};
use kijko_core::{error::Error, http::extract::body};
use serde_json::{Map, Value, json};

use super::service::Code;
use crate::{api::NotGranted, query::Query};

/// Parameters of the address, and those of `search_symbols()`.
const TEXTS: [(&str, &str); 4] = [
    ("query", "q"),
    ("path", "path"),
    ("repository_id", "repository_id"),
    ("branch", "branch"),
];
const LISTS: [(&str, &str); 3] = [
    ("kind", "kinds"),
    ("language", "languages"),
    ("match", "matches"),
];
const MAX_LIMIT: u64 = 200;

pub(super) fn routes(code: Code) -> Router {
    Router::new()
        .route("/api/v1/symbols/search", get(by_address).post(by_body))
        .with_state(code)
}

async fn by_address(
    State(code): State<Code>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, NotGranted> {
    let arguments = arguments(&query).map_err(Error::BadRequest)?;
    search(&code, &headers, &arguments).await
}

/// The body has the parameters of `search_symbols()`.
async fn by_body(
    State(code): State<Code>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, NotGranted> {
    let body = body::read(body, code.max_body_bytes).await?;
    let arguments: Map<String, Value> = body::json(&body)?;
    search(&code, &headers, &Value::Object(arguments)).await
}

async fn search(
    code: &Code,
    headers: &HeaderMap,
    arguments: &Value,
) -> Result<Response, NotGranted> {
    let found = code
        .api()?
        .call::<Value>("search_symbols", headers, arguments);
    let (found, limits) = found.await?;
    Ok((limits, Json(json!({ "symbols": found }))).into_response())
}

fn arguments(query: &Query) -> Result<Value, String> {
    let known = |name: &str| {
        name == "limit"
            || TEXTS
                .iter()
                .chain(&LISTS)
                .any(|(parameter, _)| *parameter == name)
    };
    if let Some(unknown) = query.names().find(|name| !known(name)) {
        return Err(format!("{unknown}: no such parameter"));
    }
    let mut arguments = json!({});
    for (parameter, name) in TEXTS {
        if let Some(text) = query.text(parameter) {
            arguments[name] = json!(text);
        }
    }
    for (parameter, name) in LISTS {
        if let Some(text) = query.text(parameter) {
            arguments[name] = text.split(',').collect();
        }
    }
    if let Some(limit) = query.number("limit", 1, MAX_LIMIT)? {
        arguments["n"] = json!(limit);
    }
    match query.text("query") {
        Some(_) => Ok(arguments),
        None => Err("query: must be given".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_parameters_of_the_function() {
        let read = |query: &str| arguments(&Query::read(Some(query)));
        assert_eq!(
            read("query=parse&kind=function,method&match=exact,prefix&limit=5&path=src%2F")
                .unwrap(),
            json!({
                "q": "parse", "path": "src/", "kinds": ["function", "method"], "matches": ["exact", "prefix"], "n": 5
            })
        );
        for bad in ["", "query=", "query=a&limit=0", "query=a&n=5"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

//! KotaDB's paths for documents: texts with path, title, tags and metadata. Rows of `documents`, as the caller sees them.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    kotadb::{Failure, invalid, read, refused},
    kotadb_shapes as shapes,
    refusal::{Body as RefusalBody, Refusal},
    repositories,
    service::{Answer, Code},
};
use crate::query::Query;

/// Documents of a page, with their texts of 256 KiB each.
const MAX_LIMIT: u64 = 50;
const DEFAULT_LIMIT: u64 = 20;
const MAX_OFFSET: u64 = 10_000;
const COLUMNS: &str =
    "id,project_id,path,title,content,tags,metadata,size_bytes,created_at,updated_at";

pub(super) fn routes(code: Code) -> Router {
    Router::new()
        .route("/api/v1/health", get(health))
        .route("/api/v1/documents", get(list).post(create))
        .route("/api/v1/documents/search", get(search))
        .route(
            "/api/v1/documents/{id}",
            get(read_one).put(update).delete(remove),
        )
        .with_state(code)
        .route("/api/v1/search/semantic", post(by_meaning))
        .route("/api/v1/search/hybrid", post(by_meaning))
        .route("/api/v1/stats", get(statistics))
}

/// Documents have no embeddings. Searching their words instead would answer another question.
async fn by_meaning() -> Response {
    not_supported(
        "documents are searched by their words, and not by their meaning",
        "Search by words: GET /api/v1/documents/search?q=…",
    )
    .await
}

async fn statistics() -> Response {
    not_supported(
        "there are no statistics of documents",
        "List them: GET /api/v1/documents",
    )
    .await
}

async fn not_supported(message: &str, hint: &str) -> Response {
    let refusal = Refusal::Said {
        status: StatusCode::BAD_REQUEST,
        body: RefusalBody {
            code: "not_supported".to_owned(),
            message: message.to_owned(),
            details: None,
            hint: Some(hint.to_owned()),
        },
        headers: HeaderMap::new(),
        counted: false,
    };
    refused(Failure::Invalid(Box::new(refusal))).await
}

/// The client asks this before it knows a key.
async fn health() -> Json<Value> {
    Json(json!({ "status": "healthy", "version": crate::VERSION }))
}

async fn list(State(code): State<Code>, query: Query, headers: HeaderMap) -> Response {
    respond(StatusCode::OK, code.list_documents(&headers, &query).await).await
}

async fn search(State(code): State<Code>, query: Query, headers: HeaderMap) -> Response {
    respond(
        StatusCode::OK,
        code.search_documents(&headers, &query).await,
    )
    .await
}

async fn create(State(code): State<Code>, headers: HeaderMap, body: Body) -> Response {
    let written = code.write_document(&headers, body, None).await;
    respond(StatusCode::CREATED, written).await
}

async fn read_one(
    State(code): State<Code>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    respond(StatusCode::OK, code.read_document(&headers, &id).await).await
}

async fn update(
    State(code): State<Code>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let written = code.write_document(&headers, body, Some(&id)).await;
    respond(StatusCode::OK, written).await
}

async fn remove(State(code): State<Code>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    respond(StatusCode::OK, code.delete_document(&headers, &id).await).await
}

async fn respond(status: StatusCode, outcome: Result<(Value, HeaderMap), Failure>) -> Response {
    match outcome {
        Ok((body, limits)) => (status, limits, Json(body)).into_response(),
        Err(failure) => refused(failure).await,
    }
}

/// What a client writes of a document.
#[derive(Deserialize)]
struct Written {
    path: Option<String>,
    title: Option<String>,
    content: Option<Content>,
    tags: Option<Vec<String>>,
    metadata: Option<Map<String, Value>>,
    project_id: Option<Uuid>,
}

/// KotaDB's clients send the bytes of a text as numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Bytes(Vec<u8>),
}

impl Written {
    /// The columns that it names.
    fn row(self) -> Result<Map<String, Value>, Failure> {
        let content = match self.content {
            Some(Content::Text(text)) => Some(text),
            Some(Content::Bytes(bytes)) => Some(
                String::from_utf8(bytes).map_err(|_| invalid("content: must be text in UTF-8"))?,
            ),
            None => None,
        };
        let mut row = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                row.insert(name.to_owned(), value);
            }
        };
        set("path", self.path.map(Value::from));
        set("title", self.title.map(Value::from));
        set("content", content.map(Value::from));
        set("tags", self.tags.map(Value::from));
        set("metadata", self.metadata.map(Value::from));
        set("project_id", self.project_id.map(|id| json!(id)));
        Ok(row)
    }
}

/// The part of a list that is asked for: how many, and behind how many.
fn part(query: &Query) -> Result<(u64, u64), Failure> {
    let limit = query.number("limit", 1, MAX_LIMIT).map_err(invalid)?;
    let offset = query.number("offset", 0, MAX_OFFSET).map_err(invalid)?;
    Ok((limit.unwrap_or(DEFAULT_LIMIT), offset.unwrap_or(0)))
}

fn id(text: &str) -> Result<Uuid, Failure> {
    // As an id that nobody has.
    let unknown = || Failure::from(repositories::not_found("no such document"));
    text.parse().map_err(|_| unknown())
}

impl Code {
    async fn list_documents(&self, headers: &HeaderMap, query: &Query) -> DocumentsOutcome {
        let (limit, offset) = part(query)?;
        let api = self.api()?;
        let organization = format!("eq.{}", repositories::organization(api, headers).await?);
        let (limit, offset) = (limit.to_string(), offset.to_string());
        let tag = query.text("tag").map(|tag| format!("cs.{}", array(tag)));
        let mut filters = vec![
            ("select", COLUMNS),
            ("org_id", &*organization),
            ("order", "created_at.desc,id.desc"),
            ("limit", &*limit),
            ("offset", &*offset),
        ];
        filters.extend(tag.as_deref().map(|tag| ("tags", tag)));
        let (rows, limits): (Vec<Value>, _) = api.read("documents", headers, &filters).await?;
        Ok((shapes::documents(&rows), limits))
    }

    async fn search_documents(&self, headers: &HeaderMap, query: &Query) -> DocumentsOutcome {
        let (limit, offset) = part(query)?;
        let tags = query.text("tag").map(|tag| [tag]);
        let arguments = json!({
            "q": query.text("q"), "tags": tags, "path": query.text("path"), "n": limit, "skip": offset,
        });
        let api = self.api()?;
        let called = api.call::<Vec<Value>>("search_documents", headers, &arguments);
        let (found, limits) = called.await?;
        let ids: Vec<_> = found.iter().filter_map(|row| row["id"].as_str()).collect();
        if ids.is_empty() {
            return Ok((shapes::documents(&[]), limits));
        }
        // Its texts. One that was deleted in between is left out.
        let filter = format!("in.({})", ids.join(","));
        let filters = [("select", COLUMNS), ("id", &*filter)];
        let (rows, limits): (Vec<Value>, _) = api.read("documents", headers, &filters).await?;
        let whole = |hit: &Value| {
            let mut row = rows.iter().find(|row| row["id"] == hit["id"])?.clone();
            row["score"] = hit["rank"].clone();
            row["content_preview"] = hit["excerpt"].clone();
            Some(row)
        };
        let rows: Vec<_> = found.iter().filter_map(whole).collect();
        Ok((shapes::documents(&rows), limits))
    }

    async fn read_document(&self, headers: &HeaderMap, document: &str) -> DocumentsOutcome {
        let (row, limits) = document_of(self, headers, id(document)?).await?;
        Ok((shapes::document(&row), limits))
    }

    /// Makes a document, or changes what the body names of one.
    async fn write_document(
        &self,
        headers: &HeaderMap,
        body: Body,
        document: Option<&str>,
    ) -> DocumentsOutcome {
        let (written, _): (Written, _) = read(self, body).await?;
        let row = Value::Object(written.row()?);
        let api = self.api()?;
        let written = match document {
            Some(document) => {
                let filter = format!("eq.{}", id(document)?);
                let filters = [("select", COLUMNS), ("id", &*filter)];
                api.change(Method::PATCH, "documents", headers, &filters, Some(&row))
                    .await
            }
            None => {
                let filters = [("select", COLUMNS)];
                api.change(Method::POST, "documents", headers, &filters, Some(&row))
                    .await
            }
        };
        let (rows, limits): (Vec<Value>, _) = written?;
        Ok((shapes::document(&first(rows)?), limits))
    }

    async fn delete_document(&self, headers: &HeaderMap, document: &str) -> DocumentsOutcome {
        let filter = format!("eq.{}", id(document)?);
        let filters = [("select", "id"), ("id", &*filter)];
        let deleted = self
            .api()?
            .change(Method::DELETE, "documents", headers, &filters, None);
        let (rows, limits): (Vec<Value>, _) = deleted.await?;
        first(rows)?;
        Ok((json!({ "deleted": true }), limits))
    }
}

type DocumentsOutcome = Result<(Value, HeaderMap), Failure>;

/// A whole document.
pub(super) async fn document_of(code: &Code, headers: &HeaderMap, id: Uuid) -> Answer<Value> {
    let filter = format!("eq.{id}");
    let filters = [("select", COLUMNS), ("id", &*filter)];
    let (rows, limits) = code.api()?.read("documents", headers, &filters).await?;
    Ok((first(rows)?, limits))
}

fn first(rows: Vec<Value>) -> Result<Value, crate::api::NotGranted> {
    let row = rows.into_iter().next();
    row.ok_or_else(|| repositories::not_found("no such document"))
}

/// An array of one text, as PostgREST reads it.
fn array(text: &str) -> String {
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("{{\"{quoted}\"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(written: Value) -> Option<Map<String, Value>> {
        let written: Written = serde_json::from_value(written).ok()?;
        written.row().ok()
    }

    #[test]
    fn a_text_may_be_its_bytes_and_what_is_not_named_stays() {
        let named = row(json!({"path": "a.md", "content": [104, 195, 169], "tags": []})).unwrap();
        assert_eq!(
            Value::Object(named),
            json!({"path": "a.md", "content": "hé", "tags": []})
        );
        assert_eq!(row(json!({"title": null})), Some(Map::new()));
        for bad in [
            json!({"content": [255]}),
            json!({"content": [256]}),
            json!({"metadata": 1}),
        ] {
            assert_eq!(row(bad), None);
        }
    }

    #[test]
    fn a_tag_is_one_element_whatever_is_in_it() {
        assert_eq!(array(r#"a",b\"#), r#"{"a\",b\\"}"#);
    }
}

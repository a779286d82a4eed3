//! KotaDB's paths, for its clients: the same questions, with its answers and errors (`StandardApiError`). What it lacks is added beside
//! its fields: the repository and the branch of each place, and how an edge was resolved.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use kijko_core::{error::Error, http::extract::body};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    kotadb_shapes as shapes,
    refusal::{Refusal, refusal},
    repositories,
    search::CodeQuery,
    service::Code,
};
use crate::{api::NotGranted, query::Query};

const MAX_LIMIT: u64 = 100;
const MAX_DEPTH: u64 = 6;

/// Why there is no answer.
pub(super) enum Failure {
    NotGranted(NotGranted),
    /// The request is wrong in itself.
    Invalid(Box<Refusal>),
}

type Outcome = Result<(Value, HeaderMap), Failure>;

pub(super) fn routes(code: Code) -> Router {
    Router::new()
        .route("/api/v1/search/code", post(search_code))
        .route("/api/v1/search/symbols", post(search_symbols))
        .route("/api/v1/symbols", get(list_symbols))
        .route("/api/v1/symbols/{symbol}/callers", get(callers))
        .route("/api/v1/symbols/{symbol}/impact", get(impact))
        .route("/api/v1/files/symbols/{*path}", get(file_symbols))
        .route(
            "/api/v1/repositories",
            get(list_repositories).post(register),
        )
        .route("/api/v1/index/status", get(index_status))
        .route("/api/v1/codebase-overview", get(overview))
        .with_state(code)
}

async fn respond(outcome: Outcome) -> Response {
    match outcome {
        Ok((body, limits)) => (limits, Json(body)).into_response(),
        Err(failure) => refused(failure).await,
    }
}

/// A refusal in KotaDB's shape.
pub(super) async fn refused(failure: Failure) -> Response {
    match failure {
        Failure::Invalid(refused) => refused.shaped(shapes::error),
        Failure::NotGranted(refused) => refusal(refused).await.shaped(shapes::error),
    }
}

impl From<NotGranted> for Failure {
    fn from(not_granted: NotGranted) -> Self {
        Self::NotGranted(not_granted)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::NotGranted(error.into())
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Failure {
    let said = Refusal::said(StatusCode::BAD_REQUEST, "validation_error", message);
    Failure::Invalid(Box::new(said))
}

pub(super) async fn read<T: DeserializeOwned>(
    code: &Code,
    body: Body,
) -> Result<(T, Option<String>), Failure> {
    let body = body::read(body, code.max_body_bytes).await?;
    let mut fields: Map<String, Value> =
        body::json(&body).map_err(|error| invalid(error.to_string()))?;
    let format = fields.remove("format");
    let read = serde_json::from_value(Value::Object(fields));
    let format = format.as_ref().and_then(Value::as_str).map(str::to_owned);
    Ok((read.map_err(|error| invalid(error.to_string()))?, format))
}

async fn search_code(State(code): State<Code>, headers: HeaderMap, body: Body) -> Response {
    respond(code.kotadb_code(&headers, body).await).await
}

async fn search_symbols(State(code): State<Code>, headers: HeaderMap, body: Body) -> Response {
    respond(code.kotadb_symbols(&headers, body).await).await
}

async fn list_symbols(State(code): State<Code>, query: Query, headers: HeaderMap) -> Response {
    respond(code.kotadb_list(&headers, &query).await).await
}

async fn callers(
    State(code): State<Code>,
    Path(symbol): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> Response {
    respond(
        code.kotadb_graph(&headers, &symbol, "callers", &query)
            .await,
    )
    .await
}

async fn impact(
    State(code): State<Code>,
    Path(symbol): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> Response {
    respond(code.kotadb_graph(&headers, &symbol, "impact", &query).await).await
}

async fn file_symbols(
    State(code): State<Code>,
    Path(path): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> Response {
    respond(code.kotadb_file(&headers, &path, &query).await).await
}

async fn list_repositories(State(code): State<Code>, headers: HeaderMap) -> Response {
    respond(code.kotadb_repositories(&headers).await).await
}

async fn register(State(code): State<Code>, headers: HeaderMap, body: Body) -> Response {
    respond(code.kotadb_register(&headers, body).await).await
}

async fn index_status(State(code): State<Code>, query: Query, headers: HeaderMap) -> Response {
    respond(code.kotadb_status(&headers, &query).await).await
}

async fn overview(State(code): State<Code>, query: Query, headers: HeaderMap) -> Response {
    respond(code.kotadb_overview(&headers, &query).await).await
}

/// The body of a search for symbols.
#[derive(Deserialize)]
struct SymbolQuery {
    pattern: String,
    limit: Option<u64>,
    symbol_type: Option<String>,
    repository_id: Option<Uuid>,
    branch: Option<String>,
}

/// The body of a registration.
#[derive(Deserialize)]
struct Registration {
    path: Option<String>,
    git_url: Option<String>,
    branch: Option<String>,
    project_id: Option<Uuid>,
}

impl SymbolQuery {
    fn arguments(&self, default_limit: u64) -> Value {
        let kinds = self.symbol_type.as_ref().map(|kind| [kind.to_lowercase()]);
        json!({
            // KotaDB's patterns may have stars, which mean nothing more here.
            "q": self.pattern.trim().trim_matches('*'), "kinds": kinds, "repository_id": self.repository_id, "branch": self.branch,
            "n": self.limit.unwrap_or(default_limit).clamp(1, MAX_LIMIT),
        })
    }
}

impl Code {
    async fn kotadb_code(&self, headers: &HeaderMap, body: Body) -> Outcome {
        let (mut query, format): (CodeQuery, _) = read(self, body).await?;
        if query.query.trim().is_empty() {
            return Err(invalid("query: must not be empty"));
        }
        query.limit = query.limit.or(Some(10));
        let (found, limits) = self.search.code(self.api()?, headers, query).await?;
        Ok((shapes::code(found, format.as_deref()), limits))
    }

    async fn kotadb_symbols(&self, headers: &HeaderMap, body: Body) -> Outcome {
        let (query, format): (SymbolQuery, _) = read(self, body).await?;
        if query.pattern.trim().trim_matches('*').is_empty() {
            return Err(invalid("pattern: a name or a part of one"));
        }
        let arguments = query.arguments(25);
        let (found, limits): (Vec<Value>, _) = self
            .api()?
            .call("search_symbols", headers, &arguments)
            .await?;
        Ok((shapes::symbols(&found, format.as_deref()), limits))
    }

    async fn kotadb_list(&self, headers: &HeaderMap, query: &Query) -> Outcome {
        let text = |name: &str| query.text(name).map(str::to_owned);
        let asked = SymbolQuery {
            pattern: text("pattern").unwrap_or_default(),
            limit: query.number("limit", 1, MAX_LIMIT).map_err(invalid)?,
            symbol_type: text("symbol_type"),
            repository_id: id(query, "repository_id")?,
            branch: text("branch"),
        };
        if asked.pattern.trim().trim_matches('*').is_empty() {
            return Err(invalid("pattern: a name or a part of one"));
        }
        let arguments = asked.arguments(50);
        let (found, limits): (Vec<Value>, _) = self
            .api()?
            .call("search_symbols", headers, &arguments)
            .await?;
        Ok((shapes::symbols(&found, None), limits))
    }

    async fn kotadb_graph(
        &self,
        headers: &HeaderMap,
        symbol: &str,
        direction: &str,
        query: &Query,
    ) -> Outcome {
        let arguments = json!({
            "symbol": symbol, "direction": direction, "repository_id": id(query, "repository_id")?, "branch": query.text("branch"),
            "depth": query.number("depth", 1, MAX_DEPTH).map_err(invalid)?.unwrap_or(1),
            "n": query.number("limit", 1, MAX_LIMIT).map_err(invalid)?.unwrap_or(MAX_LIMIT),
        });
        let (graph, limits): (Vec<Value>, _) = self
            .api()?
            .call("symbol_graph", headers, &arguments)
            .await?;
        Ok((shapes::graph(&graph, symbol, direction), limits))
    }

    /// KotaDB has one repository; of several one must be named.
    async fn kotadb_file(&self, headers: &HeaderMap, path: &str, query: &Query) -> Outcome {
        let api = self.api()?;
        let named = id(query, "repository_id")?;
        let repository = match named {
            Some(id) => id,
            None => match repositories::list(api, headers).await?.0.as_slice() {
                [only] => only.id,
                _ => {
                    let message = "repository_id: must be given, unless there is one repository";
                    return Err(invalid(message));
                }
            },
        };
        let arguments = json!({
            "path": path, "repository_id": repository, "branch": query.text("branch"),
        });
        let call = api.call::<Vec<Value>>("list_file_symbols", headers, &arguments);
        let (symbols, limits) = call.await?;
        Ok((shapes::file(&symbols, path), limits))
    }

    async fn kotadb_repositories(&self, headers: &HeaderMap) -> Outcome {
        let (rows, limits) = repositories::list(self.api()?, headers).await?;
        let rows: Vec<_> = rows.iter().map(shapes::repository).collect();
        Ok((json!({ "repositories": rows }), limits))
    }

    async fn kotadb_register(&self, headers: &HeaderMap, body: Body) -> Outcome {
        let (asked, _): (Registration, _) = read(self, body).await?;
        let Some(url) = asked.git_url else {
            let refused = match asked.path {
                Some(_) => Failure::Invalid(Box::new(Refusal::said(
                    StatusCode::FORBIDDEN,
                    "local_path_indexing_disabled",
                    "the service reads no path of its own machine; send git_url",
                ))),
                None => invalid("git_url: must be given"),
            };
            return Err(refused);
        };
        let api = self.api()?;
        let branch = asked.branch.as_deref();
        let (added, _) = repositories::add(api, headers, &url, branch, asked.project_id).await?;
        let (job, limits) = repositories::index(api, headers, added.id).await?;
        let answer = json!({ "job_id": job.id, "repository_id": added.id, "status": "accepted" });
        Ok((answer, limits))
    }

    async fn kotadb_status(&self, headers: &HeaderMap, query: &Query) -> Outcome {
        let Some(job_id) = id(query, "job_id")? else {
            return Err(invalid("job_id: must be given"));
        };
        let (job, limits) = repositories::indexing_job(self.api()?, headers, job_id).await?;
        Ok((json!({ "job": shapes::job(&job) }), limits))
    }

    async fn kotadb_overview(&self, headers: &HeaderMap, query: &Query) -> Outcome {
        let arguments = json!({
            "repository_id": id(query, "repository_id")?, "branch": query.text("branch"),
        });
        let (overview, limits) = self
            .api()?
            .call("code_overview", headers, &arguments)
            .await?;
        Ok((shapes::overview(overview), limits))
    }
}

fn id(query: &Query, name: &str) -> Result<Option<Uuid>, Failure> {
    let id = query.text(name).map(str::parse).transpose();
    id.map_err(|_| invalid(format!("{name}: must be a UUID")))
}

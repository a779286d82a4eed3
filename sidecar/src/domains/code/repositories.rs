//! Repositories and the jobs that index them, as the caller sees them.

use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::service::Answer;
use crate::api::{Api, NotGranted};

/// More than any plan but the unlimited one has.
const MAX_REPOSITORIES: &str = "1000";

/// A repository.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Repository {
    pub id: Uuid,
    pub full_name: String,
    pub clone_url: String,
    pub default_branch: String,
    pub project_id: Option<Uuid>,
    pub status: String,
    pub indexed_at: Option<String>,
}

/// A run of the indexer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IndexingJob {
    pub id: Uuid,
    pub repository_id: Uuid,
    pub branch: String,
    pub status: String,
    pub phase: Option<String>,
    pub files_done: u64,
    pub files_total: u64,
    pub commit_sha: Option<String>,
    pub error_code: Option<String>,
    pub error: Option<String>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub updated_at: String,
}

const COLUMNS: &str = "id,full_name,clone_url,default_branch,project_id,status,indexed_at";
const JOB_COLUMNS: &str = "id,repository_id,branch,status,phase,files_done,files_total,commit_sha,error_code,error,created_at,started_at,updated_at";

/// In which the caller works.
pub(super) async fn organization(api: &Api, headers: &HeaderMap) -> Result<Uuid, NotGranted> {
    let (org_id, _): (Option<Uuid>, _) = api.call("org_id", headers, &json!({})).await?;
    org_id.ok_or_else(|| {
        let body = json!({
            "code": "not_a_member", "message": "no organization is active", "details": null, "hint": "Send x-org-id.",
        });
        NotGranted::refused(StatusCode::FORBIDDEN, &body)
    })
}

/// Of the organization in which the caller works.
pub(super) async fn list(api: &Api, headers: &HeaderMap) -> Answer<Vec<Repository>> {
    let org_id = organization(api, headers).await?;
    let query = [
        ("select", COLUMNS),
        ("org_id", &format!("eq.{org_id}")),
        ("order", "created_at.desc,id.desc"),
        ("limit", MAX_REPOSITORIES),
    ];
    api.read("repositories", headers, &query).await
}

/// Adds a repository, or finds the one with the same URL. A branch is that of a new one.
pub(super) async fn add(
    api: &Api,
    headers: &HeaderMap,
    url: &str,
    branch: Option<&str>,
    project_id: Option<Uuid>,
) -> Answer<Repository> {
    let key = "org_id,project_id,clone_url";
    let mut row = json!({ "clone_url": url, "project_id": project_id });
    if let Some(branch) = branch {
        row["default_branch"] = json!(branch);
    }
    let added = api.insert::<Vec<Repository>>("repositories", headers, &row, key, false);
    let (mut rows, limits) = added.await?;
    if let Some(added) = rows.pop() {
        return Ok((added, limits));
    }
    let row = json!({ "clone_url": url, "project_id": project_id });
    let found = api.insert::<Vec<Repository>>("repositories", headers, &row, key, true);
    let (mut rows, limits) = found.await?;
    let found = rows.pop().ok_or_else(|| not_found("no such repository"))?;
    Ok((found, limits))
}

/// Queues the indexing of a branch; without one, of the branch that searches read.
pub(super) async fn index(
    api: &Api,
    headers: &HeaderMap,
    repository_id: Uuid,
) -> Answer<IndexingJob> {
    let arguments = json!({ "repository_id": repository_id });
    api.call("index_repository", headers, &arguments).await
}

pub(super) async fn indexing_job(api: &Api, headers: &HeaderMap, id: Uuid) -> Answer<IndexingJob> {
    let query = [("select", JOB_COLUMNS), ("id", &format!("eq.{id}"))];
    let read = api.read::<Vec<IndexingJob>>("indexing_jobs", headers, &query);
    let (mut rows, limits) = read.await?;
    let job = rows
        .pop()
        .ok_or_else(|| not_found("no such indexing job"))?;
    Ok((job, limits))
}

pub(super) fn not_found(message: &str) -> NotGranted {
    let body: Value =
        json!({ "code": "not_found", "message": message, "details": null, "hint": null });
    NotGranted::refused(StatusCode::NOT_FOUND, &body)
}

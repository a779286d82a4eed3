//! KotaDB's shapes, made of the API's answers.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    refusal::Body,
    repositories::{IndexingJob, Repository},
    search::Found,
};

/// `StandardApiError`.
pub(super) fn error(status: StatusCode, body: Body) -> Value {
    json!({
        "error_type": body.code, "message": body.message, "details": body.details,
        "suggestions": body.hint.into_iter().collect::<Vec<_>>(), "error_code": status.as_u16(),
    })
}

pub(super) fn code(found: Found, format: Option<&str>) -> Value {
    let mut paths: Vec<&Value> = found.matches.iter().map(|line| &line["path"]).collect();
    paths.dedup();
    match format {
        Some("simple") => json!({
            "results": paths, "total_count": found.matches.len(), "query_time_ms": 0,
        }),
        Some("cli") => {
            let lines = found.matches.iter().map(|line| {
                let (path, content) = (text(line, "path"), text(line, "content"));
                format!("{path}:{}: {content}\n", line["line"])
            });
            let total = found.matches.len();
            json!({ "output": format!("{}\nTotal matches: {total}", lines.collect::<String>()) })
        }
        _ => {
            let documents: Vec<_> = paths.iter().map(|path| json!({ "path": path })).collect();
            json!({
                "documents": documents, "total_count": found.matches.len(), "llm_response": null, "search_type": "RegularSearch",
                "matches": found.matches, "next": found.next,
            })
        }
    }
}

pub(super) fn symbols(rows: &[Value], format: Option<&str>) -> Value {
    let total = rows.len();
    match format {
        Some("simple") => {
            let names: Vec<_> = rows.iter().map(|symbol| &symbol["name"]).collect();
            json!({ "symbols": names, "total_count": total })
        }
        Some("cli") => {
            let lines = rows.iter().map(|symbol| {
                let (name, path, kind) = (
                    text(symbol, "name"),
                    text(symbol, "path"),
                    text(symbol, "kind"),
                );
                format!("{name} ({path}:{})\n   Type: {kind}\n", symbol["line"])
            });
            let lines: String = lines.collect();
            json!({ "output": format!("{lines}\nTotal symbols found: {total}/{total}") })
        }
        _ => {
            let matches: Vec<_> = rows.iter().map(with_start_line).collect();
            json!({ "matches": matches, "total_symbols": total })
        }
    }
}

/// The answers for callers and for impact have the same edges under other names.
pub(super) fn graph(edges: &[Value], symbol: &str, direction: &str) -> Value {
    let is_impact = direction == "impact";
    let sites: Vec<_> = edges
        .iter()
        .map(|edge| {
            let mut site = edge.clone();
            site["file_path"] = edge["source_path"].clone();
            site["line_number"] = edge["line"].clone();
            let (user, how) = match is_impact {
                true => ("affected_symbol", "impact_type"),
                false => ("caller", "context"),
            };
            site[user] = edge["source_symbol"].clone();
            site[how] = edge["kind"].clone();
            site
        })
        .collect();
    let lines = edges.iter().map(|edge| {
        let (user, path) = (text(edge, "source_symbol"), text(edge, "source_path"));
        format!(
            "- `{user}` {path}:{} ({})\n",
            edge["line"],
            text(edge, "resolution")
        )
    });
    let (heading, name) = match is_impact {
        true => ("Impact of", "impacts"),
        false => ("Callers of", "callers"),
    };
    let markdown = format!("# {heading} `{symbol}`\n\n{}", lines.collect::<String>());
    json!({ name: sites, "markdown": markdown, "total_count": edges.len() })
}

pub(super) fn file(rows: &[Value], path: &str) -> Value {
    let symbols: Vec<_> = rows.iter().map(with_start_line).collect();
    json!({ "file": path, "symbols": symbols })
}

pub(super) fn repository(row: &Repository) -> Value {
    json!({
        "id": row.id, "name": row.full_name, "path": row.full_name, "url": row.clone_url, "last_indexed": row.indexed_at,
        "branch": row.default_branch, "project_id": row.project_id, "status": row.status,
    })
}

pub(super) fn job(job: &IndexingJob) -> Value {
    let status = match job.status.as_str() {
        "succeeded" => "completed",
        other => other,
    };
    let progress = match (job.status.as_str(), job.files_total) {
        ("succeeded", _) => Some(1.0),
        (_, 0) => None,
        (_, total) => Some(job.files_done as f64 / total as f64),
    };
    json!({
        "id": job.id, "repo_path": job.repository_id, "status": status, "progress": progress, "started_at": job.started_at,
        "updated_at": job.updated_at, "error": job.error, "error_code": job.error_code, "branch": job.branch, "phase": job.phase,
        "commit": job.commit_sha,
    })
}

pub(super) fn overview(overview: Value) -> Value {
    let mut text = String::new();
    for repository in list(&overview, "repositories") {
        let (name, branch) = (
            self::text(repository, "name"),
            self::text(repository, "branch"),
        );
        text.push_str(&format!(
            "{name} ({branch}): {} files\n",
            repository["files"]
        ));
    }
    json!({ "overview_data": overview, "formatted_output": text })
}

/// A title is optional here and not there.
pub(super) fn document(row: &Value) -> Value {
    let mut document = row.clone();
    if document["title"].is_null() {
        document["title"] = document["path"].clone();
    }
    document["modified_at"] = document["updated_at"].clone();
    document
}

pub(super) fn documents(rows: &[Value]) -> Value {
    let documents: Vec<_> = rows.iter().map(document).collect();
    json!({ "total_count": documents.len(), "documents": documents })
}

/// KotaDB's names beside ours.
fn with_start_line(symbol: &Value) -> Value {
    let mut symbol = symbol.clone();
    symbol["file_path"] = symbol["path"].clone();
    symbol["start_line"] = symbol["line"].clone();
    symbol
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

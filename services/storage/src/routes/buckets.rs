//! Buckets: rows of `storage.buckets`, on which policies decide.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, Request, State},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::App;
use crate::{
    caller::Caller,
    error::{
        StorageError, access_denied, invalid_bucket, invalid_request, no_such_bucket, refusal,
    },
    names::{self, BucketName},
};

/// Objects that are deleted in one transaction.
const BATCH: i32 = 1_000;

#[derive(Deserialize)]
pub struct Page {
    limit: Option<u32>,
    offset: Option<u32>,
    #[serde(rename = "sortColumn")]
    column: Option<String>,
    #[serde(rename = "sortOrder")]
    order: Option<String>,
    search: Option<String>,
}

pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Value>, StorageError> {
    let arguments = json!({
        "limit": page.limit.map_or(1_000, |limit| limit.min(1_000)),
        "offset": page.offset.unwrap_or(0).min(i32::MAX as u32),
        "column": page.column,
        "order": page.order,
        "search": page.search,
    });
    let answer = app
        .database()
        .call(&caller, "storage.bucket.list", "bucket_list", arguments)
        .await?;
    Ok(Json(answer.answer))
}

pub async fn read(
    State(app): State<Arc<App>>,
    caller: Caller,
    BucketName(id): BucketName,
) -> Result<Json<Value>, StorageError> {
    let answer = app
        .database()
        .call(
            &caller,
            "storage.bucket.get",
            "bucket_read",
            json!({ "id": id }),
        )
        .await?;
    found(answer.answer).map(Json)
}

pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request,
) -> Result<Json<Value>, StorageError> {
    let (_, incoming) = app.incoming(request);
    let mut body: Map<String, Value> = incoming.json().await?;
    let name = body
        .get("name")
        .or_else(|| body.get("id"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let id = body.get("id").and_then(Value::as_str).unwrap_or(name);
    // One name of a bucket is enough: upstream's id and name are the same in practice.
    if id != name {
        return Err(invalid_bucket(id));
    }
    let id = names::bucket(id)?.to_owned();
    if body
        .get("type")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind != "STANDARD")
    {
        return Err(crate::error::not_served("a bucket of this type"));
    }
    let mut arguments = limits(&mut body)?;
    arguments.insert("id".into(), id.clone().into());
    app.database()
        .call(
            &caller,
            "storage.bucket.create",
            "bucket_create",
            arguments.into(),
        )
        .await?;
    Ok(Json(json!({ "name": id })))
}

pub async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    BucketName(id): BucketName,
    request: Request,
) -> Result<Json<Value>, StorageError> {
    let (_, incoming) = app.incoming(request);
    let mut body: Map<String, Value> = incoming.json().await?;
    let mut arguments = limits(&mut body)?;
    arguments.insert("id".into(), id.into());
    let answer = app
        .database()
        .call(
            &caller,
            "storage.bucket.update",
            "bucket_update",
            arguments.into(),
        )
        .await?;
    found(answer.answer)?;
    Ok(Json(json!({ "message": "Successfully updated" })))
}

pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    BucketName(id): BucketName,
) -> Result<Json<Value>, StorageError> {
    let deleted = app
        .database()
        .call(
            &caller,
            "storage.bucket.delete",
            "bucket_delete",
            json!({ "id": id }),
        )
        .await;
    let answer = deleted.map_err(|error| match &*error.code {
        // Its objects refer to it.
        "NoSuchBucket" => refusal(
            "ResourceNotEmpty",
            409,
            "ResourceNotEmpty",
            "The bucket you tried to delete is not empty",
        )
        .after_admission(),
        _ => error,
    })?;
    found(answer.answer)?;
    Ok(Json(json!({ "message": "Successfully deleted" })))
}

/// Upstream queues it. Here it is done when the answer comes.
pub async fn empty(
    State(app): State<Arc<App>>,
    caller: Caller,
    BucketName(id): BucketName,
) -> Result<Json<Value>, StorageError> {
    let database = app.database();
    let answer = database
        .call(&caller, "storage.bucket.empty", "nothing", json!({}))
        .await?;
    if answer.role.as_deref() != Some("service_role") {
        let mut denied = access_denied("Access denied: Invalid role").after_admission();
        denied.http = axum::http::StatusCode::FORBIDDEN;
        return Err(denied);
    }
    if !database.bucket_exists(&id).await? {
        return Err(no_such_bucket());
    }
    while database.empty(&id, BATCH).await? > 0 {}
    Ok(Json(
        json!({ "message": "Empty bucket has been queued. Completion may take up to an hour." }),
    ))
}

fn found(answer: Value) -> Result<Value, StorageError> {
    match answer {
        Value::Null => Err(no_such_bucket().after_admission()),
        row => Ok(row),
    }
}

/// What a body says about a bucket, as the columns take it.
fn limits(body: &mut Map<String, Value>) -> Result<Map<String, Value>, StorageError> {
    let mut limits = Map::new();
    if let Some(public) = body.remove("public") {
        if !public.is_boolean() && !public.is_null() {
            return Err(invalid_request("public is true or false"));
        }
        limits.insert("public".into(), public);
    }
    if let Some(size) = body.remove("file_size_limit") {
        let size = match &size {
            Value::Null => Value::Null,
            other => bytes(other)
                .ok_or_else(|| {
                    invalid_request("file_size_limit is a number of bytes, or a text such as 20MB")
                })?
                .into(),
        };
        limits.insert("file_size_limit".into(), size);
    }
    if let Some(types) = body.remove("allowed_mime_types") {
        let texts = types
            .as_array()
            .is_some_and(|all| all.len() <= 1_000 && all.iter().all(is_type));
        if !texts && !types.is_null() {
            return Err(refusal(
                "InvalidMimeType",
                415,
                "invalid_mime_type",
                "allowed_mime_types is a list such as image/*",
            ));
        }
        limits.insert("allowed_mime_types".into(), types);
    }
    Ok(limits)
}

fn is_type(value: &Value) -> bool {
    value.as_str().is_some_and(|text| {
        text.contains('/')
            && text.len() <= 255
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() || byte == b' ')
    })
}

/// A number, or a text with a unit of 1024.
fn bytes(value: &Value) -> Option<u64> {
    const MAX: u64 = 1 << 50;
    if let Some(number) = value.as_u64() {
        return (number <= MAX).then_some(number);
    }
    let text = value.as_str()?.trim().to_ascii_lowercase();
    let digits = text
        .find(|one: char| !one.is_ascii_digit() && one != '.')
        .unwrap_or(text.len());
    let unit: u64 = match text[digits..].trim() {
        "" | "b" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        "tb" => 1 << 40,
        _ => return None,
    };
    let number: f64 = text[..digits].parse().ok()?;
    let all = number * unit as f64;
    (all <= MAX as f64).then_some(all as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (value, size) in [
            (json!(5), Some(5)),
            (json!("20MB"), Some(20 << 20)),
            (json!("1.5 kb"), Some(1_536)),
            (json!("7"), Some(7)),
            (json!("x"), None),
            (json!("1e9"), None),
            (json!(-1), None),
            (json!("99999999tb"), None),
        ] {
            assert_eq!(bytes(&value), size, "{value}");
        }
    }
}

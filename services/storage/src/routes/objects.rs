//! Objects: upload, download, info, delete.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, Request, State},
    http::{HeaderMap, Method},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::App;
use crate::{
    body::Incoming,
    caller::Caller,
    database::{Database, Intent, Object, Owner, Tried, read},
    download::{self, Wanted},
    error::{StorageError, access_denied, internal, invalid_request, no_such_bucket, no_such_key},
    form,
    names::{BucketName, ObjectName},
};

/// Names of one request.
const MAX_NAMES: usize = 1_000;
/// How often a row is read again whose bytes were replaced meanwhile.
const RETRIES: usize = 5;

/// `?download`, with or without a name.
#[derive(Default, Deserialize)]
pub struct Download {
    /// The name of the file; empty for the object's own.
    pub download: Option<String>,
    /// The token of a signed URL.
    pub token: Option<String>,
}

/// The answer to a download whose row `find` reads. A row whose bytes have gone was replaced: the next one has others.
pub async fn answer<F: Future<Output = Result<Option<Object>, StorageError>>>(
    app: &App,
    method: &Method,
    headers: &HeaderMap,
    query: &Download,
    find: impl Fn() -> F,
) -> Result<Response, StorageError> {
    let wanted = Wanted {
        method,
        headers,
        download: query.download.as_deref(),
    };
    for _ in 0..RETRIES {
        let object = find().await?.ok_or_else(no_such_key)?;
        if let Some(answer) = download::answer(&app.uploads, &object, &wanted).await? {
            return Ok(answer);
        }
    }
    Err(internal(
        "an object has no bytes: ./kijko storage check says which",
    ))
}

pub async fn download(
    State(app): State<Arc<App>>,
    target: ObjectName,
    caller: Caller,
    Query(query): Query<Download>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, StorageError> {
    let find = || {
        app.database()
            .object(&caller, "storage.object.get_authenticated", &target)
    };
    answer(&app, &method, &headers, &query, find)
        .await
        .map_err(StorageError::after_admission)
}

pub async fn download_public(
    State(app): State<Arc<App>>,
    target: ObjectName,
    Query(query): Query<Download>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, StorageError> {
    if !app.database().is_public(&target.bucket).await? {
        return Err(no_such_bucket());
    }
    answer(&app, &method, &headers, &query, || {
        app.database().object_unchecked(&target)
    })
    .await
}

pub async fn info(
    State(app): State<Arc<App>>,
    target: ObjectName,
    caller: Caller,
) -> Result<Json<Value>, StorageError> {
    let object = app
        .database()
        .object(&caller, "storage.object.get_authenticated_info", &target)
        .await?;
    described(object).map_err(StorageError::after_admission)
}

pub async fn info_public(
    State(app): State<Arc<App>>,
    target: ObjectName,
) -> Result<Json<Value>, StorageError> {
    if !app.database().is_public(&target.bucket).await? {
        return Err(no_such_bucket());
    }
    described(app.database().object_unchecked(&target).await?)
}

fn described(object: Option<Object>) -> Result<Json<Value>, StorageError> {
    let object = object.ok_or_else(no_such_key)?;
    Ok(Json(json!({
        "id": object.id,
        "name": object.name,
        "version": object.version,
        "bucket_id": object.bucket_id,
        "size": object.size(),
        "content_type": object.metadata("mimetype"),
        "cache_control": object.metadata("cacheControl"),
        "etag": object.metadata("eTag"),
        "metadata": object.user_metadata,
        "last_modified": object.metadata("lastModified"),
        "created_at": object.created_at,
    })))
}

pub async fn upload(
    State(app): State<Arc<App>>,
    target: ObjectName,
    caller: Caller,
    method: Method,
    request: Request,
) -> Result<Response, StorageError> {
    let (headers, incoming) = app.incoming(request);
    let upsert = method == Method::PUT || is_upsert(&headers);
    let operation = if method == Method::PUT {
        "storage.object.upload_update"
    } else {
        "storage.object.upload"
    };
    let sent = form::read(&headers, incoming, app.uploads.config.idle).await?;
    let arguments = json!({
        "bucket_id": target.bucket,
        "name": target.name,
        "upsert": upsert,
        "metadata": { "mimetype": sent.kind, "contentLength": sent.at_least },
        "user_metadata": sent.user_metadata,
    });
    let tried = Tried {
        caller,
        operation,
        action: "object_write",
        arguments,
    };
    let probed = app
        .database()
        .probe(
            &tried.caller,
            operation,
            tried.action,
            tried.arguments.clone(),
        )
        .await;
    let probed = match probed {
        Ok(answer) => answer.answer,
        Err(error) => return Err(explained(app.database(), error, &target, upsert).await),
    };
    let replacing = Replacing {
        upsert,
        only: Some(json!({ "id": probed["replaces"] })),
        tried: Some(tried),
    };
    let owner = read(probed)?;
    let object = store(&app, target.clone(), owner, replacing, sent).await?;
    Ok(Json(json!({ "Id": object.id, "Key": target.full() })).into_response())
}

/// `x-upsert: true`.
pub fn is_upsert(headers: &HeaderMap) -> bool {
    headers
        .get("x-upsert")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// A refusal with its reason: there is no such bucket, or which policies are needed.
pub async fn explained(
    database: &Database,
    error: StorageError,
    target: &ObjectName,
    upsert: bool,
) -> StorageError {
    if error.code != "AccessDenied" || error.message == "the key only reads" || !error.admitted {
        return error;
    }
    match database.bucket_exists(&target.bucket).await {
        Ok(false) => no_such_bucket().after_admission(),
        _ if upsert => error.with_hint(
            "replacing an object needs policies for INSERT, SELECT and UPDATE on storage.objects",
        ),
        _ => error.with_hint("storing an object needs a policy for INSERT on storage.objects"),
    }
}

/// Whether an upload may replace an object.
pub struct Replacing {
    /// Whether it may replace any.
    pub upsert: bool,
    /// Which one: see [`Intent::may_replace`].
    pub only: Option<Value>,
    /// See [`Intent::tried`].
    pub tried: Option<Tried>,
}

/// From an intent to a row.
pub async fn store(
    app: &App,
    target: ObjectName,
    owner: Owner,
    replacing: Replacing,
    sent: form::Sent,
) -> Result<Object, StorageError> {
    let intent = Intent {
        version: Uuid::new_v4(),
        target,
        owner,
        upsert: replacing.upsert,
        may_replace: replacing.only,
        tried: replacing.tried,
        metadata: json!({ "cacheControl": sent.cache_control }),
        user_metadata: sent.user_metadata,
        bytes: sent.at_least,
    };
    let upload = app.uploads.begin(&intent, sent.kind.as_deref()).await?;
    app.uploads
        .store(upload, sent.kind.as_deref(), sent.bytes)
        .await
}

#[derive(Deserialize)]
struct Prefixes {
    prefixes: Vec<String>,
}

/// Those that the caller may not delete are not in the answer, as upstream.
pub async fn delete_many(
    State(app): State<Arc<App>>,
    BucketName(bucket): BucketName,
    caller: Caller,
    request: Request,
) -> Result<Json<Value>, StorageError> {
    let (_, incoming): (_, Incoming) = app.incoming(request);
    let Prefixes { prefixes } = incoming.json().await?;
    if prefixes.len() > MAX_NAMES || prefixes.iter().any(|name| name.contains('\0')) {
        return Err(invalid_request(format!(
            "prefixes are up to {MAX_NAMES} paths"
        )));
    }
    let arguments = json!({ "bucket_id": bucket, "names": prefixes });
    let answer = app
        .database()
        .call(
            &caller,
            "storage.object.delete_many",
            "object_delete",
            arguments,
        )
        .await?;
    Ok(Json(answer.answer))
}

pub async fn delete(
    State(app): State<Arc<App>>,
    target: ObjectName,
    caller: Caller,
) -> Result<Json<Value>, StorageError> {
    let arguments = json!({ "bucket_id": target.bucket, "name": target.name });
    let answer = app
        .database()
        .call(
            &caller,
            "storage.object.delete",
            "object_delete_one",
            arguments,
        )
        .await?;
    match answer.answer.as_bool() {
        Some(true) => Ok(Json(json!({ "message": "Successfully deleted" }))),
        Some(false) => Err(access_denied("Access denied").after_admission()),
        None => Err(no_such_key().after_admission()),
    }
}

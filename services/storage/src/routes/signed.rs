//! Signed URLs. Rights are checked at signing; any holder may use one until it expires.

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

use super::{
    App,
    objects::{self, Download, Replacing},
};
use crate::{
    caller::Caller,
    database::Owner,
    error::{StorageError, invalid_request, no_such_key, not_served, refusal},
    form,
    names::{BucketName, ObjectName},
    token::{Claims, Scope, now},
};

/// A URL for an upload holds for two hours, as upstream.
const UPLOAD_SECONDS: u64 = 7_200;
const MAX_NAMES: usize = 1_000;
/// A hundred years.
const MAX_SECONDS: u64 = 3_155_760_000;

#[derive(Deserialize)]
struct Wish {
    #[serde(rename = "expiresIn")]
    expires_in: Option<u64>,
    transform: Option<Value>,
    #[serde(default)]
    paths: Vec<String>,
}

impl Wish {
    fn seconds(&self) -> Result<u64, StorageError> {
        if self
            .transform
            .as_ref()
            .is_some_and(|transform| !transform.is_null())
        {
            return Err(not_served("image transformation"));
        }
        let seconds = self
            .expires_in
            .filter(|seconds| (1..=MAX_SECONDS).contains(seconds));
        seconds.ok_or_else(|| invalid_request("expiresIn is a number of seconds"))
    }
}

fn signed_url(app: &App, target: &ObjectName, seconds: u64) -> String {
    let claims = Claims {
        url: target.full(),
        scope: Scope::Download,
        owner: None,
        signer: None,
        replaces: None,
        upsert: false,
        iat: now(),
        exp: now() + seconds,
    };
    format!(
        "/object/sign/{}?token={}",
        encoded(target),
        app.signer.sign(&claims)
    )
}

/// Clients encode the rest, as `encodeURI` does, which leaves a question mark.
fn encoded(target: &ObjectName) -> String {
    target.full().replace('?', "%3F")
}

pub async fn sign(
    State(app): State<Arc<App>>,
    target: ObjectName,
    caller: Caller,
    request: Request,
) -> Result<Json<Value>, StorageError> {
    let (_, incoming) = app.incoming(request);
    let seconds = incoming.json::<Wish>().await?.seconds()?;
    let object = app
        .database()
        .object(&caller, "storage.object.sign", &target)
        .await?;
    object.ok_or_else(|| no_such_key().after_admission())?;
    Ok(Json(
        json!({ "signedURL": signed_url(&app, &target, seconds) }),
    ))
}

pub async fn sign_many(
    State(app): State<Arc<App>>,
    BucketName(bucket): BucketName,
    caller: Caller,
    request: Request,
) -> Result<Json<Value>, StorageError> {
    let (_, incoming) = app.incoming(request);
    let wish: Wish = incoming.json().await?;
    let seconds = wish.seconds()?;
    if wish.paths.len() > MAX_NAMES || wish.paths.iter().any(|path| path.contains('\0')) {
        return Err(invalid_request(format!(
            "paths are up to {MAX_NAMES} paths"
        )));
    }
    let arguments = json!({ "bucket_id": bucket, "names": wish.paths });
    let answer = app
        .database()
        .call(
            &caller,
            "storage.object.sign_many",
            "object_read_many",
            arguments,
        )
        .await?;
    let seen: Vec<String> = crate::database::read(answer.answer)?;
    let rows = wish.paths.iter().map(|path| match ObjectName::new(&bucket, path) {
        Ok(target) if seen.contains(path) => json!({ "error": null, "path": path, "signedURL": signed_url(&app, &target, seconds) }),
        _ => json!({
            "error": "Either the object does not exist or you do not have access to it", "path": path, "signedURL": null,
        }),
    });
    Ok(Json(rows.collect()))
}

pub async fn download(
    State(app): State<Arc<App>>,
    target: ObjectName,
    Query(query): Query<Download>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, StorageError> {
    let token = query.token.as_deref().ok_or_else(missing_token)?;
    app.signer.verify(token, Scope::Download, &target.full())?;
    objects::answer(&app, &method, &headers, &query, || {
        app.database().object_unchecked(&target)
    })
    .await
}

/// What the database says of who signs an upload.
#[derive(Deserialize)]
struct Signed {
    owner_id: Option<String>,
    signer: Option<Value>,
    replaces: Option<Uuid>,
}

pub async fn sign_upload(
    State(app): State<Arc<App>>,
    target: ObjectName,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Json<Value>, StorageError> {
    let upsert = objects::is_upsert(&headers);
    let arguments = json!({ "bucket_id": target.bucket, "name": target.name, "upsert": upsert, "metadata": null, "user_metadata": null });
    let probed = app
        .database()
        .probe(
            &caller,
            "storage.object.sign_upload_url",
            "object_sign_upload",
            arguments,
        )
        .await;
    let signed: Signed = match probed {
        Ok(answer) => crate::database::read(answer.answer)?,
        Err(error) => return Err(objects::explained(app.database(), error, &target, upsert).await),
    };
    let claims = Claims {
        url: target.full(),
        scope: Scope::Upload,
        owner: signed.owner_id,
        signer: signed.signer,
        replaces: signed.replaces,
        upsert,
        iat: now(),
        exp: now() + UPLOAD_SECONDS,
    };
    let token = app.signer.sign(&claims);
    let url = format!("/object/upload/sign/{}?token={token}", encoded(&target));
    Ok(Json(json!({ "url": url, "token": token })))
}

pub async fn upload(
    State(app): State<Arc<App>>,
    target: ObjectName,
    Query(query): Query<Download>,
    request: Request,
) -> Result<Response, StorageError> {
    let holder = Caller::holder(request.method(), request.uri(), request.headers());
    let (headers, incoming) = app.incoming(request);
    let token = query.token.as_deref().ok_or_else(missing_token)?;
    let claims = app.signer.verify(token, Scope::Upload, &target.full())?;
    let request = holder.request("storage.object.sign_upload_url");
    let signer = claims.signer.as_ref();
    let started_by = app.database().admit_signer(&request, signer).await?;
    let sent = form::read(&headers, incoming, app.uploads.config.idle).await?;
    let replacing = Replacing {
        upsert: claims.upsert,
        only: Some(json!({ "id": claims.replaces, "owner_id": claims.owner })),
        tried: None,
    };
    let owner = Owner {
        owner: claims.owner.as_deref().and_then(|owner| owner.parse().ok()),
        started_by,
        owner_id: claims.owner,
    };
    let object = objects::store(&app, target.clone(), owner, replacing, sent).await?;
    Ok(Json(json!({ "Id": object.id, "Key": target.full() })).into_response())
}

fn missing_token() -> StorageError {
    refusal(
        "InvalidJWT",
        400,
        "Error",
        "querystring must have required property 'token'",
    )
}

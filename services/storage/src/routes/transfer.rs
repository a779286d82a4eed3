//! Move and copy.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{App, objects};
use crate::{
    caller::Caller,
    database::{Intent, Object, Owner, Tried, read},
    error::{StorageError, internal, no_such_key},
    names::ObjectName,
};

/// How often a source is read again that was replaced meanwhile.
const RETRIES: usize = 5;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transfer {
    bucket_id: String,
    source_key: String,
    destination_key: String,
    destination_bucket: Option<String>,
    copy_metadata: Option<bool>,
    metadata: Option<Map>,
}

type Map = serde_json::Map<String, Value>;

impl Transfer {
    fn names(&self) -> Result<(ObjectName, ObjectName), StorageError> {
        let to_bucket = self
            .destination_bucket
            .as_deref()
            .unwrap_or(&self.bucket_id);
        Ok((
            ObjectName::new(&self.bucket_id, &self.source_key)?,
            ObjectName::new(to_bucket, &self.destination_key)?,
        ))
    }
}

fn arguments(from: &ObjectName, to: &ObjectName, upsert: bool) -> Value {
    json!({
        "bucket_id": from.bucket, "name": from.name, "to_bucket_id": to.bucket, "to_name": to.name, "upsert": upsert,
    })
}

/// The bytes stay where they are, so readers are not interrupted.
pub async fn rename(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request,
) -> Result<Json<Value>, StorageError> {
    let (_, incoming) = app.incoming(request);
    let (from, to) = incoming.json::<Transfer>().await?.names()?;
    let database = app.database();
    let probed = database
        .probe(
            &caller,
            "storage.object.move",
            "object_move",
            arguments(&from, &to, false),
        )
        .await;
    let probed = match probed {
        Ok(answer) => answer.answer,
        Err(error) => return Err(explained(&app, error, &to).await),
    };
    let owner: Option<Owner> = read(probed)?;
    let owner = owner.ok_or_else(|| no_such_key().after_admission())?;
    let moved = database.rename(&from, &to, &owner).await?;
    let moved = moved.ok_or_else(|| no_such_key().after_admission())?;
    Ok(Json(
        json!({ "message": "Successfully moved", "Id": moved.id, "Key": to.full() }),
    ))
}

async fn explained(app: &App, error: StorageError, to: &ObjectName) -> StorageError {
    let mut error = objects::explained(app.database(), error, to, false).await;
    if error.code == "AccessDenied" {
        error.hint = Some("moving an object needs policies for SELECT and UPDATE on storage.objects, of both names".into());
    }
    error
}

pub async fn copy(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request,
) -> Result<Json<Value>, StorageError> {
    let (headers, incoming) = app.incoming(request);
    let transfer: Transfer = incoming.json().await?;
    let (from, to) = transfer.names()?;
    let upsert = objects::is_upsert(&headers);
    let tried = Tried {
        caller,
        operation: "storage.object.copy",
        action: "object_copy",
        arguments: arguments(&from, &to, upsert),
    };
    for _ in 0..RETRIES {
        let probed = app
            .database()
            .probe(
                &tried.caller,
                tried.operation,
                tried.action,
                tried.arguments.clone(),
            )
            .await;
        let probed = match probed {
            Ok(answer) => answer.answer,
            Err(error) => return Err(objects::explained(app.database(), error, &to, upsert).await),
        };
        if probed.is_null() {
            return Err(no_such_key().after_admission());
        }
        let source: Object = read(probed["source"].clone())?;
        let intent = Intent {
            version: Uuid::new_v4(),
            target: to.clone(),
            owner: read(probed.clone())?,
            upsert,
            may_replace: Some(json!({ "id": probed["replaces"] })),
            tried: Some(tried.clone()),
            metadata: json!({ "cacheControl": source.metadata("cacheControl").unwrap_or("no-cache") }),
            user_metadata: match transfer.copy_metadata {
                Some(false) => transfer.metadata.clone().map(Value::Object),
                _ => source.user_metadata.clone(),
            },
            bytes: Some(source.size()),
        };
        let upload = app
            .uploads
            .begin(&intent, source.metadata("mimetype"))
            .await?;
        if let Some(object) = app.uploads.copy(upload, &source).await? {
            return Ok(Json(answer(&object, &to)));
        }
    }
    Err(internal(
        "an object has no bytes: ./kijko storage check says which",
    ))
}

fn answer(object: &Object, to: &ObjectName) -> Value {
    json!({
        "Id": object.id, "Key": to.full(), "id": object.id, "name": object.name, "bucket_id": object.bucket_id,
        "version": object.version, "metadata": object.metadata, "user_metadata": object.user_metadata,
        "created_at": object.created_at, "updated_at": object.updated_at,
    })
}

//! Objects that the sidecar reads or writes. It holds no key of this service: the database gives it a sealed ticket for one object,
//! and opens it here.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, Method},
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    App,
    objects::{self, Download, Replacing},
};
use crate::{
    error::{StorageError, no_such_key},
    form,
    names::ObjectName,
};

/// The header of an upload's ticket; its body is the object.
const TICKET: &str = "x-kijko-ticket";

#[derive(Deserialize)]
struct Presented {
    ticket: String,
}

pub async fn open(State(app): State<Arc<App>>, request: Request) -> Result<Response, StorageError> {
    let (_, incoming) = app.incoming(request);
    let Presented { ticket } = incoming.json().await?;
    let query = Download::default();
    objects::answer(&app, &Method::GET, &HeaderMap::new(), &query, || {
        app.database().open_ticket(&ticket)
    })
    .await
}

/// The same ticket twice writes the same object: the later bytes replace the former ones.
pub async fn upload(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<Value>, StorageError> {
    let (headers, incoming) = app.incoming(request);
    let ticket = headers.get(TICKET).and_then(|value| value.to_str().ok());
    let opened = app
        .database()
        .open_upload_ticket(ticket.unwrap_or_default());
    let writable = opened.await?.ok_or_else(no_such_key)?;
    let target = ObjectName::new(&writable.bucket_id, &writable.name)?;
    let sent = form::read(&headers, incoming, app.uploads.config.idle).await?;
    let replacing = Replacing {
        upsert: true,
        only: None,
        tried: None,
    };
    let object = objects::store(&app, target, writable.owner, replacing, sent).await?;
    Ok(Json(json!({ "Id": object.id })))
}

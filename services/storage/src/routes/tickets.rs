//! Objects for the sidecar, which holds no key of this service: the database gives it a sealed ticket for one object, and opens it
//! here.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method},
    response::Response,
};
use serde::Deserialize;

use super::{
    App,
    objects::{self, Download},
};
use crate::error::StorageError;

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

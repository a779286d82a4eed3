//! `GET /api/v1/privacy/exports?ticket=…`: an export, by a link of `open_export()`. The database says, of the caller's own session,
//! whether the link holds; then the bytes are passed on as they come.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use kijko_core::{error::Error, outbound::Answer};
use serde_json::json;
use uuid::Uuid;

use super::{bucket::Bucket, store::Store};
use crate::{
    api::{Api, NotGranted},
    query::Query,
};

/// What a download needs.
#[derive(Debug, Clone)]
pub(super) struct Downloads {
    /// None: not configured.
    pub api: Option<Api>,
    pub store: Store,
    /// None: not configured.
    pub bucket: Option<Bucket>,
}

pub(super) fn routes(downloads: Downloads) -> Router {
    Router::new()
        .route("/api/v1/privacy/exports", get(download).head(refuse_head))
        .with_state(downloads)
}

/// A link works once, and a `HEAD`, as scanners of links send, must not use it.
async fn refuse_head() -> Response {
    let mut response = StatusCode::METHOD_NOT_ALLOWED.into_response();
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

async fn download(
    State(downloads): State<Downloads>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, NotGranted> {
    let api = Api::configured(downloads.api.as_ref())?;
    let bucket = downloads.bucket.as_ref();
    let bucket = bucket.ok_or(Error::NotConfigured("KIJKO_STORAGE_URL"))?;
    let token = query
        .text("ticket")
        .ok_or_else(|| Error::BadRequest("ticket: must be given".to_owned()))?;
    // A link works once, so what follows must not be asked for in vain.
    let arguments = json!({ "token": token });
    let claimed = api.call::<Uuid>("claim_export", &headers, &arguments);
    let (link, _) = claimed.await?;
    let link = downloads
        .store
        .read_export(link)
        .await
        .map_err(Error::from)?;
    let link = link.ok_or(Error::NotFound)?;
    let answer = bucket.read(&link.ticket).await.map_err(unavailable)?;
    let answer = answer.ok_or(Error::NotFound)?;
    let mut response = Response::new(body(answer));
    let named = format!("attachment; filename=\"export-{}\"", link.name);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/zip"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(link.bytes));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(named) = HeaderValue::from_str(&named) {
        headers.insert(header::CONTENT_DISPOSITION, named);
    }
    Ok(response)
}

fn unavailable(failure: kijko_core::jobs::Failure) -> Error {
    Error::Unavailable {
        cause: failure.message,
    }
}

fn body(answer: Answer) -> Body {
    Body::from_stream(stream::try_unfold(answer, |mut answer| async move {
        let part: Option<Bytes> = answer.next().await.map_err(std::io::Error::other)?;
        Ok::<_, std::io::Error>(part.map(|part| (part, answer)))
    }))
}

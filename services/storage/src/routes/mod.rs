//! The API, without the prefix `/storage/v1` that the proxy takes off.

mod buckets;
mod lists;
mod objects;
mod signed;
mod tickets;
mod transfer;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::HeaderMap,
    response::IntoResponse,
    routing::{any, get, post},
};

use crate::{
    body::Incoming, database::Database, error::not_served, token::Signer, upload::Uploads,
};

/// What handlers share.
pub struct App {
    /// The database, the bytes and limits.
    pub uploads: Arc<Uploads>,
    /// Signed URLs.
    pub signer: Signer,
}

impl App {
    fn database(&self) -> &Database {
        &self.uploads.database
    }

    fn incoming(&self, request: Request) -> (HeaderMap, Incoming) {
        let (parts, body) = request.into_parts();
        let incoming = Incoming::new(body, &parts.headers, self.uploads.config.idle);
        (parts.headers, incoming)
    }
}

/// The routes.
pub fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/bucket", get(buckets::list).post(buckets::create))
        .route(
            "/bucket/{bucket}",
            get(buckets::read)
                .put(buckets::update)
                .delete(buckets::delete),
        )
        .route("/bucket/{bucket}/empty", post(buckets::empty))
        .route("/object/list/{bucket}", post(lists::list))
        .route("/object/list-v2/{bucket}", post(lists::list_v2))
        .route("/object/move", post(transfer::rename))
        .route("/object/copy", post(transfer::copy))
        .route("/object/sign/{bucket}", post(signed::sign_many))
        .route(
            "/object/sign/{bucket}/{*path}",
            post(signed::sign).get(signed::download),
        )
        .route(
            "/object/upload/sign/{bucket}/{*path}",
            post(signed::sign_upload).put(signed::upload),
        )
        .route(
            "/object/public/{bucket}/{*path}",
            get(objects::download_public),
        )
        .route(
            "/object/authenticated/{bucket}/{*path}",
            get(objects::download),
        )
        .route(
            "/object/info/public/{bucket}/{*path}",
            get(objects::info_public),
        )
        .route(
            "/object/info/authenticated/{bucket}/{*path}",
            get(objects::info),
        )
        .route("/object/info/{bucket}/{*path}", get(objects::info))
        .route(
            "/object/{bucket}",
            axum::routing::delete(objects::delete_many),
        )
        .route(
            "/object/{bucket}/{*path}",
            get(objects::download)
                .post(objects::upload)
                .put(objects::upload)
                .delete(objects::delete),
        )
        .route("/ticket", post(tickets::open))
        .route("/ticket/upload", post(tickets::upload))
        .route(
            "/render/image/{*path}",
            any(async || not_served("image transformation").into_response()),
        )
        .route(
            "/upload/resumable",
            any(async || not_served("resumable upload").into_response()),
        )
        .route(
            "/upload/resumable/{*path}",
            any(async || not_served("resumable upload").into_response()),
        )
        .route(
            "/bucket/{bucket}/lifecycle",
            any(async || not_served("the lifecycle of a bucket").into_response()),
        )
        .route(
            "/cdn/{*path}",
            any(async || not_served("a CDN").into_response()),
        )
        .route(
            "/s3/{*path}",
            any(async || not_served("the S3 protocol").into_response()),
        )
        .with_state(app)
}

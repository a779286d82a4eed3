//! Objects of the storage service, by tickets of the database. The address is the operator's.

use std::{fs::File, io::Read, time::Duration};

use axum::body::Bytes;
use futures_util::stream;
use kijko_core::{
    jobs::Failure,
    outbound::{Answer, Client, Limits, OutboundError, StatusCode, Url},
};
use reqwest::{Body, header};
use serde_json::json;

use crate::service::SERVICE;

/// An archive may be large.
const LIMITS: Limits = Limits {
    connect_timeout: Duration::from_secs(5),
    total_timeout: Duration::from_secs(3_600),
    idle_timeout: Duration::from_secs(30),
    max_bytes: usize::MAX,
};
const PART: usize = 256 << 10;

/// The storage service.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    client: Client,
    read: Url,
    write: Url,
}

impl Bucket {
    pub(super) fn new(url: Url) -> Result<Self, OutboundError> {
        let below = |path: &str| {
            let mut at = url.clone();
            at.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
            at
        };
        Ok(Self {
            client: Client::new(SERVICE, LIMITS)?,
            read: below("ticket"),
            write: below("ticket/upload"),
        })
    }

    /// The bytes of an object; `None` when it is gone.
    pub(super) async fn read(&self, ticket: &str) -> Result<Option<Answer>, Failure> {
        let request = self.client.post(self.read.clone());
        let request = request.json(&json!({ "ticket": ticket }));
        let answer = self.client.send(request).await.map_err(unavailable)?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer)),
            status if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
                Ok(None)
            }
            status => Err(unavailable(status)),
        }
    }

    /// Stores an archive.
    pub(super) async fn store(&self, ticket: &str, file: File, bytes: u64) -> Result<(), Failure> {
        let request = self.client.post(self.write.clone());
        let request = request
            .header("x-kijko-ticket", ticket)
            .header(header::CONTENT_TYPE, "application/zip")
            .header(header::CONTENT_LENGTH, bytes)
            .body(Body::wrap_stream(parts(file)));
        let answer = self.client.send(request).await.map_err(unavailable)?;
        match answer.status() {
            StatusCode::OK => Ok(()),
            StatusCode::PAYLOAD_TOO_LARGE => Err(Failure::permanent(
                "export_too_large",
                "the archive is larger than the storage service takes",
            )),
            status => Err(unavailable(status)),
        }
    }
}

/// The log has the cause; it is nothing that who asked could mend.
pub(super) fn unavailable(cause: impl std::fmt::Display) -> Failure {
    tracing::warn!(%cause, "an export cannot be stored or read");
    Failure::transient("storage_unavailable", "the storage service cannot be asked")
}

fn parts(file: File) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    stream::try_unfold(file, |mut file| async move {
        let read = tokio::task::spawn_blocking(move || {
            let mut part = vec![0; PART];
            let n = file.read(&mut part)?;
            part.truncate(n);
            Ok::<_, std::io::Error>((part, file))
        });
        let (part, file) = read.await.map_err(std::io::Error::other)??;
        Ok((!part.is_empty()).then(|| (Bytes::from(part), file)))
    })
}

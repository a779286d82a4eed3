//! The body of a request, as it comes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderMap, header},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde::de::DeserializeOwned;

use crate::error::{StorageError, invalid_request, too_large};

/// So much of a refused body is read and thrown away: a proxy that is still sending takes an answer that ends the connection for a
/// broken upstream. Files that are a little too large for their bucket are common, and get their answer.
const DRAINED_BYTES: usize = 256 << 20;
/// A body of JSON.
const MAX_JSON: usize = 1 << 20;

/// A body, which can still be drained after somebody began to read it.
#[derive(Debug, Clone)]
pub struct Incoming {
    parts: Arc<Mutex<BodyDataStream>>,
    /// Bytes that the sender has announced.
    pub length: Option<u64>,
    idle: Duration,
    waits: bool,
}

impl Incoming {
    /// A body that may be silent for so long.
    pub fn new(body: Body, headers: &HeaderMap, idle: Duration) -> Self {
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok());
        Self {
            parts: Arc::new(Mutex::new(body.into_data_stream())),
            length: length.and_then(|text| text.parse().ok()),
            idle,
            waits: headers.contains_key(header::EXPECT),
        }
    }

    /// Its parts.
    pub fn stream(&self) -> impl Stream<Item = Result<Bytes, axum::Error>> + Send + use<> {
        let parts = self.parts.clone();
        stream::poll_fn(move |context| {
            let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts.poll_next_unpin(context)
        })
    }

    /// Reads a refused body to its end, or long enough. A sender that waits to be asked for it sends none.
    pub async fn drain(&self) {
        if self.waits {
            return;
        }
        let mut parts = Box::pin(self.stream());
        let mut seen = 0;
        while let Ok(Some(Ok(part))) = tokio::time::timeout(self.idle, parts.next()).await {
            seen += part.len();
            if seen > DRAINED_BYTES {
                return;
            }
        }
    }

    /// A body of JSON. An empty one is an empty object.
    pub async fn json<T: DeserializeOwned>(&self) -> Result<T, StorageError> {
        let mut parts = Box::pin(self.stream());
        let mut kept = Vec::new();
        while let Some(part) = next(&mut parts, self.idle).await? {
            kept.extend_from_slice(&part);
            if kept.len() > MAX_JSON {
                self.drain().await;
                return Err(too_large());
            }
        }
        let text: &[u8] = if kept.is_empty() { b"{}" } else { &kept };
        serde_json::from_slice(text).map_err(|error| {
            invalid_request(format!("the body is not what this path takes: {error}"))
        })
    }
}

/// The next part; None at the end.
pub async fn next<E>(
    parts: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
    idle: Duration,
) -> Result<Option<Bytes>, StorageError> {
    match tokio::time::timeout(idle, parts.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(part))) => Ok(Some(part)),
        Ok(Some(Err(_))) => Err(invalid_request("the body cannot be read")),
        Err(_) => Err(invalid_request("the body was silent for too long")),
    }
}

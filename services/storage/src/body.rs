//! The body of a request, as it comes.

use std::time::Duration;

use axum::{
    body::{Body, BodyDataStream},
    http::{HeaderMap, header},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;

use crate::error::{StorageError, invalid_request, too_large};

/// A body of JSON.
const MAX_JSON: usize = 1 << 20;

/// A body that has not been read yet.
#[derive(Debug)]
pub struct Incoming {
    parts: BodyDataStream,
    /// Bytes that the sender has announced.
    pub length: Option<u64>,
    idle: Duration,
}

impl Incoming {
    /// A body that may be silent for so long.
    pub fn new(body: Body, headers: &HeaderMap, idle: Duration) -> Self {
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok());
        Self {
            parts: body.into_data_stream(),
            length: length.and_then(|text| text.parse().ok()),
            idle,
        }
    }

    /// Its parts.
    pub fn into_stream(self) -> BodyDataStream {
        self.parts
    }

    /// A body of JSON. An empty one is an empty object.
    pub async fn json<T: DeserializeOwned>(mut self) -> Result<T, StorageError> {
        let mut kept = Vec::new();
        while let Some(part) = next(&mut self.parts, self.idle).await? {
            kept.extend_from_slice(&part);
            if kept.len() > MAX_JSON {
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

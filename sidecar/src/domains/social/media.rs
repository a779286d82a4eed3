//! The images of posts in storage, and jobs of the kind `social_measurement`: what an image is, before somebody schedules it.

use kijko_core::{
    db::DbError,
    jobs::{Failure, Handler, HandlerError, Job, JobClass, JobKind, Queue},
    outbound::{OutboundError, Url},
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{http::Http, size, store::Store};

/// The bucket of images.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pub http: Http,
    /// The storage service. None: not configured.
    pub storage: Option<Url>,
}

/// Why an image cannot be read; for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("it has no bytes")]
    Missing,
    #[error("it is too large")]
    TooLarge,
    #[error("{0}")]
    Unavailable(String),
}

impl Bucket {
    /// The bytes of an image. The database has checked its path.
    pub(super) async fn read(&self, path: &str) -> Result<Vec<u8>, Unread> {
        let Some(storage) = &self.storage else {
            let message = "KIJKO_STORAGE_URL is not set".to_owned();
            return Err(Unread::Unavailable(message));
        };
        let path = format!("/object/public/social-media/{path}");
        let request = self.http.request(Method::GET, storage, &path);
        match self.http.send(request).await {
            Ok(reply) if reply.status == 200 => Ok(reply.bytes),
            Ok(reply) if matches!(reply.status, 400 | 404) => Err(Unread::Missing),
            Ok(reply) => Err(Unread::Unavailable(format!("it answered {}", reply.status))),
            Err(OutboundError::TooLarge(_)) => Err(Unread::TooLarge),
            Err(error) => Err(Unread::Unavailable(error.to_string())),
        }
    }
}

/// The payload of such a job.
#[derive(Debug, Deserialize)]
pub(super) struct MeasurementJob {
    /// Name of the object.
    pub path: String,
}

impl JobKind for MeasurementJob {
    const KIND: &'static str = "social_measurement";
    const CLASS: JobClass = JobClass::Short;
}

/// Measures images.
pub(super) struct MeasurementHandler {
    pub store: Store,
    pub bucket: Bucket,
}

impl Handler for MeasurementHandler {
    type Payload = MeasurementJob;

    async fn run(
        &self,
        _: &Queue,
        job: &Job,
        payload: MeasurementJob,
    ) -> Result<Value, HandlerError> {
        match self.bucket.read(&payload.path).await {
            Ok(bytes) => Ok(measured(&bytes)),
            Err(Unread::TooLarge) => Ok(json!({"reason": "too_large"})),
            Err(Unread::Missing) if job.attempt >= job.max_attempts => {
                Ok(json!({"reason": "missing"}))
            }
            Err(unread) => {
                tracing::warn!(error = %unread, "an image cannot be measured");
                let message = "the storage service cannot be asked for the image";
                Err(Failure::transient("media_unavailable", message).into())
            }
        }
    }

    /// What the image is goes to its row, and the job with it.
    async fn record_success(
        &self,
        queue: &Queue,
        job: &Job,
        measured: &Value,
    ) -> Result<bool, DbError> {
        self.store.record_measurement(queue, job, measured).await
    }
}

fn measured(bytes: &[u8]) -> Value {
    let mut value = match size::measure(bytes) {
        Ok(size) => json!(size),
        Err(reason) => json!({ "reason": reason }),
    };
    value["bytes"] = bytes.len().into();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_has_the_words_of_the_database() {
        let gif = b"GIF89a\x02\0\x03\0\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0\x3b";
        let wanted = json!({
            "content_type": "image/gif", "width": 2, "height": 3, "frames": 1, "bytes": gif.len(),
        });
        assert_eq!(measured(gif), wanted);
        let reasons = [
            (&b"<svg/>"[..], "unknown_type"),
            (b"GIF89a", "incomplete"),
            (b"\xff\xd8\xff\xd9", "no_size"),
        ];
        for (file, reason) in reasons {
            let wanted = json!({"reason": reason, "bytes": file.len()});
            assert_eq!(measured(file), wanted);
        }
    }
}

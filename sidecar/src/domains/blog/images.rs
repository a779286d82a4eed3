//! Jobs of the kind `blog_image`: a model makes an image, and the storage service keeps it.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use kijko_core::{
    db::DbError,
    jobs::{Handler, HandlerError, Job, JobKind, Queue},
    outbound::{Client, Limits, OutboundError, Url},
    secret::Secret,
    telemetry::canonical,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    picture::{self, Picture},
    store::{Started, Store},
};
use crate::{answers::Refusal, domains::llm::JobCalls, service::SERVICE};

const LIMITS: Limits = Limits {
    connect_timeout: Duration::from_secs(5),
    total_timeout: Duration::from_secs(60),
    idle_timeout: Duration::from_secs(30),
    max_bytes: 64 << 10,
};
/// The image is paid: storage that is being restarted is waited for.
const UPLOADS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// The payload of an image.
#[derive(Debug, Deserialize)]
pub struct ImageJob {
    /// The image.
    pub image_id: Uuid,
}

impl JobKind for ImageJob {
    const KIND: &'static str = "blog_image";
    const HALF_OF_SLOTS: bool = true;
}

/// Has models make images. As for drafts, the gateway has tried again before it says no, so a refusal ends the image. After a lost
/// worker the job runs again, with a call of its own; the bytes have one place, so the later ones replace the former.
pub(super) struct ImageHandler {
    pub store: Store,
    pub models: JobCalls,
    pub bucket: Bucket,
}

/// Why there is no image: a code and a message for the organization.
type Refused = (String, String);

impl ImageHandler {
    async fn make(&self, started: Result<Started, Refusal>) -> Result<Value, Refused> {
        let started = started.map_err(|refusal| (refusal.code, refusal.message))?;
        // Nothing is paid that cannot be kept.
        let (Some(upload), true) = (started.upload, self.bucket.is_configured()) else {
            return Err(unavailable("KIJKO_STORAGE_URL is not set"));
        };
        let (org, ticket) = (started.org_id, started.ticket);
        let file = self.models.image(org, ticket, &started.request).await;
        let file = file.map_err(|refused| (refused.code, refused.message))?;
        let picture = STANDARD.decode(file).ok();
        let picture = picture
            .and_then(|file| picture::strip(&file))
            .ok_or_else(|| {
                let message = "the model answered with something that is neither PNG nor JPEG";
                ("vendor_malformed".to_owned(), message.to_owned())
            })?;
        let hash = digest(&SHA256, &picture.bytes);
        let hash: String = hash.as_ref().iter().map(|it| format!("{it:02x}")).collect();
        let facts = json!({
            "content_type": picture.content_type, "width": picture.width, "height": picture.height,
            "bytes": picture.bytes.len(), "content_hash": hash,
        });
        self.bucket.keep(&upload, picture).await?;
        Ok(facts)
    }
}

impl Handler for ImageHandler {
    type Payload = ImageJob;

    async fn run(&self, queue: &Queue, job: &Job, image: ImageJob) -> Result<Value, HandlerError> {
        canonical::add("image_id", image.image_id.to_string());
        let started = queue.begin(|| self.store.start_image(queue, job));
        let started = started.await?.ok_or(HandlerError::Superseded)?;
        Ok(self.make(started).await.unwrap_or_else(|(code, message)| {
            canonical::add("error_code", code.as_str());
            json!({ "failed": code, "message": message })
        }))
    }

    /// What the image is, and the end of the job, in one transaction.
    async fn record_success(
        &self,
        queue: &Queue,
        job: &Job,
        result: &Value,
    ) -> Result<bool, DbError> {
        self.store.finish_image(queue, job, result).await
    }
}

/// The storage service, which opens the tickets of the database.
#[derive(Debug)]
pub(super) struct Bucket {
    client: Client,
    /// None: not configured.
    url: Option<Url>,
}

impl Bucket {
    pub(super) fn new(url: Option<Url>) -> Result<Self, OutboundError> {
        let client = Client::new(SERVICE, LIMITS)?;
        Ok(Self { client, url })
    }

    fn is_configured(&self) -> bool {
        self.url.is_some()
    }

    async fn keep(&self, ticket: &Secret, picture: Picture) -> Result<(), Refused> {
        let Some(mut url) = self.url.clone() else {
            return Err(unavailable("KIJKO_STORAGE_URL is not set"));
        };
        let path = format!("{}/ticket/upload", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let mut cause = String::new();
        for upload in 0..UPLOADS {
            if upload > 0 {
                tokio::time::sleep(PAUSE * upload).await;
            }
            let request = self.client.post(url.clone());
            let request = request
                .header("x-kijko-ticket", ticket.expose())
                .header("content-type", picture.content_type)
                .header("cache-control", "max-age=31536000, immutable")
                .body(picture.bytes.clone());
            match self.client.send(request).await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                // Its plan is full, or the image is gone.
                Ok(answer) if answer.status().is_client_error() && answer.status() != 429 => {
                    let status = answer.status();
                    let body = answer.bytes().await.unwrap_or_default();
                    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                    let message = body["message"]
                        .as_str()
                        .unwrap_or("storage refuses the image");
                    tracing::info!(%status, message, "an image is refused");
                    return Err(("image_not_stored".to_owned(), message.to_owned()));
                }
                Ok(answer) => cause = format!("it answered {}", answer.status()),
                Err(error) => cause = error.to_string(),
            }
        }
        Err(unavailable(&cause))
    }
}

/// The log has the cause; it is nothing that the organization could mend.
fn unavailable(cause: &str) -> Refused {
    tracing::warn!(cause, "an image cannot be stored");
    let message = "the storage service cannot be asked to keep the image";
    ("image_unavailable".to_owned(), message.to_owned())
}

//! LinkedIn: the Posts API. Members' posts cannot be read, so an outcome that is unknown stays unknown.

use std::time::Duration;

use kijko_core::{
    outbound::{RequestBuilder, Url, header},
    secret::Secret,
};
use reqwest::Method;
use serde_json::json;

use super::{
    failure::{Class, Failure, Refusal, by_status},
    http::{Http, Reply, authorized},
    little,
    post::{Created, Image, Post, Prepared},
};

/// How long an image may take to become available.
const MAX_LOOKS: u32 = 15;

pub(super) struct LinkedIn {
    http: Http,
    base: Url,
    version: String,
}

impl LinkedIn {
    pub(super) fn new(http: Http, base: Url, version: String) -> Self {
        Self {
            http,
            base,
            version,
        }
    }

    fn request(&self, method: Method, path: &str, token: &Secret) -> RequestBuilder {
        self.versioned(self.http.request(method, &self.base, path), token)
    }

    fn versioned(&self, request: RequestBuilder, token: &Secret) -> RequestBuilder {
        authorized(request, token)
            .header("LinkedIn-Version", &self.version)
            .header("X-Restli-Protocol-Version", "2.0.0")
    }

    async fn send(&self, request: RequestBuilder) -> Result<Reply, Failure> {
        checked(self.http.send(request).await?)
    }

    pub(super) async fn upload(
        &self,
        post: &Post,
        token: &Secret,
        image: &Image<'_>,
    ) -> Result<String, Refusal> {
        let fields = [("action", "initializeUpload")];
        let path = "/rest/images";
        let request = self
            .http
            .request_with(Method::POST, &self.base, path, &fields);
        let request = self
            .versioned(request, token)
            .json(&json!({"initializeUploadRequest": {"owner": author(post)}}));
        let begun = self.send(request).await.map_err(Failure::repeatable)?;
        let (Some(target), Some(id)) = (begun.text("/value/uploadUrl"), begun.text("/value/image"))
        else {
            return Err(Refusal::of(&begun, Class::Transient, "answer_invalid"));
        };
        let target = self.upload_target(&target).ok_or_else(|| {
            Refusal::new(
                Class::Transient,
                "answer_invalid",
                "the address of the upload is not LinkedIn's",
            )
        })?;
        let request = authorized(self.http.request_to(Method::PUT, target), token)
            .header(header::CONTENT_TYPE, image.media.content_type.as_str())
            .body(image.bytes.clone());
        self.send(request).await.map_err(Failure::repeatable)?;
        self.await_image(&id, token).await?;
        Ok(id)
    }

    /// The token goes to LinkedIn alone.
    fn upload_target(&self, address: &str) -> Option<Url> {
        let url: Url = address.parse().ok()?;
        let host = url.host_str()?;
        let is_theirs =
            url.scheme() == "https" && (host == "linkedin.com" || host.ends_with(".linkedin.com"));
        (is_theirs || url.origin() == self.base.origin()).then_some(url)
    }

    async fn await_image(&self, id: &str, token: &Secret) -> Result<(), Refusal> {
        let id: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
        for _ in 0..MAX_LOOKS {
            let request = self.request(Method::GET, &format!("/rest/images/{id}"), token);
            match self.send(request).await.map_err(Failure::repeatable) {
                Ok(reply) => match reply.text("/status").as_deref() {
                    Some("AVAILABLE") => return Ok(()),
                    Some("PROCESSING_FAILED") => {
                        return Err(Refusal::of(&reply, Class::Permanent, "media_refused"));
                    }
                    _ => tokio::time::sleep(Duration::from_secs(1)).await,
                },
                // Tokens of members may not ask: an image takes a moment.
                Err(refusal) if refusal.status == Some(403) => {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    return Ok(());
                }
                Err(refusal) => return Err(refusal),
            }
        }
        Err(Refusal::new(
            Class::Transient,
            "media_processing",
            "the image is not available yet",
        ))
    }

    pub(super) async fn create(
        &self,
        post: &Post,
        token: &Secret,
        prepared: &Prepared,
    ) -> Result<Created, Failure> {
        let mut body = json!({
            "author": author(post), "commentary": little::escaped(&post.text), "visibility": "PUBLIC",
            "distribution": {"feedDistribution": "MAIN_FEED", "targetEntities": [], "thirdPartyDistributionChannels": []},
            "lifecycleState": "PUBLISHED", "isReshareDisabledByAuthor": false,
        });
        let images: Vec<_> = prepared
            .media()
            .iter()
            .zip(&post.media)
            .map(|(id, media)| json!({"id": id, "altText": media.alt_text}))
            .collect();
        match &images[..] {
            [] => {}
            [image] => body["content"] = json!({"media": image}),
            _ => body["content"] = json!({"multiImage": {"images": images}}),
        }
        let request = self.request(Method::POST, "/rest/posts", token).json(&body);
        let reply = self.send(request).await?;
        let id = reply
            .headers
            .get("x-restli-id")
            .and_then(|it| it.to_str().ok());
        Ok(Created {
            url: id.map(|id| format!("https://www.linkedin.com/feed/update/{id}")),
            id: id.map(str::to_owned),
            status: Some(reply.status),
        })
    }
}

fn author(post: &Post) -> String {
    match post.account_id.starts_with("urn:li:") {
        true => post.account_id.clone(),
        false => format!("urn:li:person:{}", post.account_id),
    }
}

fn checked(reply: Reply) -> Result<Reply, Failure> {
    if reply.is_success() {
        return Ok(reply);
    }
    if let Some(failure) = by_status(&reply) {
        return Err(failure);
    }
    let text = super::failure::words(&reply.body).to_lowercase();
    let code = if text.contains("duplicate") {
        "duplicate_content"
    } else {
        "content_refused"
    };
    Err(Refusal::of(&reply, Class::Permanent, code).into())
}

//! Instagram: a container is made, becomes ready, and is published. Its status says later whether it was.

use std::time::Duration;

use kijko_core::{
    outbound::{RequestBuilder, Url},
    secret::Secret,
};
use reqwest::Method;

use super::{
    failure::{Class, Failure, Refusal, unknown},
    http::{Http, Reply, authorized, form},
    meta,
    post::{Created, Post, Prepared, is_same},
};

/// How often a container is looked at, a second apart, before the post waits for its next attempt.
const MAX_LOOKS: u32 = 20;
const CONTAINER_GONE: &str = "container_gone";
const HOUR: Duration = Duration::from_secs(3_600);

pub(super) struct Instagram {
    http: Http,
    base: Url,
}

impl Instagram {
    pub(super) fn new(http: Http, base: Url) -> Self {
        Self { http, base }
    }

    fn post(&self, path: &str, token: &Secret) -> RequestBuilder {
        authorized(self.http.request(Method::POST, &self.base, path), token)
    }

    fn get(&self, path: &str, token: &Secret, fields: &[(&str, &str)]) -> RequestBuilder {
        let request = self
            .http
            .request_with(Method::GET, &self.base, path, fields);
        authorized(request, token)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Reply, Failure> {
        meta::checked(self.http.send(request).await?)
    }

    /// One step: the quota and a container for an image, the container of a carousel, or the wait until it is ready.
    pub(super) async fn prepare(
        &self,
        post: &Post,
        token: &Secret,
        prepared: &mut Prepared,
    ) -> Result<bool, Refusal> {
        if let Some(container) = prepared.container() {
            match self.await_container(container, token).await? {
                true => return Ok(true),
                // It lives for a day.
                false => prepared.clear(),
            }
        }
        let made = prepared.media().len();
        if made == 0 {
            self.check_quota(post, token).await?;
        }
        if post.media.len() > 1 {
            if let Some(media) = post.media.get(made) {
                let fields = [
                    ("image_url", media.url.as_str()),
                    ("alt_text", media.alt_text.as_str()),
                    ("is_carousel_item", "true"),
                ];
                let id = self.container(post, token, &fields).await?;
                prepared.add_media(id);
                return Ok(false);
            }
            let children = prepared.media().join(",");
            let fields = [
                ("media_type", "CAROUSEL"),
                ("children", children.as_str()),
                ("caption", post.text.as_str()),
            ];
            let id = self.container(post, token, &fields).await?;
            prepared.set_container(id);
            return Ok(false);
        }
        let Some(media) = post.media.first() else {
            let message = "Instagram takes no post without an image";
            return Err(Refusal::new(Class::Permanent, "media_required", message));
        };
        let fields = [
            ("image_url", media.url.as_str()),
            ("alt_text", media.alt_text.as_str()),
            ("caption", post.text.as_str()),
        ];
        let id = self.container(post, token, &fields).await?;
        prepared.set_container(id);
        Ok(false)
    }

    async fn check_quota(&self, post: &Post, token: &Secret) -> Result<(), Refusal> {
        let path = format!("/{}/content_publishing_limit", post.account_id);
        let request = self.get(&path, token, &[("fields", "quota_usage,config")]);
        let reply = self.send(request).await.map_err(Failure::repeatable)?;
        let limit = &reply.body["data"][0];
        match (
            limit["quota_usage"].as_u64(),
            limit["config"]["quota_total"].as_u64(),
        ) {
            (Some(used), Some(total)) if used >= total => {
                let message = format!("{used} of {total} posts of 24 hours are used");
                Err(Refusal::new(Class::Quota, "platform_quota", message).after(HOUR))
            }
            _ => Ok(()),
        }
    }

    async fn container(
        &self,
        post: &Post,
        token: &Secret,
        fields: &[(&str, &str)],
    ) -> Result<String, Refusal> {
        let path = format!("/{}/media", post.account_id);
        let given: Vec<_> = fields
            .iter()
            .filter(|it| !it.1.is_empty())
            .copied()
            .collect();
        let request = form(self.post(&path, token), &given);
        let reply = self.send(request).await.map_err(Failure::repeatable)?;
        reply
            .text("/id")
            .ok_or_else(|| Refusal::of(&reply, Class::Transient, "answer_invalid"))
    }

    async fn status(&self, container: &str, token: &Secret) -> Result<Reply, Refusal> {
        let request = self.get(
            &format!("/{container}"),
            token,
            &[("fields", "status_code,status")],
        );
        let reply = self.send(request).await.map_err(Failure::repeatable);
        reply.map_err(|refusal| match refusal.code == meta::ACCOUNT_MISSING {
            // A container is deleted some time after its day. That says nothing of the account.
            true => Refusal {
                class: Class::Transient,
                code: CONTAINER_GONE.to_owned(),
                ..refusal
            },
            false => refusal,
        })
    }

    /// True when it is ready, false when it is good for nothing.
    async fn await_container(&self, container: &str, token: &Secret) -> Result<bool, Refusal> {
        for _ in 0..MAX_LOOKS {
            let reply = match self.status(container, token).await {
                Err(refusal) if refusal.code == CONTAINER_GONE => return Ok(false),
                reply => reply?,
            };
            match reply.text("/status_code").as_deref() {
                Some("FINISHED") => return Ok(true),
                Some("EXPIRED") => return Ok(false),
                Some("ERROR") => {
                    let words = reply.text("/status").unwrap_or_default();
                    let mut refusal = Refusal::of(&reply, Class::Permanent, "media_refused");
                    refusal.message = words.chars().take(1_000).collect();
                    return Err(refusal);
                }
                _ => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
        let message = "the container is not ready yet";
        Err(Refusal::new(Class::Transient, "media_processing", message))
    }

    pub(super) async fn create(
        &self,
        post: &Post,
        token: &Secret,
        prepared: &Prepared,
    ) -> Result<Created, Failure> {
        let path = format!("/{}/media_publish", post.account_id);
        let container = prepared.container().unwrap_or_default();
        let fields = [("creation_id", container)];
        let request = form(self.post(&path, token), &fields);
        let reply = self.send(request).await?;
        match reply.text("/id") {
            Some(id) => Ok(Created {
                id: Some(id),
                url: None,
                status: Some(reply.status),
            }),
            None => Err(unknown(&reply)),
        }
    }

    pub(super) async fn find(
        &self,
        post: &Post,
        token: &Secret,
        prepared: &Prepared,
    ) -> Result<Option<Created>, Refusal> {
        let container = prepared.container().unwrap_or_default();
        let reply = self.status(container, token).await?;
        if reply.text("/status_code").as_deref() != Some("PUBLISHED") {
            return Ok(None);
        }
        // It is there. Which one it is, is nice to know.
        let path = format!("/{}/media", post.account_id);
        let request = self.get(
            &path,
            token,
            &[
                ("fields", "id,caption,permalink,timestamp"),
                ("limit", "25"),
            ],
        );
        let listed = self.send(request).await.ok();
        let posts = listed.as_ref().and_then(|it| it.body["data"].as_array());
        let shown = posts.into_iter().flatten().find(|it| {
            let caption = it["caption"].as_str().unwrap_or_default();
            let is_older = it["timestamp"]
                .as_str()
                .is_some_and(|at| post.is_before(at));
            !post.knows(&it["id"]) && !is_older && is_same(&post.text, caption)
        });
        let text = |name: &str| shown.and_then(|it| it[name].as_str()).map(str::to_owned);
        Ok(Some(Created {
            id: text("id"),
            url: text("permalink"),
            status: Some(reply.status),
        }))
    }
}

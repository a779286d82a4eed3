//! Pages of Facebook: the Graph API.

use kijko_core::{
    outbound::{RequestBuilder, Url},
    secret::Secret,
};
use reqwest::Method;
use serde_json::json;

use super::{
    failure::{Class, Failure, Refusal, unknown},
    http::{Http, Reply, authorized, form, multipart},
    meta,
    post::{Created, Image, Post, Prepared, is_same},
};

pub(super) struct Facebook {
    http: Http,
    base: Url,
}

impl Facebook {
    pub(super) fn new(http: Http, base: Url) -> Self {
        Self { http, base }
    }

    fn request(&self, method: Method, post: &Post, edge: &str, token: &Secret) -> RequestBuilder {
        let path = format!("/{}/{edge}", post.account_id);
        authorized(self.http.request(method, &self.base, &path), token)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Reply, Failure> {
        meta::checked(self.http.send(request).await?)
    }

    pub(super) async fn upload(
        &self,
        post: &Post,
        token: &Secret,
        image: &Image<'_>,
    ) -> Result<String, Refusal> {
        let request = self.request(Method::POST, post, "photos", token);
        let mut fields = vec![("published", "false")];
        if !image.media.alt_text.is_empty() {
            fields.push(("alt_text_custom", image.media.alt_text.as_str()));
        }
        let content_type = image.media.content_type.as_str();
        let request = multipart(request, &fields, "source", content_type, &image.bytes);
        let reply = self.send(request).await.map_err(Failure::repeatable)?;
        reply
            .text("/id")
            .ok_or_else(|| Refusal::of(&reply, Class::Transient, "answer_invalid"))
    }

    pub(super) async fn create(
        &self,
        post: &Post,
        token: &Secret,
        prepared: &Prepared,
    ) -> Result<Created, Failure> {
        let attached: Vec<(String, String)> = prepared
            .media()
            .iter()
            .enumerate()
            .map(|(n, id)| {
                let media = json!({"media_fbid": id}).to_string();
                (format!("attached_media[{n}]"), media)
            })
            .collect();
        let mut fields = vec![("message", post.text.as_str())];
        fields.extend(
            attached
                .iter()
                .map(|(name, id)| (name.as_str(), id.as_str())),
        );
        let request = form(self.request(Method::POST, post, "feed", token), &fields);
        let reply = self.send(request).await?;
        let Some(id) = reply.text("/id") else {
            return Err(unknown(&reply));
        };
        Ok(created(id, None, &reply))
    }

    pub(super) async fn find(
        &self,
        post: &Post,
        token: &Secret,
    ) -> Result<Option<Created>, Refusal> {
        let since = post.since().to_string();
        let fields = [
            ("fields", "id,message,created_time,permalink_url"),
            ("since", since.as_str()),
            ("limit", "100"),
        ];
        let path = format!("/{}/published_posts", post.account_id);
        let request = self
            .http
            .request_with(Method::GET, &self.base, &path, &fields);
        let request = authorized(request, token);
        let reply = self.send(request).await.map_err(Failure::repeatable)?;
        let posts = reply.body["data"].as_array().map(Vec::as_slice);
        let found = posts.unwrap_or_default().iter().find(|it| {
            let message = it["message"].as_str().unwrap_or_default();
            !post.knows(&it["id"]) && is_same(&post.text, message)
        });
        Ok(found.and_then(|it| {
            let url = it["permalink_url"].as_str().map(str::to_owned);
            Some(created(it["id"].as_str()?.to_owned(), url, &reply))
        }))
    }
}

fn created(id: String, url: Option<String>, reply: &Reply) -> Created {
    Created {
        url: url.or_else(|| Some(format!("https://www.facebook.com/{id}"))),
        id: Some(id),
        status: Some(reply.status),
    }
}

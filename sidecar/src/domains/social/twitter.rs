//! X: the API v2. There is no key of idempotency; an account reads its own timeline.

use std::time::Duration;

use kijko_core::{outbound::Url, secret::Secret};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    failure::{Class, Failure, Refusal, by_status, is_failure, unknown},
    http::{Http, Reply, authorized, multipart},
    post::{Created, Image, Look, Post, Prepared, is_same, now_seconds},
};

const DAY: Duration = Duration::from_secs(86_400);
/// The most that X shows at once. X charges for each.
pub(super) const MAX_READS: i32 = 100;

pub(super) struct Twitter {
    http: Http,
    base: Url,
}

impl Twitter {
    pub(super) fn new(http: Http, base: Url) -> Self {
        Self { http, base }
    }

    async fn json(
        &self,
        method: Method,
        path: &str,
        token: &Secret,
        body: Value,
    ) -> Result<Reply, Failure> {
        let request = self.http.request(method, &self.base, path);
        let reply = self
            .http
            .send(authorized(request, token).json(&body))
            .await?;
        checked(reply)
    }

    /// In parts, as videos are: INIT, APPEND, FINALIZE.
    pub(super) async fn upload(
        &self,
        token: &Secret,
        image: &Image<'_>,
    ) -> Result<String, Refusal> {
        let content_type = image.media.content_type.as_str();
        let begun = self.json(
            Method::POST,
            "/2/media/upload/initialize",
            token,
            json!({
                "media_type": content_type, "total_bytes": image.bytes.len(),
                "media_category": if content_type == "image/gif" { "tweet_gif" } else { "tweet_image" },
            }),
        );
        let begun = begun.await.map_err(Failure::repeatable)?;
        let id = begun
            .text("/data/id")
            .ok_or_else(|| Refusal::of(&begun, Class::Transient, "answer_invalid"))?;
        let path = format!("/2/media/upload/{id}/append");
        let request = authorized(self.http.request(Method::POST, &self.base, &path), token);
        let fields = [("segment_index", "0")];
        let request = multipart(request, &fields, "media", content_type, &image.bytes);
        let reply = self.http.send(request).await.map_err(Failure::from);
        reply.and_then(checked).map_err(Failure::repeatable)?;
        let path = format!("/2/media/upload/{id}/finalize");
        let ended = self.json(Method::POST, &path, token, json!({})).await;
        let mut state = ended.map_err(Failure::repeatable)?;
        // Only what it still works on has this; at its own pace.
        for _ in 0..10 {
            match state.text("/data/processing_info/state").as_deref() {
                None | Some("succeeded") => break,
                Some("failed") => {
                    return Err(Refusal::of(&state, Class::Permanent, "media_refused"));
                }
                Some(_) => {}
            }
            let wait = state.body["data"]["processing_info"]["check_after_secs"].as_u64();
            tokio::time::sleep(Duration::from_secs(wait.unwrap_or(1).clamp(1, 20))).await;
            let fields = [("command", "STATUS"), ("media_id", id.as_str())];
            let path = "/2/media/upload";
            let request = self
                .http
                .request_with(Method::GET, &self.base, path, &fields);
            let reply = self.http.send(authorized(request, token)).await;
            let reply = reply.map_err(Failure::from).and_then(checked);
            state = reply.map_err(Failure::repeatable)?;
        }
        if !image.media.alt_text.is_empty() {
            let body = json!({"id": id, "metadata": {"alt_text": {"text": image.media.alt_text}}});
            let described = self.json(Method::POST, "/2/media/metadata", token, body);
            described.await.map_err(Failure::repeatable)?;
        }
        Ok(id)
    }

    pub(super) async fn create(
        &self,
        post: &Post,
        token: &Secret,
        prepared: &Prepared,
    ) -> Result<Created, Failure> {
        let mut body = json!({"text": post.text});
        if !prepared.media().is_empty() {
            body["media"] = json!({"media_ids": prepared.media()});
        }
        let reply = self.json(Method::POST, "/2/tweets", token, body).await?;
        let Some(id) = reply.text("/data/id") else {
            return Err(unknown(&reply));
        };
        Ok(Created {
            url: Some(format!("https://x.com/i/web/status/{id}")),
            id: Some(id),
            status: Some(reply.status),
        })
    }

    /// X replaces links by its own, and tells what they stand for.
    pub(super) async fn find(&self, post: &Post, token: &Secret) -> Result<Look, Refusal> {
        let path = format!("/2/users/{}/tweets", post.account_id);
        let (since, most) = (post.not_before(), MAX_READS.to_string());
        let fields = [
            ("max_results", most.as_str()),
            ("start_time", since.as_str()),
            ("tweet.fields", "created_at,entities"),
        ];
        let request = self
            .http
            .request_with(Method::GET, &self.base, &path, &fields);
        let reply = self.http.send(authorized(request, token)).await;
        let reply = reply.map_err(Failure::from).and_then(checked);
        let reply = reply.map_err(Failure::repeatable)?;
        let tweets = reply.body["data"].as_array().map(Vec::as_slice);
        let tweets = tweets.unwrap_or_default();
        let found = tweets.iter().find(|tweet| {
            !post.knows(&tweet["id"]) && is_same(&plain(&post.text), &plain(&shown(tweet)))
        });
        let id = found.and_then(|tweet| tweet["id"].as_str());
        Ok(Look {
            created: id.map(|id| Created {
                id: Some(id.to_owned()),
                url: Some(format!("https://x.com/i/web/status/{id}")),
                status: Some(reply.status),
            }),
            reads: i32::try_from(tweets.len()).unwrap_or(i32::MAX),
        })
    }
}

/// The text as it was sent: links of X replaced by those that they stand for, those of media left out.
fn shown(tweet: &Value) -> String {
    let mut text = tweet["text"].as_str().unwrap_or_default().to_owned();
    for url in tweet["entities"]["urls"].as_array().into_iter().flatten() {
        let Some(short) = url["url"].as_str() else {
            continue;
        };
        let meant = match url["media_key"].is_null() {
            true => url["expanded_url"].as_str().unwrap_or_default(),
            false => "",
        };
        text = text.replace(short, meant);
    }
    for (escaped, meant) in [("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")] {
        text = text.replace(escaped, meant);
    }
    text
}

/// Without what X adds to a link.
fn plain(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let word = word.strip_prefix("https://").unwrap_or(word);
        let word = word.strip_prefix("http://").unwrap_or(word);
        word.trim_end_matches('/')
    });
    words.collect::<Vec<_>>().join(" ")
}

fn checked(reply: Reply) -> Result<Reply, Failure> {
    if reply.is_success() {
        return Ok(reply);
    }
    if is_failure(&reply) {
        return Err(unknown(&reply));
    }
    // By its type and title alone: its other words may quote the post.
    let is_problem = |name: &str, title: &str| {
        let of = |field: &str| reply.body[field].as_str().unwrap_or_default();
        of("type").ends_with(&format!("/{name}")) || of("title").eq_ignore_ascii_case(title)
    };
    if is_problem("usage-capped", "UsageCapExceeded") {
        return Err(Refusal::of(&reply, Class::Quota, "platform_quota")
            .after(DAY)
            .into());
    }
    if reply.status == 429 {
        return Err(limited(&reply).into());
    }
    if is_problem("unsupported-authentication", "Unsupported Authentication") {
        return Err(Refusal::of(&reply, Class::Reauthorize, "token_refused").into());
    }
    if let Some(failure) = by_status(&reply) {
        return Err(failure);
    }
    let words = super::failure::words(&reply.body).to_lowercase();
    let code = if words.contains("duplicate") {
        "duplicate_content"
    } else {
        "content_refused"
    };
    Err(Refusal::of(&reply, Class::Permanent, code).into())
}

/// X has no `Retry-After`. Of the windows that are used up, the one that ends last counts.
fn limited(reply: &Reply) -> Refusal {
    let windows = ["x-rate-limit", "x-user-limit-24hour", "x-app-limit-24hour"];
    let ends = windows.iter().filter_map(|window| {
        let is_used_up = reply.number(&format!("{window}-remaining")) == Some(0);
        let reset = reply.number(&format!("{window}-reset"))?;
        is_used_up.then_some(reset)
    });
    let wait = ends
        .max()
        .map_or(900, |end| end.saturating_sub(now_seconds()));
    let refusal = Refusal::of(reply, Class::Quota, "platform_quota");
    refusal.after(Duration::from_secs(wait.clamp(1, 172_800)))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    #[test]
    fn problems_are_states_by_their_type_and_not_by_words_of_the_post() {
        let class = |status: u16, body: Value| {
            let reply = Reply {
                status,
                headers: HeaderMap::new(),
                bytes: Vec::new(),
                body,
            };
            match checked(reply) {
                Err(Failure::Refused(refusal)) => Some((refusal.class, refusal.code)),
                Err(Failure::Unknown(_)) => None,
                Ok(_) => panic!("{status}"),
            }
        };
        let problem = |name: &str| json!({"type": format!("https://api.twitter.com/2/problems/{name}"), "title": "x"});
        let quota = Some((Class::Quota, "platform_quota".to_owned()));
        let refused = |code: &str| Some((Class::Permanent, code.to_owned()));
        assert_eq!(class(429, problem("usage-capped")), quota);
        assert_eq!(class(403, json!({"title": "UsageCapExceeded"})), quota);
        assert_eq!(
            class(403, problem("unsupported-authentication")),
            Some((Class::Reauthorize, "token_refused".to_owned()))
        );
        // The words may be those of the post.
        let quoting = json!({"title": "Forbidden", "detail": "not permitted: \"usage-capped, unsupported authentication\""});
        assert_eq!(class(403, quoting), refused("content_refused"));
        let duplicate =
            json!({"detail": "You are not allowed to create a Tweet with duplicate content."});
        assert_eq!(class(403, duplicate), refused("duplicate_content"));
        // It may have been published all the same.
        assert_eq!(class(500, problem("usage-capped")), None);
        assert_eq!(class(503, json!({})), None);
    }

    #[test]
    fn a_tweet_is_recognised_with_its_links_and_escapes() {
        let tweet = json!({
            "id": "1", "text": "a & b &lt;c&gt; https://t.co/x1 https://t.co/x2",
            "entities": {"urls": [
                {"url": "https://t.co/x1", "expanded_url": "http://example.com/"},
                {"url": "https://t.co/x2", "expanded_url": "https://x.com/i/photo/1", "media_key": "3_1"},
            ]},
        });
        let sent = "a & b <c>\nexample.com ";
        assert!(is_same(&plain(sent), &plain(&shown(&tweet))));
        assert!(!is_same(&plain("a & b"), &plain(&shown(&tweet))));
    }
}

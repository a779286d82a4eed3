//! Gemini, grounded in Google Search: the pages that its answer rests on, each with what the answer says by it. Offsets are bytes of
//! UTF-8, and addresses are redirectors of Google: where they lead is kept.

use kijko_core::{
    jobs::Failure,
    outbound::{Client, Url},
    secret::Secret,
};
use serde_json::{Value, json};

use super::{
    store::{Target, Work},
    vendor::{self, LIMITS, Refused, text, unknown},
};
use crate::{
    llm::{Vendor, VendorConfig},
    sandbox::Item,
    upstream::Upstream,
};

/// Where Gemini answers: what this process is configured with, and addresses of providers.
pub(super) struct Gemini {
    pub configured: Option<VendorConfig>,
    pub rows: Upstream,
}

/// A way to a target.
struct Route {
    client: Client,
    base: Url,
    key: Option<Secret>,
}

impl Gemini {
    /// What is found, with redirectors for addresses, and what it cost. `own` is the client of this process' own addresses.
    pub(super) async fn search(
        &self,
        own: &Client,
        target: &Target,
        work: &Work,
    ) -> Result<(Vec<Item>, Value), Refused> {
        let Route { client, base, key } =
            self.route(own, target).map_err(|failure| (failure, None))?;
        let url = address(&base, &target.model);
        let body = question(work, target.max_output_tokens);
        let request = || {
            let request = client.post(url.clone()).json(&body);
            Vendor::Gemini.authorize(request, key.as_ref())
        };
        let answer = vendor::ask(&client, "Gemini", request).await?;
        Ok((items(&answer), spent(&answer)))
    }

    /// As for calls of the gateway: an address of a row is reached by the guarded client, and a key without one goes to the vendor.
    fn route(&self, own: &Client, target: &Target) -> Result<Route, Failure> {
        if !Vendor::Gemini.takes_name(&target.model) {
            let message = "Gemini has no model of this name";
            return Err(Failure::permanent("vendor_refused", message));
        }
        let key = target.key.clone();
        if let Some(url) = &target.base_url {
            let (base, http) = self
                .rows
                .reach(&target.allowed_hosts, url)
                .map_err(|error| {
                    let cause = error.cause().unwrap_or_default();
                    tracing::info!(cause, "a provider's address");
                    Failure::permanent("vendor_refused", "the provider's address is not called")
                })?;
            let client = Client::of(http, LIMITS);
            return Ok(Route { client, base, key });
        }
        let (base, key) = match (key, &self.configured) {
            (Some(key), _) => (Vendor::Gemini.home(), Some(key)),
            (None, Some(config)) => (config.base_url.clone(), config.api_key.clone()),
            (None, None) => {
                let message = "the operator has not configured Gemini";
                return Err(Failure::permanent("collector_not_configured", message));
            }
        };
        let client = own.clone();
        Ok(Route { client, base, key })
    }
}

/// The base URL may have the version, as in the gateway.
fn address(base: &Url, model: &str) -> Url {
    let mut url = base.clone();
    let path = base.path().trim_end_matches('/');
    let version = match path.ends_with("/v1") || path.ends_with("/v1beta") {
        true => "",
        false => "/v1beta",
    };
    url.set_path(&format!("{path}{version}/models/{model}:generateContent"));
    url
}

fn question(work: &Work, max_output_tokens: u64) -> Value {
    let kind = match work.category.as_str() {
        "news" => "news of the last days",
        _ => "sources",
    };
    let query = work.query.as_deref().unwrap_or_default();
    let prompt = format!(
        "Search for {kind} about the following, in the language {}, and say in one or two sentences for each source what it adds.\n\n{query}",
        work.language
    );
    json!({
        "contents": [{"role": "user", "parts": [{"text": prompt}]}],
        "tools": [{"google_search": {}}],
        "generationConfig": {"maxOutputTokens": max_output_tokens, "thinkingConfig": {"thinkingBudget": 0}},
    })
}

fn spent(answer: &Value) -> Value {
    let usage = &answer["usageMetadata"];
    let count = |name: &str| usage[name].as_u64().unwrap_or(0);
    if !usage["promptTokenCount"].is_u64() {
        return unknown();
    }
    let grounding = answer.pointer("/candidates/0/groundingMetadata");
    let queries = grounding.and_then(|it| it["webSearchQueries"].as_array());
    json!({
        // Google charges for an answer that searched, however often.
        "searches": u64::from(queries.is_some_and(|it| !it.is_empty())),
        "input_tokens": count("promptTokenCount") + count("toolUsePromptTokenCount"),
        "output_tokens": count("candidatesTokenCount") + count("thoughtsTokenCount"),
        "reasoning_tokens": count("thoughtsTokenCount"),
        "model": answer["modelVersion"].as_str(),
    })
}

/// A page for each chunk that the answer cites, in the order of the chunks.
fn items(answer: &Value) -> Vec<Item> {
    let candidate = &answer["candidates"][0];
    let parts = candidate
        .pointer("/content/parts")
        .and_then(Value::as_array);
    let parts: Vec<&str> = parts
        .into_iter()
        .flatten()
        .map(|part| part["text"].as_str().unwrap_or_default())
        .collect();
    let metadata = &candidate["groundingMetadata"];
    let chunks = metadata["groundingChunks"].as_array();
    let mut items: Vec<Item> = chunks
        .into_iter()
        .flatten()
        .map(|chunk| Item {
            url: text(&chunk["web"], &["uri"]),
            title: text(&chunk["web"], &["title"]),
            ..Item::default()
        })
        .collect();
    for support in metadata["groundingSupports"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let Some(said) = segment(&support["segment"], &parts) else {
            continue;
        };
        let indices = support["groundingChunkIndices"].as_array();
        let indices = indices.into_iter().flatten().filter_map(Value::as_u64);
        for index in indices {
            if let Some(item) = items.get_mut(index as usize) {
                item.text.push_str(said.trim());
                item.text.push(' ');
            }
        }
    }
    items.retain(|item| !item.text.is_empty());
    for item in &mut items {
        // The title of a chunk is often no more than a host.
        if !item.title.contains(' ') {
            item.title = item
                .text
                .split(". ")
                .next()
                .unwrap_or_default()
                .chars()
                .take(120)
                .collect();
        }
    }
    items
}

/// The cited part of the answer: by its offsets, else as it is quoted.
fn segment<'a>(segment: &'a Value, parts: &[&'a str]) -> Option<&'a str> {
    let offset = |name: &str| segment[name].as_u64().map(|it| it as usize);
    let part = parts.get(offset("partIndex").unwrap_or(0));
    let range = offset("startIndex").unwrap_or(0)..offset("endIndex")?;
    // None between two bytes of a character.
    let said = part.and_then(|part| part.get(range));
    said.or_else(|| segment["text"].as_str())
        .filter(|it| !it.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::topics::store::Kind;

    fn answer() -> Value {
        // "Zürich" has a character of two bytes: the first sentence ends at byte 32.
        let said = "Zürich eröffnet eine Brücke. Bern plant noch.";
        let first = "Zürich eröffnet eine Brücke.".len();
        json!({
            "candidates": [{
                "content": {"role": "model", "parts": [{"text": said}]},
                "finishReason": "STOP",
                "groundingMetadata": {
                    "webSearchQueries": ["brücke zürich"],
                    "searchEntryPoint": {"renderedContent": "<div></div>"},
                    "groundingChunks": [
                        {"web": {"uri": "https://vertexaisearch.cloud.google.com/grounding-api-redirect/A", "title": "nzz.ch"}},
                        {"web": {"uri": "https://vertexaisearch.cloud.google.com/grounding-api-redirect/B", "title": "Der Bund meldet"}},
                        {"web": {"uri": "https://vertexaisearch.cloud.google.com/grounding-api-redirect/C", "title": "uncited.example"}}
                    ],
                    "groundingSupports": [
                        {"segment": {"endIndex": first, "text": "x"}, "groundingChunkIndices": [0, 1]},
                        {"segment": {"startIndex": first + 1, "endIndex": said.len()}, "groundingChunkIndices": [1, 99]},
                        {"segment": {"startIndex": 2, "endIndex": 5, "text": "quoted"}, "groundingChunkIndices": [1]}
                    ]
                }
            }],
            "usageMetadata": {"promptTokenCount": 40, "candidatesTokenCount": 20, "thoughtsTokenCount": 5, "totalTokenCount": 65},
            "modelVersion": "gemini-2.5-flash"
        })
    }

    #[test]
    fn cited_pages_with_what_is_said_by_them() {
        let found = items(&answer());
        let seen: Vec<_> = found
            .iter()
            .map(|it| (it.title.as_str(), it.text.trim()))
            .collect();
        assert_eq!(
            seen,
            [
                (
                    "Zürich eröffnet eine Brücke",
                    "Zürich eröffnet eine Brücke."
                ),
                (
                    "Der Bund meldet",
                    "Zürich eröffnet eine Brücke. Bern plant noch. quoted"
                ),
            ]
        );
        assert!(found[0].url.ends_with("/A"));
    }

    #[test]
    fn what_was_spent() {
        assert_eq!(
            spent(&answer()),
            json!({
                "searches": 1, "input_tokens": 40, "output_tokens": 25, "reasoning_tokens": 5, "model": "gemini-2.5-flash",
            })
        );
        let mut plain = answer();
        plain["candidates"][0]["groundingMetadata"] = json!({});
        assert_eq!(spent(&plain)["searches"], 0);
        assert!(items(&plain).is_empty());
        assert_eq!(spent(&json!({})), unknown());
    }

    #[test]
    fn the_question() {
        let body = question(&Work::of_query(Kind::Gemini, "bridges"), 64);
        assert_eq!(body["tools"], json!([{"google_search": {}}]));
        assert_eq!(body["generationConfig"]["maxOutputTokens"], 64);
        for (base, path) in [
            (
                "https://g.example/base/",
                "/base/v1beta/models/m:generateContent",
            ),
            ("https://g.example/v1", "/v1/models/m:generateContent"),
        ] {
            assert_eq!(address(&base.parse().unwrap(), "m").path(), path);
        }
    }

    #[test]
    fn a_key_goes_where_it_belongs() {
        let own = Client::new(crate::service::SERVICE, LIMITS).unwrap();
        let route = |configured: Option<&str>, base_url: Option<&str>, key: Option<&str>| {
            let gemini = Gemini {
                configured: configured.map(|url| VendorConfig {
                    base_url: url.parse().unwrap(),
                    api_key: Some(Secret::new("operators")),
                    limits: LIMITS,
                }),
                rows: Upstream::default(),
            };
            let target = Target {
                base_url: base_url.map(str::to_owned),
                key: key.map(Secret::new),
                allowed_hosts: String::new(),
                model: "gemini-2.5-flash".to_owned(),
                max_output_tokens: 1,
            };
            let route = gemini.route(&own, &target).map_err(|failure| failure.code);
            route.map(|it| {
                (
                    it.base.to_string(),
                    it.key.map(|key| key.expose().to_owned()),
                )
            })
        };
        let (home, proxy) = (
            "https://generativelanguage.googleapis.com/",
            "https://p.example/",
        );
        let with = |base: &str, key: &str| Ok((base.to_owned(), Some(key.to_owned())));
        assert_eq!(route(Some(proxy), None, None), with(proxy, "operators"));
        assert_eq!(route(Some(proxy), None, Some("own")), with(home, "own"));
        let server = "https://m.example/v1";
        assert_eq!(
            route(Some(proxy), Some(server), Some("own")),
            with(server, "own")
        );
        assert_eq!(
            route(Some(proxy), Some(server), None),
            Ok((server.to_owned(), None))
        );
        let private = route(Some(proxy), Some("http://127.0.0.1/v1"), Some("own"));
        assert_eq!(private.unwrap_err(), "vendor_refused");
        assert_eq!(
            route(None, None, None).unwrap_err(),
            "collector_not_configured"
        );
    }
}

//! Gemini, grounded in Google Search: the pages that its answer rests on, each with what the answer says by it. Offsets are bytes of
//! UTF-8, and addresses are redirectors of Google: where they lead is kept.

use kijko_core::outbound::{Client, Url};
use serde_json::{Value, json};

use super::{
    store::Work,
    vendor::{self, Refused, text, unknown},
};
use crate::{llm::VendorConfig, sandbox::Item};

/// What is found, with redirectors for addresses, and what it cost.
pub(super) async fn search(
    client: &Client,
    vendor: &VendorConfig,
    work: &Work,
) -> Result<(Vec<Item>, Value), Refused> {
    let model = work.model.as_deref().unwrap_or_default();
    let url = address(&vendor.base_url, model.trim_start_matches("gemini/"));
    let body = question(work);
    let request = || {
        let request = client.post(url.clone()).json(&body);
        match &vendor.api_key {
            Some(key) => request.header("x-goog-api-key", key.expose()),
            None => request,
        }
    };
    let answer = vendor::ask(client, "Gemini", request).await?;
    Ok((items(&answer), spent(&answer)))
}

fn address(base: &Url, model: &str) -> Url {
    let mut url = base.clone();
    let base = base.path().trim_end_matches('/');
    url.set_path(&format!("{base}/v1beta/models/{model}:generateContent"));
    url
}

fn question(work: &Work) -> Value {
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
        "generationConfig": {"maxOutputTokens": work.max_output_tokens, "thinkingConfig": {"thinkingBudget": 0}},
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
            "usageMetadata": {"promptTokenCount": 40, "candidatesTokenCount": 20, "thoughtsTokenCount": 5, "totalTokenCount": 65}
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
            json!({"searches": 1, "input_tokens": 40, "output_tokens": 25})
        );
        let mut plain = answer();
        plain["candidates"][0]["groundingMetadata"] = json!({});
        assert_eq!(spent(&plain)["searches"], 0);
        assert!(items(&plain).is_empty());
        assert_eq!(spent(&json!({})), unknown());
    }

    #[test]
    fn the_question() {
        let mut work = Work::of_query(Kind::Gemini, "bridges");
        work.max_output_tokens = Some(64);
        let body = question(&work);
        assert_eq!(body["tools"], json!([{"google_search": {}}]));
        assert_eq!(body["generationConfig"]["maxOutputTokens"], 64);
        let url = address(
            &"https://g.example/base/".parse().unwrap(),
            "gemini-2.5-flash",
        );
        assert_eq!(
            url.path(),
            "/base/v1beta/models/gemini-2.5-flash:generateContent"
        );
    }
}

//! Tavily's search. A basic search costs one credit; the answer says how many it took.

use kijko_core::{
    outbound::{Client, Url},
    secret::Secret,
};
use serde_json::{Value, json};

use super::{
    store::Work,
    vendor::{self, Refused, text, unknown},
};
use crate::sandbox::Item;

/// What is found, and what it cost.
pub(super) async fn search(
    client: &Client,
    (base, key): &(Url, Secret),
    work: &Work,
) -> Result<(Vec<Item>, Value), Refused> {
    let mut url = base.clone();
    url.set_path(&format!("{}/search", base.path().trim_end_matches('/')));
    let body = question(work);
    let request = || {
        client
            .post(url.clone())
            .bearer_auth(key.expose())
            .json(&body)
    };
    let answer = vendor::ask(client, "Tavily", request).await?;
    Ok((items(&answer), spent(&answer)))
}

fn question(work: &Work) -> Value {
    json!({
        "query": work.query, "topic": work.category, "search_depth": "basic", "max_results": work.max_items.min(20),
        "include_answer": false, "include_raw_content": false, "include_images": false, "include_usage": true,
    })
}

fn spent(answer: &Value) -> Value {
    match answer.pointer("/usage/credits").and_then(Value::as_u64) {
        Some(credits) => json!({"searches": credits}),
        None => unknown(),
    }
}

fn items(answer: &Value) -> Vec<Item> {
    let results = answer["results"].as_array();
    let results = results.into_iter().flatten();
    results
        .map(|it| Item {
            url: text(it, &["url"]),
            title: text(it, &["title"]),
            text: text(it, &["raw_content", "content"]),
            published_at: Some(text(it, &["published_date"])),
            ..Item::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domains::topics::store::Kind;

    #[test]
    fn the_question_and_the_answer() {
        let body = question(&Work::of_query(Kind::Tavily, "postgres"));
        assert_eq!(
            (&body["query"], &body["topic"], &body["max_results"]),
            (&json!("postgres"), &json!("news"), &json!(5))
        );
        let answer = json!({
            "query": "postgres", "follow_up_questions": null, "answer": null, "images": [],
            "results": [{"url": "https://a.example/1", "title": "One", "content": "Text", "score": 0.9, "raw_content": null,
                "published_date": "Wed, 04 Mar 2026 09:30:00 GMT"}],
            "response_time": 1.2, "usage": {"credits": 1}, "request_id": "r"
        });
        let found = items(&answer);
        assert_eq!(
            (found[0].text.as_str(), found[0].title.as_str()),
            ("Text", "One")
        );
        assert_eq!(spent(&answer), json!({"searches": 1}));
        assert_eq!(spent(&json!({"results": []})), unknown());
    }
}

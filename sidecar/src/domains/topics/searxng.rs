//! SearXNG, a search engine that the operator runs. It answers JSON only where its settings allow that.

use kijko_core::{
    jobs::Failure,
    outbound::{Client, Url},
};
use reqwest::Method;
use serde_json::Value;

use super::{
    store::Work,
    vendor::{self, Refused, text},
};
use crate::sandbox::Item;

/// What is found. Costs nothing.
pub(super) async fn search(client: &Client, base: &Url, work: &Work) -> Result<Vec<Item>, Refused> {
    let url = address(base, work);
    let answer = vendor::ask(client, "SearXNG", || {
        client.request(Method::GET, url.clone())
    })
    .await;
    match answer {
        Ok(answer) => Ok(items(&answer)),
        Err((failure, _)) if failure.code == "vendor_not_allowed" => {
            let message =
                "SearXNG does not answer JSON: add json to search.formats of its settings.yml";
            Err((Failure::permanent("vendor_not_allowed", message), None))
        }
        Err((failure, _)) => Err((failure, None)),
    }
}

fn address(base: &Url, work: &Work) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/search", base.path().trim_end_matches('/')));
    url.query_pairs_mut()
        .append_pair("q", work.query.as_deref().unwrap_or_default())
        .append_pair("format", "json")
        .append_pair("categories", &work.category)
        .append_pair("language", &work.language)
        .append_pair("safesearch", "0");
    url
}

fn items(answer: &Value) -> Vec<Item> {
    let results = answer["results"].as_array();
    let results = results.into_iter().flatten();
    results
        .map(|it| Item {
            url: text(it, &["url"]),
            title: text(it, &["title"]),
            text: text(it, &["content"]),
            published_at: Some(text(it, &["publishedDate"])),
            ..Item::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domains::topics::store::Kind;

    #[test]
    fn the_question_and_the_answer() {
        let work = Work::of_query(Kind::Searxng, "postgres & \"async io\"");
        let url = address(&"http://searx.internal:8080/x/".parse().unwrap(), &work);
        assert_eq!(
            url.as_str(),
            "http://searx.internal:8080/x/search?q=postgres+%26+%22async+io%22&format=json&categories=news&language=en&safesearch=0"
        );
        let found = items(&json!({"query": "q", "number_of_results": 0, "results": [
            {"url": "https://a.example/1", "title": "One", "content": "Text", "publishedDate": "2026-03-04T09:30:00", "engine": "bing news", "score": 1.0},
            {"url": null, "title": 7}
        ], "answers": [], "unresponsive_engines": [["google", "timeout"]]}));
        assert_eq!(found[0].url, "https://a.example/1");
        assert_eq!(
            found[0].published_at.as_deref(),
            Some("2026-03-04T09:30:00")
        );
        // Without an address it is left out by the sandbox.
        assert_eq!(found[1].url, "");
        assert!(items(&json!({"error": "x"})).is_empty());
    }
}

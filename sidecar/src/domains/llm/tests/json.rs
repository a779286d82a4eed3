//! Embeddings, images and the list of models.

use super::{
    vendor::{Vendor, whole},
    *,
};

#[tokio::test]
async fn embeddings_in_the_encoding_that_was_asked_for() {
    let answer = json!({"object": "list", "model": "text-embedding-3-small", "data": [{"object": "embedding", "index": 0, "embedding": [1.0, -0.5]}], "usage": {"prompt_tokens": 3, "total_tokens": 3}});
    let vendor = Vendor::new(vec![whole(&answer)]).await;
    let stack = Stack::new(&[("openai", &vendor.url)]).await;
    let body = json!({"model": "m", "input": "hi", "encoding_format": "base64"});
    let got = call(&stack.app, "/llm/v1/embeddings", &body).await;
    assert_eq!(
        got.json()["data"][0]["embedding"],
        "AACAPwAAAL8=",
        "{}",
        got.text
    );
    let (head, sent) = vendor.request(0);
    assert!(head.starts_with("POST /v1/embeddings "), "{head}");
    assert_eq!(sent["model"], "the-model");
    let settled = stack.settled().await;
    assert_eq!(
        (&settled["prompt_tokens"], &settled["completion_tokens"]),
        (&json!(3), &json!(0))
    );
    assert_eq!(settled["model"], "text-embedding-3-small");
}

#[tokio::test]
async fn embeddings_of_gemini_are_counted_by_us() {
    let vendor = Vendor::new(vec![whole(
        &json!({"embeddings": [{"values": [1.0]}, {"values": [2.0]}]}),
    )])
    .await;
    let stack = Stack::new(&[("gemini", &vendor.url)]).await;
    let body = json!({"model": "m", "input": ["a", "b"]});
    let got = call(&stack.app, "/llm/v1/embeddings", &body).await;
    assert_eq!(
        got.json()["data"][1],
        json!({"object": "embedding", "index": 1, "embedding": [2.0]})
    );
    let (head, _) = vendor.request(0);
    assert!(
        head.starts_with("POST /v1/models/the-model:batchEmbedContents "),
        "{head}"
    );
    let settled = stack.settled().await;
    assert!(settled["prompt_tokens"].as_u64().unwrap() > 0);
    assert_eq!(settled["estimated"], true);
}

#[tokio::test]
async fn images_are_counted() {
    let answer = json!({"created": 1, "data": [{"b64_json": "AAAA"}, {"b64_json": "BBBB"}]});
    let vendor = Vendor::new(vec![whole(&answer)]).await;
    let stack = Stack::new(&[("openai", &vendor.url)]).await;
    let body = json!({"model": "m", "prompt": "a cat", "n": 2});
    let got = call(&stack.app, "/llm/v1/images/generations", &body).await;
    assert_eq!(got.json(), answer);
    assert!(
        vendor
            .request(0)
            .0
            .starts_with("POST /v1/images/generations ")
    );
    assert_eq!(stack.asked.lock().unwrap()[0]["images"], 2);
    assert_eq!(stack.settled().await["images"], 2);
}

#[tokio::test]
async fn an_image_of_gemini_comes_in_the_shape_of_openai() {
    let answer = json!({
        "candidates": [{"content": {"role": "model", "parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}}],
        "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 1290, "totalTokenCount": 1294},
    });
    let vendor = Vendor::new(vec![whole(&answer)]).await;
    let stack = Stack::new(&[("gemini", &vendor.url)]).await;
    let body = json!({"model": "m", "prompt": "a cat", "size": "1024x1024"});
    let got = call(&stack.app, "/llm/v1/images/generations", &body).await;
    assert_eq!(
        got.json()["data"],
        json!([{"b64_json": "AAAA"}]),
        "{}",
        got.text
    );
    let (head, sent) = vendor.request(0);
    assert!(
        head.starts_with("POST /v1/models/the-model:generateContent "),
        "{head}"
    );
    assert_eq!(sent["contents"][0]["parts"][0]["text"], "a cat");
    let settled = stack.settled().await;
    assert_eq!(
        (&settled["images"], &settled["completion_tokens"]),
        (&json!(1), &json!(1290))
    );
}

#[tokio::test]
async fn models_are_those_of_the_caller() {
    let stack = Stack::new(&[]).await;
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = stack.app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let fast = json!({"id": "fast", "object": "model", "created": 60, "owned_by": "route"});
    let (_, list) = get("/llm/v1/models").await;
    assert_eq!((&list["object"], &list["data"][0]), (&json!("list"), &fast));
    assert_eq!(get("/llm/v1/models/fast").await, (200, fast));
    for path in [
        "/llm/v1/models/openai/gpt-4o",
        "/llm/v1/models/openai%2Fgpt-4o",
    ] {
        assert_eq!(get(path).await.1["id"], "openai/gpt-4o");
    }
    let (status, error) = get("/llm/v1/models/none").await;
    assert_eq!(
        (status, &error["error"]["code"]),
        (404, &json!("model_not_found"))
    );
}

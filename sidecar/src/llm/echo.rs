//! The development model. It answers with the prompt itself, always the same, at no cost.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;

use super::{
    error::LlmError,
    provider::{Completion, CompletionRequest, Provider},
    usage::Usage,
};

/// A longer delay is cut: delays are for tests that interrupt them, and must not hold a worker.
const MAX_DELAY: Duration = Duration::from_secs(600);

/// Answers `echo/…`. Parameter `delay_ms` makes it slow.
#[derive(Debug, Clone, Copy)]
pub struct Echo;

impl Provider for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn max_usage(&self, request: &CompletionRequest) -> Usage {
        words(&request.prompt)
    }

    fn complete(&self, request: CompletionRequest) -> BoxFuture<'_, Result<Completion, LlmError>> {
        Box::pin(async move {
            let delay = request
                .parameters
                .get("delay_ms")
                .and_then(Value::as_u64)
                .unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(delay).min(MAX_DELAY)).await;
            let usage = words(&request.prompt);
            Ok(Completion {
                text: request.prompt,
                model: request.model,
                usage,
                finish_reason: Some("stop".to_owned()),
            })
        })
    }
}

/// A word is a token, of the question and of the answer.
fn words(prompt: &str) -> Usage {
    let words = prompt.split_whitespace().count() as u64;
    Usage::new(words, words)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::{super::usage::Progress, *};

    fn request(prompt: &str, parameters: Value) -> CompletionRequest {
        let parameters: Map<_, _> = parameters.as_object().unwrap().clone();
        CompletionRequest {
            model: "echo".into(),
            prompt: prompt.into(),
            parameters,
            max_tokens: 100,
            progress: Progress::default(),
        }
    }

    #[tokio::test]
    async fn repeats_the_prompt_and_counts_words() {
        let completion = Echo
            .complete(request("say  it\nagain", json!({})))
            .await
            .unwrap();
        assert_eq!(completion.text, "say  it\nagain");
        assert_eq!(completion.usage, Usage::new(3, 3));
        assert_eq!(
            Echo.max_usage(&request("say  it\nagain", json!({}))),
            completion.usage
        );
    }

    #[tokio::test]
    async fn can_be_slow_on_request() {
        let start = std::time::Instant::now();
        Echo.complete(request("x", json!({"delay_ms": 50})))
            .await
            .unwrap();
        assert!(start.elapsed() >= Duration::from_millis(50));
    }
}

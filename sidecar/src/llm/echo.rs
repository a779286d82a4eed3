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

/// How often a slow answer grows.
const STEP: Duration = Duration::from_millis(200);

/// Answers `echo/…`. Parameter `delay_ms` makes it slow: the words come one after the other.
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
            speak(&request, Duration::from_millis(delay).min(MAX_DELAY)).await;
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

/// Sends the prompt piece by piece for this long.
async fn speak(request: &CompletionRequest, delay: Duration) {
    let words: Vec<&str> = request
        .prompt
        .split_inclusive(char::is_whitespace)
        .collect();
    let steps = delay.div_duration_f64(STEP).ceil().max(1.0) as usize;
    let step = delay / u32::try_from(steps).unwrap_or(u32::MAX);
    let mut sent = 0;
    for n in 1..=steps {
        tokio::time::sleep(step).await;
        let until = words.len() * n / steps;
        request.progress.push_text(&words[sent..until].concat());
        sent = until;
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

    #[tokio::test]
    async fn a_slow_answer_comes_in_pieces() {
        let request = request(&"word ".repeat(50), json!({"delay_ms": 10_000}));
        let progress = request.progress.clone();
        let begins = async {
            loop {
                tokio::time::sleep(Duration::from_millis(10)).await;
                match progress.take_text() {
                    text if text.is_empty() => {}
                    text => return text,
                }
            }
        };
        tokio::select! {
            _ = Echo.complete(request) => panic!("the answer came at once"),
            text = begins => assert!(text.starts_with("word ") && text.len() < 250),
        }
    }
}

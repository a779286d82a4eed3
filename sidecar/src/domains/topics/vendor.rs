//! What searches have in common: a request to a vendor, which is not repeated if the vendor may charge for it twice.

use std::time::Duration;

use kijko_core::{
    jobs::Failure,
    outbound::{Client, Limits, OutboundError, RequestBuilder, StatusCode, retry_after},
};
use serde_json::{Value, json};

use crate::llm::parse;

/// The limits of a search.
pub(super) const LIMITS: Limits = Limits {
    connect_timeout: Duration::from_secs(10),
    total_timeout: Duration::from_secs(90),
    idle_timeout: Duration::from_secs(60),
    max_bytes: 4 << 20,
};

/// How often a vendor that did nothing is asked.
const TRIES: u32 = 3;
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(20);

/// Why a search has no answer, and what it cost: `None` for nothing.
pub(super) type Refused = (Failure, Option<Value>);

/// What is settled when nobody knows what the vendor charges.
pub(super) fn unknown() -> Value {
    json!({"unknown": true})
}

/// Asks, and reads the answer as JSON.
pub(super) async fn ask(
    client: &Client,
    name: &str,
    request: impl Fn() -> RequestBuilder,
) -> Result<Value, Refused> {
    for attempt in 1.. {
        let pause = match client.send(request()).await {
            Err(OutboundError::Unreachable(_)) if attempt < TRIES => Duration::from_secs(2),
            Err(error) => return Err(no_answer(name, &error)),
            Ok(answer) if is_busy(answer.status()) && attempt < TRIES => {
                retry_after(answer.headers()).unwrap_or(Duration::from_secs(4))
            }
            Ok(answer) if !answer.status().is_success() => {
                return Err(refusal(name, answer.status()));
            }
            Ok(answer) => {
                let body = answer.bytes().await;
                let body = body.map_err(|error| no_answer(name, &error))?;
                // One of many small values would take fifty times its bytes.
                return parse(&body).map_err(|_| unreadable(name));
            }
        };
        tokio::time::sleep(pause.min(MAX_PAUSE)).await;
    }
    unreachable!("the last try returns")
}

fn unreadable(name: &str) -> Refused {
    let message = format!("{name} answered something that is not JSON, or has too many values");
    (
        Failure::permanent("vendor_answer_invalid", message),
        Some(unknown()),
    )
}

/// The vendor did nothing, and may soon do it.
fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 503)
}

fn no_answer(name: &str, error: &OutboundError) -> Refused {
    tracing::warn!(vendor = name, %error, "a search has no answer");
    let failure = Failure::transient("vendor_failed", format!("{name} does not answer"));
    match error {
        OutboundError::Setup(_) | OutboundError::Unreachable(_) => (failure, None),
        _ => (failure, Some(unknown())),
    }
}

fn refusal(name: &str, status: StatusCode) -> Refused {
    let message = format!("{name} answered {}", status.as_u16());
    match status.as_u16() {
        401 | 403 => (Failure::permanent("vendor_not_allowed", message), None),
        // Tavily's plan is used up.
        429 | 432 | 433 => (Failure::transient("vendor_busy", message), None),
        400..=499 => (Failure::permanent("vendor_refused", message), None),
        503 => (Failure::transient("vendor_failed", message), None),
        _ => (
            Failure::transient("vendor_failed", message),
            Some(unknown()),
        ),
    }
}

/// A member of an object that is a text.
pub(super) fn text(value: &Value, names: &[&str]) -> String {
    let mut found = names.iter().filter_map(|name| value[*name].as_str());
    found
        .find(|it| !it.trim().is_empty())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_takes_no_more_memory_than_it_may() {
        let code = |body: &str| match parse(body.as_bytes()).map_err(|_| unreadable("Search")) {
            Ok(_) => "ok".to_owned(),
            Err((failure, _)) => failure.code.into_owned(),
        };
        let text = "x".repeat(1_000);
        let result = json!({"url": "https://a.example", "title": "t", "content": text});
        let results = json!({ "results": vec![result; 2_000] });
        assert_eq!(code(&results.to_string()), "ok");
        let many = format!("[{}0]", "[],".repeat((4 << 20) / 4));
        let deep = "[".repeat(1 << 20);
        for hostile in [many.as_str(), deep.as_str(), "<html>"] {
            assert_eq!(code(hostile), "vendor_answer_invalid");
        }
    }
}

//! From what went wrong at a vendor to one of our faults.

use std::time::{Duration, SystemTime};

use kijko_core::{
    outbound::{
        OutboundError,
        header::{HeaderMap, RETRY_AFTER},
    },
    secret::Secret,
};
use serde_json::Value;

use super::{
    error::{LlmError, LlmFault},
    frames::parse,
    redact,
    vendor::Vendor,
};

/// Characters of a vendor's message that an execution keeps.
const MAX_QUOTE: usize = 500;

/// A longer wait is cut: the queue retries anyway.
const MAX_WAIT: Duration = Duration::from_secs(3_600);

/// Makes our errors from a vendor's. A vendor's message may repeat anything. The tenant's execution keeps it without data of
/// the operator's account. The log gets its length only, because it may repeat the tenant's prompt.
#[derive(Debug)]
pub(crate) struct Faults<'a> {
    pub vendor: Vendor,
    pub api_key: Option<&'a Secret>,
}

impl Faults<'_> {
    /// The execution gets the kind of error; the log has the cause, without address and key.
    pub(crate) fn outbound(&self, error: &OutboundError) -> LlmError {
        if let OutboundError::TooLarge(_) = error {
            return LlmError::new(LlmFault::TooLarge, error.to_string());
        }
        let cause = self.redact(&error.to_string());
        tracing::warn!(vendor = self.vendor.name(), cause, "the call failed");
        match error {
            OutboundError::TimedOut(_) => {
                LlmError::new(LlmFault::TimedOut, "the vendor did not answer in time")
            }
            OutboundError::Silent(_) => LlmError::new(
                LlmFault::TimedOut,
                "the vendor was silent for too long within its answer",
            ),
            OutboundError::Broken(_) => truncated(),
            _ => LlmError::new(LlmFault::Unavailable, "the vendor could not be reached"),
        }
    }

    /// An error as an event of an answer that began well.
    pub(crate) fn event(&self, body: &Value) -> LlmError {
        let error = VendorError::read(body);
        self.refused(error.status(), &error, None)
    }

    /// An answer with another status than 2xx.
    pub(crate) fn refusal(&self, status: u16, body: &[u8], headers: &HeaderMap) -> LlmError {
        let error =
            parse(body).map_or_else(|_| VendorError::default(), |body| VendorError::read(&body));
        let wait = requested_wait(headers, SystemTime::now());
        self.refused(Some(status), &error, wait)
    }

    fn refused(
        &self,
        status: Option<u16>,
        error: &VendorError,
        wait: Option<Duration>,
    ) -> LlmError {
        let fault = error.fault(status);
        let message = match error.message.as_str() {
            "" => "without a reason",
            message => message,
        };
        let quoted = self.quote(message);
        let http = status
            .map(|status| format!(" (HTTP {status})"))
            .unwrap_or_default();
        let message = match fault {
            // The operator's account, not the tenant's: OpenAI quotes part of the key in these.
            LlmFault::Auth => "the vendor does not accept the key it was given".to_owned(),
            LlmFault::QuotaExhausted => "the account with the vendor is exhausted".to_owned(),
            LlmFault::RateLimited => "the vendor accepts no more requests at the moment".to_owned(),
            LlmFault::Overloaded => "the vendor is overloaded".to_owned(),
            LlmFault::Unavailable => format!("the vendor is not available{http}"),
            LlmFault::TimedOut => "the vendor ran out of time".to_owned(),
            LlmFault::ContextTooLong => {
                format!("the prompt is longer than the model takes: {quoted}")
            }
            _ if status.is_some_and(|status| (300..400).contains(&status)) => {
                format!("the vendor answered with a redirect{http}, which is not followed")
            }
            _ => format!("the vendor refused{http}: {quoted}"),
        };
        tracing::warn!(
            vendor = self.vendor.name(),
            status,
            code = fault.code(),
            message_bytes = error.message.len(),
            "the vendor refused"
        );
        LlmError {
            fault,
            message,
            retry_after: wait.or(error.wait),
        }
    }

    /// A vendor's message for the tenant: short, and without data of the operator's account.
    pub(crate) fn quote(&self, text: &str) -> String {
        self.redact(text).chars().take(MAX_QUOTE).collect()
    }

    fn redact(&self, text: &str) -> String {
        let text = self
            .api_key
            .map_or_else(|| text.to_owned(), |key| key.redact(text));
        redact::account(&text)
    }
}

pub(crate) fn truncated() -> LlmError {
    LlmError::new(LlmFault::Truncated, "the vendor's answer broke off")
}

pub(crate) fn malformed() -> LlmError {
    LlmError::new(
        LlmFault::Malformed,
        "the vendor's answer does not follow its protocol",
    )
}

/// A vendor's description of an error.
#[derive(Debug, Default)]
struct VendorError {
    message: String,
    /// Everything that names the kind: OpenAI's `type` and `code`, Anthropic's `type`, Gemini's `status` and reasons.
    names: Vec<String>,
    number: Option<u16>,
    wait: Option<Duration>,
}

impl VendorError {
    /// `{"error": {"message", "type", "code", "status", "details"}}` in general; some servers send `{"error": "…"}` or
    /// `{"message": "…"}`, and Gemini at times the first of these in a list.
    fn read(body: &Value) -> Self {
        let body = body.get(0).unwrap_or(body);
        let error = body.get("error").unwrap_or(body);
        let details = error
            .get("details")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let names = ["type", "code", "status"]
            .iter()
            .filter_map(|name| error.get(*name));
        let reasons = details.iter().filter_map(|detail| detail.get("reason"));
        Self {
            message: error
                .get("message")
                .or(Some(error))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            names: names
                .chain(reasons)
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect(),
            number: error
                .get("code")
                .and_then(Value::as_u64)
                .and_then(|code| u16::try_from(code).ok()),
            wait: details
                .iter()
                .find_map(|detail| seconds(detail.get("retryDelay")?.as_str()?.strip_suffix('s')?)),
        }
    }

    fn is(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    fn mentions(&self, text: &str) -> bool {
        self.message.contains(text)
    }

    /// The HTTP status that an error inside a stream would have had.
    fn status(&self) -> Option<u16> {
        let by_name = [
            ("invalid_request_error", 400),
            ("authentication_error", 401),
            ("billing_error", 402),
            ("permission_error", 403),
            ("not_found_error", 404),
            ("rate_limit_error", 429),
            ("rate_limit_exceeded", 429),
            ("insufficient_quota", 429),
            ("timeout_error", 408),
            ("overloaded_error", 529),
        ];
        self.number.or_else(|| {
            by_name
                .iter()
                .find(|(name, _)| self.is(name))
                .map(|(_, status)| *status)
        })
    }

    fn fault(&self, status: Option<u16>) -> LlmFault {
        // Names first: they are more precise than the status.
        if self.is("insufficient_quota")
            || self.is("billing_error")
            || self.mentions("credit balance is too low")
        {
            return LlmFault::QuotaExhausted;
        }
        if self.is("context_length_exceeded")
            || self.mentions("prompt is too long")
            || self.mentions("maximum context length")
            || (self.mentions("input token count") && self.mentions("exceeds"))
        {
            return LlmFault::ContextTooLong;
        }
        if self.is("API_KEY_INVALID") {
            return LlmFault::Auth;
        }
        match status {
            Some(401 | 403) => LlmFault::Auth,
            Some(402) => LlmFault::QuotaExhausted,
            Some(404) => LlmFault::ModelNotAvailable,
            Some(408) => LlmFault::TimedOut,
            Some(429) => LlmFault::RateLimited,
            Some(529) => LlmFault::Overloaded,
            // Without a status it is an error in the middle of a stream, of an unknown kind.
            None | Some(409 | 425 | 500..=599) => LlmFault::Unavailable,
            _ => LlmFault::Rejected,
        }
    }
}

/// `retry-after-ms`, or `retry-after` as seconds or an HTTP date.
fn requested_wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim().to_owned());
    if let Some(wait) = text("retry-after-ms").and_then(|text| seconds(&text)) {
        return Some(wait / 1_000);
    }
    let value = text(RETRY_AFTER.as_str())?;
    seconds(&value).or_else(|| {
        let date = httpdate::parse_http_date(&value).ok()?;
        Some(date.duration_since(now).unwrap_or_default().min(MAX_WAIT))
    })
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0)
        .then(|| Duration::from_secs_f64(seconds.min(MAX_WAIT.as_secs_f64())))
}

//! How asking a model can fail, and which failures another attempt may cure.

use std::time::Duration;

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LlmFault {
    /// No such provider here, or the vendor has no such model.
    ModelNotAvailable,
    /// The vendor does not accept our key.
    Auth,
    /// Too many requests at the moment.
    RateLimited,
    /// The account with the vendor is used up.
    QuotaExhausted,
    /// The vendor is down, or cannot be reached.
    Unavailable,
    /// The vendor did not answer in time.
    TimedOut,
    /// The answer broke off.
    Truncated,
    /// The answer is not what the protocol says.
    Malformed,
    /// The answer is larger than we accept.
    TooLarge,
    /// The vendor does not take this request (a parameter, the prompt's length, …).
    Rejected,
    /// The model declines to answer.
    Refused,
}

/// A failed call. The message goes into the tenant's execution, so it holds no key, no address and no foreign body.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct LlmError {
    /// What kind.
    pub fault: LlmFault,
    /// For the person whose skill it is.
    pub message: String,
    /// How long the vendor asks us to wait.
    pub retry_after: Option<Duration>,
}

impl LlmError {
    /// A failure without a wish for when to come back.
    pub fn new(fault: LlmFault, message: impl Into<String>) -> Self {
        Self {
            fault,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The name that executions carry in `error_code`.
    pub fn code(&self) -> &'static str {
        match self.fault {
            LlmFault::ModelNotAvailable => "model_not_available",
            LlmFault::Auth => "vendor_auth",
            LlmFault::RateLimited => "vendor_rate_limited",
            LlmFault::QuotaExhausted => "vendor_quota_exhausted",
            LlmFault::Unavailable => "vendor_unavailable",
            LlmFault::TimedOut => "vendor_timeout",
            LlmFault::Truncated => "vendor_truncated",
            LlmFault::Malformed => "vendor_malformed",
            LlmFault::TooLarge => "vendor_too_large",
            LlmFault::Rejected => "vendor_rejected",
            LlmFault::Refused => "vendor_refused",
        }
    }

    /// Whether asking again may help. What depends only on the request, the key or the configuration does not.
    pub fn retryable(&self) -> bool {
        matches!(
            self.fault,
            LlmFault::RateLimited
                | LlmFault::Unavailable
                | LlmFault::TimedOut
                | LlmFault::Truncated
                | LlmFault::Malformed
        )
    }
}

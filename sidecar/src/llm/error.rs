//! How a call of a model can fail, and which failures another attempt may not repeat.

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
    /// The account with the vendor is exhausted.
    QuotaExhausted,
    /// The vendor is overloaded.
    Overloaded,
    /// The vendor is down, or cannot be reached.
    Unavailable,
    /// The vendor did not answer in time, or was silent for too long within its answer.
    TimedOut,
    /// The answer broke off.
    Truncated,
    /// The answer does not follow the vendor's protocol.
    Malformed,
    /// The answer is larger than we accept.
    TooLarge,
    /// The prompt is longer than the model takes.
    ContextTooLong,
    /// The vendor does not accept this request (a parameter, …).
    Rejected,
    /// The model, or a filter before it, declines to answer.
    Refused,
    /// The model stopped before its answer was complete.
    Stopped,
    /// The answer was cut at the token limit before any of it could be used.
    CutOff,
    /// The model ended with an empty answer.
    Empty,
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

impl LlmFault {
    /// The name that executions carry in `error_code`. Programs act on these: they do not change (docs/reference/errors.md).
    pub fn code(self) -> &'static str {
        match self {
            Self::ModelNotAvailable => "model_not_available",
            Self::Auth => "vendor_auth",
            Self::RateLimited => "vendor_rate_limited",
            Self::QuotaExhausted => "vendor_quota_exhausted",
            Self::Overloaded => "vendor_overloaded",
            Self::Unavailable => "vendor_unavailable",
            Self::TimedOut => "vendor_timeout",
            Self::Truncated => "vendor_truncated",
            Self::Malformed => "vendor_malformed",
            Self::TooLarge => "vendor_too_large",
            Self::ContextTooLong => "context_too_long",
            Self::Rejected => "vendor_rejected",
            Self::Refused => "model_refused",
            Self::Stopped => "model_stopped",
            Self::CutOff => "output_truncated",
            Self::Empty => "output_empty",
        }
    }

    /// Whether a retry may help. What depends only on the request, the key or the configuration does not.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::Overloaded
                | Self::Unavailable
                | Self::TimedOut
                | Self::Truncated
                | Self::Malformed
                | Self::Empty
        )
    }

    /// Whether the vendor failed and not the call: other calls to it would fail, too.
    pub fn is_outage(self) -> bool {
        matches!(
            self,
            Self::RateLimited | Self::Overloaded | Self::Unavailable
        )
    }

    /// Whether the operator should look at the vendor. Other faults concern the skill and its model.
    pub fn is_vendors(self) -> bool {
        self != Self::Empty && self.retryable() || matches!(self, Self::Auth | Self::QuotaExhausted)
    }
}

impl LlmError {
    /// A failure without `retry_after`.
    pub fn new(fault: LlmFault, message: impl Into<String>) -> Self {
        Self {
            fault,
            message: message.into(),
            retry_after: None,
        }
    }

    /// [`LlmFault::code`].
    pub fn code(&self) -> &'static str {
        self.fault.code()
    }

    /// [`LlmFault::retryable`].
    pub fn retryable(&self) -> bool {
        self.fault.retryable()
    }
}

//! Why an attempt brought no answer, and who may be tried next.

use super::error::ApiError;
use crate::llm::{LlmError, LlmFault};

/// Why an attempt brought no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The vendor's fault, or its refusal.
    Vendor(LlmError),
    /// This target does not take such a request.
    Unfit(ApiError),
    /// Too many calls of this provider at once.
    Busy,
    /// There is nobody to answer any more.
    ClientGone,
}

impl From<LlmError> for Failure {
    fn from(error: LlmError) -> Self {
        Self::Vendor(error)
    }
}

impl Failure {
    /// For the client.
    pub(super) fn error(&self) -> ApiError {
        match self {
            Self::Vendor(error) => ApiError::of_vendor(error),
            Self::Unfit(error) => error.clone(),
            Self::Busy => {
                let message = "too many calls of this provider at once; try again";
                ApiError::new(429, "provider_busy", message).retry_after(1)
            }
            Self::ClientGone => ApiError::new(499, "client_closed_request", "the client is gone"),
        }
    }

    /// Whether the same target may answer another time.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Vendor(error) => error.retryable() && error.fault != LlmFault::Empty,
            Self::Busy => true,
            Self::Unfit(_) | Self::ClientGone => false,
        }
    }

    /// Whether another target may answer. What the vendor says of the request itself holds there, too.
    pub(super) fn may_fall_back(&self) -> bool {
        match self {
            Self::Vendor(error) => !matches!(
                error.fault,
                LlmFault::Rejected | LlmFault::ContextTooLong | LlmFault::TooLarge
            ),
            Self::Busy | Self::Unfit(_) => true,
            Self::ClientGone => false,
        }
    }
}

//! How faults of vendors and of prompts end a job.

use kijko_core::jobs::{Failure, HandlerError};

use crate::{llm::LlmError, sandbox::PromptError};

impl From<LlmError> for HandlerError {
    fn from(error: LlmError) -> Self {
        Self::Failed(Failure {
            code: error.code().into(),
            retryable: error.retryable(),
            retry_after: error.retry_after,
            outage: error.fault.is_outage(),
            message: error.message,
        })
    }
}

impl From<PromptError> for HandlerError {
    fn from(error: PromptError) -> Self {
        Self::Failed(match &error {
            PromptError::Sandbox(cause) => {
                tracing::error!(cause, "the sandbox failed");
                Failure::internal()
            }
            _ => Failure::permanent(error.code(), error.to_string()),
        })
    }
}

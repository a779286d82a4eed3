//! What a call holds before each of its attempts.

use kijko_core::error::Error;

use super::{
    attempt::Attempt,
    error::ApiError,
    failure::Failure,
    gateway::Gateway,
    store::{Opened, Spent, Target},
};

/// The index of the target that a call holds for when it is opened.
pub(super) const HELD_FIRST: i32 = 0;

/// Why nothing is held for an attempt.
pub(super) enum Refused {
    /// It has no room, and nothing has changed.
    NoRoom(Failure),
    /// The call is settled, or the database did not say.
    Ended(Failure),
}

impl Gateway {
    /// The hold for one more attempt. An opened call holds for a first attempt at its first target.
    pub(super) async fn hold(
        &self,
        opened: &Opened,
        target: &Target,
        attempts: u32,
        (held, last): (i32, &Attempt),
    ) -> Result<(), Refused> {
        let spent = match attempts {
            0 if target.index == HELD_FIRST => return Ok(()),
            0 => Spent::Unsent,
            _ => last.spent(opened.input_tokens_of(held)),
        };
        let failed = |status, code: &str, message: Option<String>| {
            let message = message.unwrap_or_else(|| "no further attempt is possible".to_owned());
            Failure::Unfit(ApiError::new(status, code, message).final_answer())
        };
        let raised = self.calls.raise(opened.call_id, target.index, spent);
        match raised.await {
            Err(error) => Err(Refused::Ended(Failure::Unfit(Error::from(error).into()))),
            Ok(None) => Err(Refused::Ended(failed(503, "unavailable", None))),
            Ok(Some(raised)) => match raised.refused {
                None => Ok(()),
                Some(code) => Err(Refused::NoRoom(failed(429, &code, raised.message))),
            },
        }
    }
}

//! What follows an attempt: the end, or another one. Free of Postgres.

use std::time::Duration;

use super::outcome::{Outcome, Reason};

/// After which time each failed attempt is repeated, as Standard Webhooks recommends; the last one holds for all later ones.
const SCHEDULE: [u64; 9] = [
    5,
    5 * 60,
    30 * 60,
    2 * 3_600,
    5 * 3_600,
    10 * 3_600,
    14 * 3_600,
    20 * 3_600,
    24 * 3_600,
];
/// Retry-After is respected up to here.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3_600);
const GONE: u16 = 410;

/// What becomes of the request.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Succeeded,
    /// With the reason.
    Dead(&'static str),
    /// When it is repeated, and why.
    Retry(Duration, &'static str),
}

/// `jitter` is a random number from 0 to 1.
pub fn next(outcome: &Outcome, max_attempts: i32, jitter: f64) -> Next {
    let reason = match &outcome.answer {
        Ok(_) if outcome.succeeded() => return Next::Succeeded,
        Ok(answer) if answer.status == GONE => return Next::Dead("gone"),
        Ok(_) => "status",
        // Another attempt would end the same way.
        Err(failure) if matches!(failure.reason, Reason::AddressRefused | Reason::Expired) => {
            return Next::Dead(failure.reason.code());
        }
        Err(failure) => failure.reason.code(),
    };
    if outcome.attempt >= max_attempts {
        return Next::Dead("attempts_exhausted");
    }
    let asked = match &outcome.answer {
        Ok(answer) => answer.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER),
        Err(_) => Duration::ZERO,
    };
    Next::Retry(pause(outcome.attempt, jitter).max(asked), reason)
}

/// A fifth more or less, so that what failed together is not repeated together.
fn pause(attempt: i32, jitter: f64) -> Duration {
    let step = (attempt.max(1) - 1) as usize;
    let seconds = SCHEDULE[step.min(SCHEDULE.len() - 1)];
    Duration::from_secs(seconds).mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::outbox::outcome::{Answer, Failure};

    fn answered(status: u16, retry_after: Option<u64>) -> Outcome {
        outcome(Ok(Answer {
            status,
            retry_after: retry_after.map(Duration::from_secs),
            ..Answer::default()
        }))
    }

    fn failed(reason: Reason) -> Outcome {
        outcome(Err(Failure {
            reason,
            text: String::new(),
        }))
    }

    fn outcome(answer: Result<Answer, Failure>) -> Outcome {
        Outcome {
            id: [0; 16],
            attempt: 1,
            started_at: 0,
            duration: Duration::ZERO,
            answer,
        }
    }

    #[test]
    fn success_and_final_refusals_end_it() {
        assert_eq!(next(&answered(204, None), 10, 0.5), Next::Succeeded);
        assert_eq!(next(&answered(410, None), 10, 0.5), Next::Dead("gone"));
        assert_eq!(
            next(&failed(Reason::AddressRefused), 10, 0.5),
            Next::Dead("address_refused")
        );
        assert_eq!(
            next(&answered(500, None), 1, 0.5),
            Next::Dead("attempts_exhausted")
        );
    }

    #[test]
    fn all_else_is_repeated() {
        for status in [302, 400, 404, 429, 500, 503] {
            assert_eq!(
                next(&answered(status, None), 10, 0.5),
                Next::Retry(Duration::from_secs(5), "status")
            );
        }
        for reason in [
            Reason::Broken,
            Reason::TimedOut,
            Reason::Unreachable,
            Reason::SecretUnavailable,
        ] {
            assert_eq!(
                next(&failed(reason), 10, 0.5),
                Next::Retry(Duration::from_secs(5), reason.code())
            );
        }
    }

    #[test]
    fn retry_after_can_only_postpone() {
        assert_eq!(
            next(&answered(429, Some(60)), 10, 0.5),
            Next::Retry(Duration::from_secs(60), "status")
        );
        assert_eq!(
            next(&answered(429, Some(1)), 10, 0.5),
            Next::Retry(Duration::from_secs(5), "status")
        );
        assert_eq!(
            next(&answered(429, Some(u64::MAX)), 10, 0.5),
            Next::Retry(MAX_RETRY_AFTER, "status")
        );
    }

    #[test]
    fn pauses_grow_and_vary_by_a_fifth() {
        let pauses: Vec<_> = (1..=12).map(|attempt| pause(attempt, 0.5)).collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses[11], Duration::from_secs(24 * 3_600));
        assert_eq!(pause(1, 0.0), Duration::from_secs(4));
        assert_eq!(pause(1, 1.0), Duration::from_secs(6));
    }
}

//! What became of an attempt. Free of Postgres.

use std::time::Duration;

/// As `kijko.http_requests` names it.
pub type Id = [u8; 16];

/// An attempt to be made.
#[derive(Debug)]
pub struct Call {
    pub id: Id,
    pub attempt: i32,
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
    pub timeout: Duration,
}

/// An attempt that has ended.
#[derive(Debug)]
pub struct Outcome {
    pub id: Id,
    pub attempt: i32,
    /// Microseconds since 1970.
    pub started_at: i64,
    pub duration: Duration,
    pub answer: Result<Answer, Failure>,
}

#[derive(Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Its first bytes.
    pub body: Vec<u8>,
    /// Whether there were more.
    pub truncated: bool,
    /// What Retry-After says.
    pub retry_after: Option<Duration>,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Failure {
    pub reason: Reason,
    /// For the operator, without the URL.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    AddressRefused,
    Broken,
    /// Its time was over before the attempt.
    Expired,
    SecretUnavailable,
    TimedOut,
    Unreachable,
}

impl Reason {
    /// As the column error_code has it.
    pub fn code(self) -> &'static str {
        match self {
            Self::AddressRefused => "address_refused",
            Self::Broken => "broken",
            Self::Expired => "expired",
            Self::SecretUnavailable => "secret_unavailable",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
        }
    }
}

/// Why attempts fail, with the figures of `kijko.stats()` that count them.
pub const FAULTS: [(&str, &str); 7] = [
    ("address_refused", "outbox.failed_address_refused"),
    ("broken", "outbox.failed_broken"),
    ("expired", "outbox.failed_expired"),
    ("secret_unavailable", "outbox.failed_secret_unavailable"),
    ("status", "outbox.failed_status"),
    ("timed_out", "outbox.failed_timed_out"),
    ("unreachable", "outbox.failed_unreachable"),
];

impl Outcome {
    /// Why it failed: one of [`FAULTS`]. None for a success.
    pub fn fault(&self) -> Option<&'static str> {
        match &self.answer {
            Ok(_) if self.succeeded() => None,
            Ok(_) => Some("status"),
            Err(failure) => Some(failure.reason.code()),
        }
    }

    pub fn succeeded(&self) -> bool {
        matches!(&self.answer, Ok(answer) if (200..300).contains(&answer.status))
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn every_fault_has_a_figure() {
        let outcome = |answer| Outcome {
            id: [0; 16],
            attempt: 1,
            started_at: 0,
            duration: Duration::ZERO,
            answer,
        };
        let answered = |status| {
            outcome(Ok(Answer {
                status,
                ..Answer::default()
            }))
        };
        assert_eq!(answered(204).fault(), None);
        let mut faults = vec![answered(500).fault().unwrap()];
        for reason in [
            Reason::AddressRefused,
            Reason::Broken,
            Reason::Expired,
            Reason::SecretUnavailable,
            Reason::TimedOut,
            Reason::Unreachable,
        ] {
            let text = String::new();
            faults.extend(outcome(Err(Failure { reason, text })).fault());
        }
        faults.sort_unstable();
        assert_eq!(faults, FAULTS.map(|(fault, _)| fault));
    }
}

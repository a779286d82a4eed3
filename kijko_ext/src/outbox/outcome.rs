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
            Self::SecretUnavailable => "secret_unavailable",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
        }
    }
}

impl Outcome {
    pub fn succeeded(&self) -> bool {
        matches!(&self.answer, Ok(answer) if (200..300).contains(&answer.status))
    }
}

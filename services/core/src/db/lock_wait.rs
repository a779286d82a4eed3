//! How long the statements of a task wait for a lock.
//!
//! A job that has done nothing yet should not wait long for rows that another transaction holds: it keeps a connection and a slot from
//! the jobs of others. So its first statement soon gives way, and is repeated, without a connection in between. What gives way was
//! rolled back.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// One try. Shorter than `deadlock_timeout`: the job gives way.
const TRY: Duration = Duration::from_millis(500);
/// All tries together.
const TRIES: Duration = Duration::from_secs(2);

/// How long a task waits for locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockWait {
    /// As long as a statement may take.
    Statement,
    /// Briefly: of a job that has not begun.
    Brief,
}

tokio::task_local! {
    static CURRENT: LockWait;
}

impl LockWait {
    /// Runs `work`, whose statements wait so.
    pub(crate) async fn of<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// Of this task.
    pub(super) fn current() -> Self {
        CURRENT.try_with(|wait| *wait).unwrap_or(Self::Statement)
    }

    /// How long one try waits; None: as long as a statement may take.
    pub(super) fn limit(self) -> Option<Duration> {
        match self {
            Self::Statement => None,
            Self::Brief => Some(TRY),
        }
    }

    /// `lock_timeout` in milliseconds; 0 is none.
    pub(super) fn setting(self) -> String {
        self.limit().unwrap_or_default().as_millis().to_string()
    }

    /// The tries of a statement.
    pub(super) fn tries(self) -> Tries {
        let total = match self {
            Self::Statement => Duration::ZERO,
            Self::Brief => TRIES,
        };
        Tries {
            until: Instant::now() + total,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(1)),
        }
    }
}

/// The tries of one statement.
pub(super) struct Tries {
    until: Instant,
    backoff: Backoff,
}

impl Tries {
    /// How long to wait before the next one; None: there is none.
    pub(super) fn next(&mut self) -> Option<Duration> {
        let pause = self.backoff.next_delay();
        (Instant::now() + pause < self.until).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_statement_of_a_job_waits_in_tries_and_others_in_one() {
        let of_task = || {
            let wait = LockWait::current();
            (wait.setting(), wait.tries().next().is_some())
        };
        assert_eq!(of_task(), ("0".to_owned(), false));
        let brief = LockWait::Brief.of(async { of_task() }).await;
        assert_eq!(brief, ("500".to_owned(), true));
    }
}

//! Retries while the database is unreachable or busy.

use std::time::{Duration, Instant};

use super::error::DbError;
use crate::backoff::Backoff;

/// Retries until the call succeeds or fails permanently. While the database is unreachable it retries without end; the
/// caller sets the limit (a lease, for example). Transient errors and timeouts of a reachable database are retried for
/// `limit`.
pub async fn retry_transient<T, F>(limit: Duration, call: impl Fn() -> F) -> Result<T, DbError>
where
    F: Future<Output = Result<T, DbError>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut refused_since = None;
    loop {
        match call().await {
            Err(error) if error.is_transient() => {
                if error.is_away() {
                    refused_since = None;
                } else if refused_since.get_or_insert_with(Instant::now).elapsed() >= limit {
                    return Err(error);
                }
                let delay = backoff.next_delay();
                tracing::warn!(%error, retry_in_ms = delay.as_millis() as u64, "a call of the database failed; retrying");
                tokio::time::sleep(delay).await;
            }
            done => return done,
        }
    }
}

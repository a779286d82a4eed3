//! Is this a session connection? LISTEN needs one: behind a transaction pooler each statement may run in another
//! backend, and notifications are lost without any error.

use std::time::Duration;

use tokio_postgres::Client;

use super::{DbError, connector, with_causes};
use crate::config::DatabaseConfig;

/// What the check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionCheck {
    /// Each connection has a backend of its own.
    Session,
    /// Connections share backends.
    TransactionPooler,
}

/// Two connections at once, the second inside a transaction. With sessions each keeps a backend of its own. A pooler
/// that works by transaction gives the second one the backend that the first just left, and the first another one.
pub async fn check_session(config: &DatabaseConfig) -> Result<SessionCheck, DbError> {
    let check = async {
        let first = connect(config).await?;
        let second = connect(config).await?;
        let before = backend(&first).await?;
        second.batch_execute("begin").await?;
        let other = backend(&second).await?;
        let after = backend(&first).await?;
        second.batch_execute("rollback").await?;
        Ok(verdict(before, other, after))
    };
    // Four round trips, each with the time that one call may take.
    let limit = config
        .timeout
        .saturating_mul(4)
        .min(Duration::from_secs(60));
    tokio::time::timeout(limit, check)
        .await
        .unwrap_or(Err(DbError::TimedOut(limit)))
}

fn verdict(before: i32, other: i32, after: i32) -> SessionCheck {
    if before == after && before != other {
        SessionCheck::Session
    } else {
        SessionCheck::TransactionPooler
    }
}

async fn connect(config: &DatabaseConfig) -> Result<Client, DbError> {
    let (client, connection) = config.postgres.connect(connector(&config.tls)?).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(
                error = with_causes(&error),
                "the session check's connection broke"
            );
        }
    });
    Ok(client)
}

/// By the simple protocol: a prepared statement would itself fail behind a transaction pooler, and less clearly.
async fn backend(client: &Client) -> Result<i32, DbError> {
    let messages = client
        .simple_query("select pg_catalog.pg_backend_pid()")
        .await?;
    messages
        .iter()
        .find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        })
        .ok_or_else(|| DbError::Unexpected("no backend id".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_backends_are_sessions_and_shared_ones_are_a_pooler() {
        assert_eq!(verdict(1, 2, 1), SessionCheck::Session);
        assert_eq!(
            verdict(1, 1, 2),
            SessionCheck::TransactionPooler,
            "the second got the backend that the first left"
        );
        assert_eq!(
            verdict(1, 2, 3),
            SessionCheck::TransactionPooler,
            "the first was moved"
        );
    }
}

//! Is this a session connection? LISTEN needs one: behind a transaction pooler each statement may run in another
//! backend, and notifications are lost without any error.

use std::time::Duration;

use tokio_postgres::{Client, Connection, Socket, tls::MakeTlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    config::DatabaseConfig,
    error::{DbError, with_causes},
    tls::connector,
};

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
    let (first, second) = tokio::try_join!(client(config), client(config))?;
    let check = async {
        let before = backend(&first).await?;
        second.batch_execute("begin").await?;
        let other = backend(&second).await?;
        let after = backend(&first).await?;
        second.batch_execute("rollback").await?;
        Ok(verdict(before, other, after))
    };
    within(config.timeout, check).await
}

fn verdict(before: i32, other: i32, after: i32) -> SessionCheck {
    if before == after && before != other {
        SessionCheck::Session
    } else {
        SessionCheck::TransactionPooler
    }
}

type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// Connects, with a timeout for the whole handshake: the driver's own covers only the socket, and a server that accepts and
/// stays silent would block forever.
pub(super) async fn connect(
    config: &DatabaseConfig,
) -> Result<(Client, Connection<Socket, TlsStream>), DbError> {
    let tls = connector(&config.tls, config.identity.as_ref())?;
    within(config.timeout, async {
        Ok(config.postgres.connect(tls).await?)
    })
    .await
}

/// The work's result, unless it takes longer.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, DbError>>,
) -> Result<T, DbError> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or(Err(DbError::TimedOut(limit)))
}

async fn client(config: &DatabaseConfig) -> Result<Client, DbError> {
    let (client, connection) = connect(config).await?;
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

//! A statement in progress: if its caller stops waiting, it is cancelled on the server and not only dropped here.

use std::{sync::Mutex, time::Duration};

use deadpool_postgres::{ClientWrapper, Object};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::with_causes;

/// Timeout for sending the cancellation and for the server's confirmation.
pub(super) const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that runs a statement. Dropped before [`Call::ended`], it cancels the statement, and the connection never
/// returns to the pool: a late cancellation must not hit another caller's statement.
pub(super) struct Call {
    client: Option<Object>,
    tls: MakeRustlsConnect,
    state: Mutex<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Cancelled,
    Ended,
}

impl Call {
    pub(super) fn new(client: Object, tls: MakeRustlsConnect) -> Self {
        Self {
            client: Some(client),
            tls,
            state: Mutex::new(State::Running),
        }
    }

    /// The connection.
    pub(super) fn client(&self) -> &ClientWrapper {
        self.client.as_ref().expect("it is taken by drop only")
    }

    /// The statement has ended by itself.
    pub(super) fn ended(&self) {
        self.set(State::Ended);
    }

    /// Asks the server to cancel the statement.
    pub(super) async fn cancel(&self) {
        self.set(State::Cancelled);
        cancel(self.client(), self.tls.clone()).await;
    }

    fn set(&self, state: State) {
        *self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = state;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let state = *self
            .state
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(client) = self.client.take() else {
            return;
        };
        if state == State::Ended {
            return;
        }
        let client = Object::take(client);
        // Without a runtime the process is about to end; the server's own timeout applies.
        if state == State::Running
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let tls = self.tls.clone();
            runtime.spawn(async move { cancel(&client, tls).await });
        }
    }
}

async fn cancel(client: &ClientWrapper, tls: MakeRustlsConnect) {
    let asked = tokio::time::timeout(CANCEL_TIMEOUT, client.cancel_token().cancel_query(tls)).await;
    match asked {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(error = with_causes(&error), "a statement was not cancelled");
        }
        Err(_) => tracing::debug!("a statement was not cancelled in time"),
    }
}

//! The connection that listens. A notification only ever means "look now": anyone with a database session can send
//! one, so its content is never trusted, and a lost one costs a poll interval, never a job.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{Notify, mpsc::UnboundedSender};
use tokio_postgres::{AsyncMessage, Client, Connection};
use tokio_util::sync::CancellationToken;

use super::{
    config::DatabaseConfig,
    error::DbError,
    session::{SessionCheck, check_session, connect, within},
};
use crate::backoff::Backoff;

/// A silent connection is asked for an answer this often: a dead peer looks the same as a quiet one.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What notifications lead to.
#[derive(Debug, Default)]
pub struct Wakeups {
    /// Jobs may be waiting.
    pub jobs: Notify,
    /// A running job may have been cancelled.
    pub cancels: Notify,
    connected: AtomicBool,
    kinds: OnceLock<Vec<String>>,
    channels: OnceLock<Vec<Channel>>,
}

/// A channel of a domain.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Part of a statement: a plain identifier.
    pub name: &'static str,
    /// What its notifications lead to.
    pub wake: Wake,
}

/// What a notification leads to.
#[derive(Debug, Clone)]
pub enum Wake {
    /// Somebody looks.
    Look(Arc<Notify>),
    /// Somebody looks at what the payload names; after a gap (None) at everything.
    LookAt(UnboundedSender<Option<String>>),
}

impl Channel {
    fn wake(&self, payload: Option<&str>) {
        match &self.wake {
            Wake::Look(notify) => notify.notify_one(),
            // A closed receiver: the service is stopping.
            Wake::LookAt(sender) => {
                let _ = sender.send(payload.map(str::to_owned));
            }
        }
    }
}

impl Wakeups {
    /// Whether notifications arrive at present. If not, work is found by polling.
    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// From now on only jobs of these kinds are a reason to look.
    pub fn only_for(&self, kinds: Vec<String>) {
        let _ = self.kinds.set(kinds);
    }

    /// Channels of the domains, listened to besides those of the queue.
    pub fn also_for(&self, channels: Vec<Channel>) {
        let _ = self.channels.set(channels);
    }

    fn channels(&self) -> &[Channel] {
        self.channels.get().map_or(&[], Vec::as_slice)
    }

    /// Whether jobs of this kind are looked for here; an empty one stands for any.
    fn concerns(&self, kind: &str) -> bool {
        kind.is_empty()
            || self
                .kinds
                .get()
                .is_none_or(|kinds| kinds.iter().any(|asked_for| asked_for == kind))
    }

    fn dispatch(&self, channel: &str, payload: &str) {
        match channel {
            "kijko_jobs" if !self.concerns(payload) => {}
            "kijko_jobs" => self.jobs.notify_one(),
            "kijko_job_cancel" => self.cancels.notify_one(),
            other => match self.channels().iter().find(|one| one.name == other) {
                Some(channel) => channel.wake(Some(payload)),
                None => tracing::debug!(
                    channel = other,
                    "a notification on a channel that is not ours"
                ),
            },
        }
    }

    /// After a gap anything may have been missed.
    fn look_at_everything(&self) {
        self.jobs.notify_one();
        self.cancels.notify_one();
        for channel in self.channels() {
            channel.wake(None);
        }
    }
}

/// Keeps one listening connection up.
#[derive(Debug)]
pub struct Listener {
    /// How to connect.
    pub config: DatabaseConfig,
    /// What to wake.
    pub wakeups: Arc<Wakeups>,
    /// Whether connections were already found to be sessions.
    pub session_checked: bool,
}

impl Listener {
    /// Listens until `stop`, reconnecting whenever the connection ends. Returns early only when the connection turns
    /// out to go through a transaction pooler, which no waiting repairs.
    pub async fn run(mut self, stop: CancellationToken) -> SessionCheck {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return SessionCheck::Session,
                ended = self.listen_once(&mut backoff) => ended,
            };
            self.wakeups.connected.store(false, Ordering::Relaxed);
            let error = match ended {
                Ok(SessionCheck::TransactionPooler) => return SessionCheck::TransactionPooler,
                Ok(SessionCheck::Session) => "the connection was closed".to_owned(),
                Err(error) => error.to_string(),
            };
            let delay = backoff.next_delay();
            tracing::warn!(
                error,
                retry_in_ms = delay.as_millis() as u64,
                "not listening; polling goes on"
            );
            tokio::select! {
                () = stop.cancelled() => return SessionCheck::Session,
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    async fn listen_once(&mut self, backoff: &mut Backoff) -> Result<SessionCheck, DbError> {
        if !self.session_checked {
            if check_session(&self.config).await? == SessionCheck::TransactionPooler {
                return Ok(SessionCheck::TransactionPooler);
            }
            self.session_checked = true;
        }
        let (client, connection) = connect(&self.config).await?;
        let mut messages = std::pin::pin!(messages(connection));
        let mut listen = "listen kijko_jobs; listen kijko_job_cancel".to_owned();
        for channel in self.wakeups.channels() {
            listen.push_str("; listen ");
            listen.push_str(channel.name);
        }
        let listening = client.batch_execute(&listen);
        drive(&mut messages, &self.wakeups, self.config.timeout, listening).await?;
        self.wakeups.connected.store(true, Ordering::Relaxed);
        self.wakeups.look_at_everything();
        backoff.reset();
        tracing::info!("listening");
        self.receive(&client, messages).await
    }

    async fn receive(
        &self,
        client: &Client,
        mut messages: impl Stream<Item = Result<AsyncMessage, tokio_postgres::Error>> + Unpin,
    ) -> Result<SessionCheck, DbError> {
        loop {
            match tokio::time::timeout(KEEPALIVE, messages.next()).await {
                Ok(Some(Ok(message))) => note(&self.wakeups, &message),
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) => return Ok(SessionCheck::Session),
                Err(_) => {
                    drive(
                        &mut messages,
                        &self.wakeups,
                        self.config.timeout,
                        client.batch_execute(""),
                    )
                    .await?
                }
            }
        }
    }
}

fn messages<S, T>(
    mut connection: Connection<S, T>,
) -> impl Stream<Item = Result<AsyncMessage, tokio_postgres::Error>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    stream::poll_fn(move |context| connection.poll_message(context))
}

fn note(wakeups: &Wakeups, message: &AsyncMessage) {
    match message {
        AsyncMessage::Notification(notification) => {
            wakeups.dispatch(notification.channel(), notification.payload())
        }
        AsyncMessage::Notice(notice) => {
            tracing::debug!(notice = notice.message(), "Postgres notices")
        }
        _ => {}
    }
}

/// A request makes progress only while its connection is polled, and the connection may bring notifications meanwhile.
async fn drive(
    messages: &mut (impl Stream<Item = Result<AsyncMessage, tokio_postgres::Error>> + Unpin),
    wakeups: &Wakeups,
    limit: Duration,
    request: impl Future<Output = Result<(), tokio_postgres::Error>>,
) -> Result<(), DbError> {
    let mut request = std::pin::pin!(request);
    let work = async {
        loop {
            tokio::select! {
                done = &mut request => return done.map_err(DbError::from),
                message = messages.next() => match message {
                    Some(Ok(message)) => note(wakeups, &message),
                    Some(Err(error)) => return Err(error.into()),
                    None => return Err(DbError::Unreachable("the connection was closed".to_owned())),
                },
            }
        }
    };
    within(limit, work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_workers_kind_is_no_reason_to_look() {
        let wakeups = Wakeups::default();
        assert!(wakeups.concerns("mail"));
        wakeups.only_for(vec!["report".to_owned()]);
        assert!(wakeups.concerns("report") && wakeups.concerns(""));
        assert!(!wakeups.concerns("mail"));
    }
}

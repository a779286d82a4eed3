//! The writing half of a socket, a task of its own: a client that does not read holds up nobody.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{SinkExt, stream::SplitSink};
use tokio::sync::oneshot;

use crate::{
    hub::{Inbox, Outbox, Outgoing},
    metrics::RealtimeSeries,
    protocol::Version,
};

/// A client that does not take the farewell does not get it.
pub const FAREWELL: Duration = Duration::from_secs(1);

/// Why a socket is closed: a code of RFC 6455 or of our own (4000 and up), and words that a browser can read.
#[derive(Debug, Clone, Copy)]
pub struct Farewell {
    /// The code.
    pub code: u16,
    /// The words, at most 123 bytes.
    pub reason: &'static str,
}

impl Farewell {
    /// A code and words.
    pub const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }

    /// As a frame.
    pub fn frame(self) -> Message {
        Message::Close(Some(CloseFrame {
            code: self.code,
            reason: self.reason.into(),
        }))
    }
}

/// Too many messages waited.
pub const SLOW: Farewell = Farewell::new(4008, "the client does not read fast enough");

/// Writes until the reader says farewell, the client is gone, or the outbox overflows.
pub async fn write(
    mut sink: SplitSink<WebSocket, Message>,
    mut inbox: Inbox,
    outbox: Outbox,
    version: Version,
    series: &RealtimeSeries,
    mut farewell: oneshot::Receiver<Farewell>,
) {
    let last = loop {
        tokio::select! {
            biased;
            () = outbox.overflow() => {
                series.refused("slow");
                break SLOW;
            }
            outgoing = inbox.recv() => {
                let Some(outgoing) = outgoing else { return };
                tokio::select! {
                    sent = send(&mut sink, &mut inbox, outgoing, version, series) => if sent.is_err() { return },
                    () = outbox.overflow() => {
                        series.refused("slow");
                        break SLOW;
                    }
                }
            }
            said = &mut farewell => match said {
                Ok(said) => break said,
                Err(_) => return,
            },
        }
    };
    let _ = tokio::time::timeout(FAREWELL, sink.send(last.frame())).await;
}

/// Everything that waits goes out in one write.
async fn send(
    sink: &mut SplitSink<WebSocket, Message>,
    inbox: &mut Inbox,
    first: Outgoing,
    version: Version,
    series: &RealtimeSeries,
) -> Result<(), axum::Error> {
    let mut next = Some(first);
    while let Some(outgoing) = next {
        let message = match outgoing {
            Outgoing::Broadcast(message) => message.encode(version, false),
            Outgoing::BroadcastOnMe(message) => message.encode(version, true),
            Outgoing::Frame(message) => Some(message),
        };
        if let Some(message) = message {
            series.sent.inc();
            sink.feed(message).await?;
        }
        next = inbox.try_recv().ok();
    }
    sink.flush().await
}

//! Where a socket's messages wait. It is bounded: a socket that does not read loses its connection, not the others their time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::extract::ws::Message;
use tokio::sync::{Notify, mpsc};

use crate::protocol::Broadcast;

/// How long to wait before looking again for room.
const PAUSE: Duration = Duration::from_millis(5);

/// What a connection has to send.
#[derive(Debug)]
pub enum Outgoing {
    /// A broadcast, encoded when it is sent.
    Broadcast(Arc<Broadcast>),
    /// The same on the channel `me`.
    BroadcastOnMe(Arc<Broadcast>),
    /// A frame.
    Frame(Message),
}

/// The sending end.
#[derive(Debug, Clone)]
pub struct Outbox {
    sender: mpsc::Sender<Outgoing>,
    overflow: Arc<Overflow>,
}

#[derive(Debug, Default)]
struct Overflow {
    happened: AtomicBool,
    notify: Notify,
}

impl Outbox {
    /// An outbox of so many messages, and its other end.
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<Outgoing>) {
        let (sender, receiver) = mpsc::channel(capacity);
        let outbox = Self {
            sender,
            overflow: Arc::default(),
        };
        (outbox, receiver)
    }

    /// Adds a message. When there is no room, the socket is to be closed.
    pub fn send(&self, message: Outgoing) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.sender.try_send(message)
            && !self.overflow.happened.swap(true, Ordering::Relaxed)
        {
            self.overflow.notify.notify_one();
        }
    }

    /// Waits until half of the room is free. What a client causes itself, by a replay or by many messages at once, waits here,
    /// and leaves room for what comes from others.
    pub async fn room(&self) {
        while self.sender.capacity() * 2 < self.sender.max_capacity() && !self.sender.is_closed() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether a message was lost.
    pub fn overflowed(&self) -> bool {
        self.overflow.happened.load(Ordering::Relaxed)
    }

    /// Waits until a message is lost.
    pub async fn overflow(&self) {
        while !self.overflowed() {
            self.overflow.notify.notified().await;
        }
    }
}

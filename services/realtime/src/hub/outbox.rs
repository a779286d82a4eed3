//! Where a socket's messages wait. It is bounded in messages and in bytes: a socket that does not read loses its connection, not
//! the others their time and memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::extract::ws::Message;
use tokio::sync::{
    Notify,
    mpsc::{self, error::TryRecvError},
};

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

impl Outgoing {
    fn bytes(&self) -> usize {
        match self {
            Self::Broadcast(message) | Self::BroadcastOnMe(message) => message.bytes(),
            Self::Frame(Message::Text(text)) => text.len(),
            Self::Frame(Message::Binary(bytes)) => bytes.len(),
            Self::Frame(_) => 0,
        }
    }
}

/// A message that waits, unless what it came from has ended meanwhile.
#[derive(Debug)]
struct Waiting {
    outgoing: Outgoing,
    shut: Arc<AtomicBool>,
}

/// The sending end. Each membership has one of its own into the same queue.
#[derive(Debug, Clone)]
pub struct Outbox {
    sender: mpsc::Sender<Waiting>,
    shared: Arc<Shared>,
    shut: Arc<AtomicBool>,
}

/// The receiving end.
#[derive(Debug)]
pub struct Inbox {
    receiver: mpsc::Receiver<Waiting>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    overflowed: AtomicBool,
    notify: Notify,
    bytes: AtomicUsize,
    most_bytes: usize,
}

impl Outbox {
    /// An outbox of so many messages and bytes, and its other end.
    pub fn new(capacity: usize, most_bytes: usize) -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel(capacity);
        let shared = Arc::new(Shared {
            most_bytes,
            ..Shared::default()
        });
        let inbox = Inbox {
            receiver,
            shared: shared.clone(),
        };
        let outbox = Self {
            sender,
            shared,
            shut: Arc::default(),
        };
        (outbox, inbox)
    }

    /// Another one into the same queue, which can be shut alone.
    pub fn branch(&self) -> Self {
        Self {
            shut: Arc::default(),
            ..self.clone()
        }
    }

    /// Whose access has ended gets nothing more, also not what already waits.
    pub fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    /// Adds a message. When there is no room, the socket is to be closed. One message always finds room in an empty queue:
    /// the state of presence has no limit of its own.
    pub fn send(&self, outgoing: Outgoing) {
        let bytes = outgoing.bytes();
        let before = self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before > 0 && before + bytes > self.shared.most_bytes {
            self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return self.give_up();
        }
        let shut = self.shut.clone();
        if let Err(error) = self.sender.try_send(Waiting { outgoing, shut }) {
            self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
            if let mpsc::error::TrySendError::Full(_) = error {
                self.give_up();
            }
        }
    }

    /// The socket is to be closed: more waits for it than it may have.
    fn give_up(&self) {
        if !self.shared.overflowed.swap(true, Ordering::Relaxed) {
            self.shared.notify.notify_one();
        }
    }

    /// Whether so much may wait elsewhere; if not, the socket is to be closed.
    pub fn allows(&self, messages: usize, bytes: usize) -> bool {
        let allowed = messages <= self.sender.max_capacity() && bytes <= self.shared.most_bytes;
        if !allowed {
            self.give_up();
        }
        allowed
    }

    /// Whether less than half of the room is free.
    pub fn is_crowded(&self) -> bool {
        self.sender.capacity() * 2 < self.sender.max_capacity()
            || self.shared.bytes.load(Ordering::Relaxed) * 2 > self.shared.most_bytes
    }

    /// Waits until half of the room is free. What a client causes itself, by a replay or by many messages at once, waits here,
    /// and leaves room for what comes from others.
    pub async fn room(&self) {
        while self.is_crowded() && !self.sender.is_closed() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether a message was lost.
    pub fn overflowed(&self) -> bool {
        self.shared.overflowed.load(Ordering::Relaxed)
    }

    /// Waits until a message is lost.
    pub async fn overflow(&self) {
        while !self.overflowed() {
            self.shared.notify.notified().await;
        }
    }
}

impl Inbox {
    /// The next message that may still be sent; none when all senders are gone.
    pub async fn recv(&mut self) -> Option<Outgoing> {
        loop {
            let waiting = self.receiver.recv().await?;
            if let Some(outgoing) = self.take(waiting) {
                return Some(outgoing);
            }
        }
    }

    /// The next message if one waits.
    pub fn try_recv(&mut self) -> Result<Outgoing, TryRecvError> {
        loop {
            let waiting = self.receiver.try_recv()?;
            if let Some(outgoing) = self.take(waiting) {
                return Ok(outgoing);
            }
        }
    }

    fn take(&self, waiting: Waiting) -> Option<Outgoing> {
        let bytes = waiting.outgoing.bytes();
        self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
        (!waiting.shut.load(Ordering::SeqCst)).then_some(waiting.outgoing)
    }

    /// How many messages wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.receiver.len()
    }
}

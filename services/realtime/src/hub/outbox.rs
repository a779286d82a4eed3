//! Where a socket's messages wait. It is bounded in messages and in bytes: a socket that does not read loses its connection, not
//! the others their time and memory.
//!
//! What other clients send must not cost a socket its connection, however much it is. So it takes three quarters of the room at most,
//! each sender a quarter, and what finds no room is lost.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::extract::ws::Message;
use tokio::sync::{
    Notify,
    mpsc::{self, error::TryRecvError},
};

use crate::protocol::{Broadcast, Sender};

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

    /// The client whose message it is.
    fn sender(&self) -> Option<Sender> {
        match self {
            Self::Broadcast(message) | Self::BroadcastOnMe(message) => message.sender(),
            Self::Frame(_) => None,
        }
    }
}

/// What became of a client's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It waits, or the socket is gone.
    Taken,
    /// It is lost, the first one since nothing waited.
    FirstLost,
    /// It is lost.
    Lost,
}

/// Why a message does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsent {
    NoRoom,
    /// The socket is gone.
    Gone,
}

/// What waits of one sender.
#[derive(Debug, Default)]
struct Share {
    messages: usize,
    bytes: usize,
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
    losing: AtomicBool,
    shares: Mutex<HashMap<Sender, Share>>,
}

impl Shared {
    /// A panic while the lock was held leaves a whole map.
    fn shares(&self) -> MutexGuard<'_, HashMap<Sender, Share>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sender's message has left the queue.
    fn release(&self, sender: Sender, bytes: usize) {
        if let Entry::Occupied(mut share) = self.shares().entry(sender) {
            share.get_mut().messages -= 1;
            share.get_mut().bytes -= bytes;
            if share.get().messages == 0 {
                share.remove();
            }
        }
    }
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
        if let Err(Unsent::NoRoom) = self.push(outgoing, bytes) {
            self.give_up();
        }
    }

    /// Adds a message that the socket can do without: with no room it is left out.
    pub fn send_if_room(&self, outgoing: Outgoing) {
        let bytes = outgoing.bytes();
        let _ = self.push(outgoing, bytes);
    }

    fn push(&self, outgoing: Outgoing, bytes: usize) -> Result<(), Unsent> {
        let before = self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before > 0 && before + bytes > self.shared.most_bytes {
            self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Unsent::NoRoom);
        }
        let shut = self.shut.clone();
        self.sender
            .try_send(Waiting { outgoing, shut })
            .map_err(|error| {
                self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
                match error {
                    mpsc::error::TrySendError::Full(_) => Unsent::NoRoom,
                    mpsc::error::TrySendError::Closed(_) => Unsent::Gone,
                }
            })
    }

    /// Adds what a client causes, if there is room for it.
    pub fn offer(&self, outgoing: Outgoing) -> Offered {
        let (sender, bytes) = (outgoing.sender(), outgoing.bytes());
        let has_room = self.has_room(bytes);
        if let Some(sender) = sender {
            let most = (self.sender.max_capacity() / 4).max(1);
            let mut shares = self.shared.shares();
            let share = shares.entry(sender).or_default();
            let fits = share.messages == 0 || share.bytes + bytes <= self.shared.most_bytes / 4;
            if !has_room || share.messages >= most || !fits {
                // Nothing that waits would remove it.
                if share.messages == 0 {
                    shares.remove(&sender);
                }
                return self.lost(true);
            }
            share.messages += 1;
            share.bytes += bytes;
        } else if !has_room {
            return self.lost(false);
        }
        let Err(unsent) = self.push(outgoing, bytes) else {
            return Offered::Taken;
        };
        if let Some(sender) = sender {
            self.shared.release(sender, bytes);
        }
        match unsent {
            Unsent::NoRoom => self.lost(sender.is_some()),
            Unsent::Gone => Offered::Taken,
        }
    }

    /// Of messages the member is told once. Who is present is sent again as a whole.
    fn lost(&self, is_message: bool) -> Offered {
        match is_message && !self.shared.losing.swap(true, Ordering::Relaxed) {
            true => Offered::FirstLost,
            false => Offered::Lost,
        }
    }

    /// Whether a client's message of so many bytes finds room beside those of all others.
    fn has_room(&self, bytes: usize) -> bool {
        let waiting = self.shared.bytes.load(Ordering::Relaxed);
        self.sender.capacity() * 4 > self.sender.max_capacity()
            && (waiting == 0 || (waiting + bytes) * 4 <= self.shared.most_bytes * 3)
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

    /// Whether half of the room holds so much.
    pub fn half_holds(&self, messages: usize, bytes: usize) -> bool {
        messages * 2 <= self.sender.max_capacity() && bytes * 2 <= self.shared.most_bytes
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

    /// Waits a little.
    pub async fn pause(&self) {
        tokio::time::sleep(PAUSE).await;
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
        if let Some(sender) = waiting.outgoing.sender() {
            self.shared.release(sender, bytes);
        }
        if self.receiver.is_empty() {
            self.shared.losing.store(false, Ordering::Relaxed);
        }
        (!waiting.shut.load(Ordering::SeqCst)).then_some(waiting.outgoing)
    }

    /// How many messages wait.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.receiver.len()
    }
}

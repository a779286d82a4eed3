//! Several instances share the sockets: what a client of one sends, and who is present there, goes to the others through a
//! table. It costs nothing while an instance is alone. Messages from SQL do not come this way: each instance reads them itself.

mod frame;
mod link;
mod peers;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use kijko_core::telemetry::metrics::Counter;
use tokio::sync::mpsc;

pub use frame::Relayed;
pub use link::{Link, run};

/// Messages that wait for the table. More than this are lost to other instances, and counted.
const BACKLOG: usize = 10_000;
/// Their bytes, likewise.
const BACKLOG_BYTES: usize = 32 << 20;

/// Where the hub leaves what other instances need.
#[derive(Debug, Clone)]
pub struct Relay {
    sender: mpsc::Sender<Relayed>,
    has_peers: Arc<AtomicBool>,
    bytes: Arc<AtomicUsize>,
    lost: Counter,
}

impl Relay {
    /// And its other end.
    pub fn new() -> (Self, mpsc::Receiver<Relayed>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let relay = Self {
            sender,
            has_peers: Arc::default(),
            bytes: Arc::default(),
            lost: Counter::default(),
        };
        (relay, receiver)
    }

    /// Without other instances.
    #[cfg(test)]
    pub fn alone() -> Self {
        Self::new().0
    }

    /// Passes a message on, if there is another instance.
    pub fn send(&self, message: impl FnOnce() -> Relayed) {
        if !self.has_peers.load(Ordering::Relaxed) {
            return;
        }
        let message = message();
        let bytes = message.bytes();
        let waiting = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting + bytes > BACKLOG_BYTES || self.sender.try_send(message).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.lost.inc();
        }
    }

    /// So many bytes wait no longer.
    fn taken(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many messages had no room.
    pub fn lost(&self) -> Counter {
        self.lost.clone()
    }
}

/// The instance of a socket.
pub fn instance_of(socket: u64) -> i32 {
    (socket >> SOCKET_BITS) as i32
}

/// The first number of an instance's sockets.
pub fn first_socket(instance: i32) -> u64 {
    (u64::from(instance.unsigned_abs()) << SOCKET_BITS) + 1
}

/// An instance makes fewer sockets than this many bits can count.
const SOCKET_BITS: u32 = 40;

/// A number that no other instance has, by chance: 23 bits.
pub fn draw_instance() -> i32 {
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    (random & 0x7f_ffff) as i32
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        hub::TopicKey,
        protocol::{Body, Broadcast},
    };

    #[test]
    fn what_waits_for_the_table_has_room_for_some_bytes() {
        let (relay, mut waiting) = Relay::new();
        relay.has_peers.store(true, Ordering::Relaxed);
        let bytes = Body::Bytes(vec![0; 1 << 20].into());
        let message = Arc::new(Broadcast::new("room", "e".to_owned(), bytes, None));
        let send = || relay.send(|| Relayed::broadcast(&TopicKey::new("room", true), &message));
        for _ in 0..100 {
            send();
        }
        let kept = waiting.len();
        assert!((8..=32).contains(&kept), "{kept}");
        assert_eq!(relay.lost.get() as usize, 100 - kept);
        let first = waiting.try_recv().unwrap();
        relay.taken(first.bytes());
        send();
        assert_eq!(waiting.len(), kept);
    }
}

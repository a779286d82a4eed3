//! Several instances share the sockets: what a client of one sends, and who is present there, goes to the others through a
//! table. It costs nothing while an instance is alone. Messages from SQL do not come this way: each instance reads them itself.

mod frame;
mod link;
mod peers;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use kijko_core::telemetry::metrics::Counter;
use tokio::sync::mpsc;

pub use frame::Relayed;
pub use link::{Link, run};

/// Messages that wait for the table. More than this are lost to other instances, and counted.
const BACKLOG: usize = 10_000;

/// Where the hub leaves what other instances need.
#[derive(Debug, Clone)]
pub struct Relay {
    sender: mpsc::Sender<Relayed>,
    has_peers: Arc<AtomicBool>,
    lost: Counter,
}

impl Relay {
    /// And its other end.
    pub fn new() -> (Self, mpsc::Receiver<Relayed>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let relay = Self {
            sender,
            has_peers: Arc::default(),
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
        if self.has_peers.load(Ordering::Relaxed) && self.sender.try_send(message()).is_err() {
            self.lost.inc();
        }
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

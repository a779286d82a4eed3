//! Limits of sockets.

use std::time::Duration;

use kijko_core::config::Reader;

/// What one socket may do, and how many there may be.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Sockets in all.
    pub sockets: usize,
    /// Sockets from one network: an IPv4 address, or the /64 of an IPv6 address.
    pub sockets_of_network: usize,
    /// Sockets of one user or API key.
    pub sockets_of_caller: usize,
    /// Sockets of the members and keys of one organization.
    pub sockets_of_organization: usize,
    /// Channels of a socket.
    pub channels: usize,
    /// Messages a second from a socket, or from one caller over HTTP; twice as many at once.
    pub messages_per_second: u32,
    /// Joins a second for which Postgres is asked, of one user, API key or network; five times as many at once. As many attempts
    /// to open a socket, of one address.
    pub joins_per_second: u32,
    /// Changes of presence a second from a socket; twice as many at once.
    pub presence_per_second: u32,
    /// Bytes of a broadcast's event and payload, or of a presence's payload.
    pub message_bytes: usize,
    /// Messages that wait for a socket that does not read.
    pub backlog: usize,
    /// A socket that is silent for so long is closed. Clients send a heartbeat every 25 seconds.
    pub idle: Duration,
    /// Within this time a service that ends closes its sockets, one by one.
    pub drain: Duration,
}

/// An event is a name: binary frames have one byte for its length.
const MAX_EVENT: usize = 255;
/// What a message has around its payload: names, references, the token of a join.
const ENVELOPE: usize = 16 << 10;
/// What may wait for a socket, whatever its number of messages.
const BACKLOG_BYTES: usize = 4 << 20;

impl Limits {
    /// Whether a client may send such a broadcast.
    pub fn fits(&self, event: &str, body_bytes: usize) -> bool {
        event.len() <= MAX_EVENT && event.len() + body_bytes <= self.message_bytes
    }

    /// Bytes of a frame from a client; a larger one ends the socket before it is kept.
    pub fn frame_bytes(&self) -> usize {
        self.message_bytes + ENVELOPE
    }

    /// Bytes that wait for a socket that does not read.
    pub fn backlog_bytes(&self) -> usize {
        BACKLOG_BYTES.max(4 * self.message_bytes)
    }

    /// Bytes of all presences of a topic: who joins gets them at once, and must have room for what comes next.
    pub fn topic_presence_bytes(&self) -> usize {
        self.backlog_bytes() / 2
    }

    /// Reads the settings.
    pub fn read(env: &mut Reader<'_>) -> Self {
        let mut sockets = |name, default| env.number(name, default, 1..=1_000_000) as usize;
        let all = sockets("KIJKO_REALTIME_SOCKETS", 20_000);
        let of_network = sockets("KIJKO_REALTIME_SOCKETS_OF_NETWORK", 1_000);
        let of_caller = sockets("KIJKO_REALTIME_SOCKETS_OF_CALLER", 200);
        let of_organization = sockets("KIJKO_REALTIME_SOCKETS_OF_ORGANIZATION", 5_000);
        let mut rate = |name, default| env.number(name, default, 1..=100_000) as u32;
        let messages = rate("KIJKO_REALTIME_MESSAGES_PER_SECOND", 100);
        let joins = rate("KIJKO_REALTIME_JOINS_PER_SECOND", 50);
        let presence = rate("KIJKO_REALTIME_PRESENCE_PER_SECOND", 5);
        Self {
            sockets: all,
            sockets_of_network: of_network,
            sockets_of_caller: of_caller,
            sockets_of_organization: of_organization,
            channels: env.number("KIJKO_REALTIME_CHANNELS", 100, 1..=10_000) as usize,
            messages_per_second: messages,
            joins_per_second: joins,
            presence_per_second: presence,
            message_bytes: env.number("KIJKO_REALTIME_MESSAGE_BYTES", 256 << 10, 1_024..=4 << 20)
                as usize,
            backlog: env.number("KIJKO_REALTIME_BACKLOG", 1_024, 16..=65_536) as usize,
            idle: env.seconds("KIJKO_REALTIME_IDLE_SECONDS", 60, 5..=3_600),
            drain: env.seconds("KIJKO_REALTIME_DRAIN_SECONDS", 3, 0..=600),
        }
    }
}

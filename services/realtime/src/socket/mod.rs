//! WebSockets: `/realtime/v1/websocket`.

mod channel;
mod connection;
mod join;
mod messages;
mod rate;
mod reply;
mod slots;
mod token;
mod upgrade;
mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::http::HeaderMap;
use kijko_core::db::Db;
use tokio_util::sync::CancellationToken;

use crate::{
    access::AccessChanges,
    authorize::{Authorizer, Caller},
    config::Limits,
    hub::Hub,
    metrics::RealtimeSeries,
    relay::first_socket,
};

pub use rate::{Bucket, Rates};
pub use reply::reason;
pub use slots::{Holder, Slot, Slots};
pub use upgrade::upgrade;

/// What all connections share.
pub struct Service {
    /// The database.
    pub db: Db,
    /// Verifies tokens and asks policies.
    pub authorizer: Authorizer,
    /// Who listens to what.
    pub hub: Arc<Hub>,
    /// Who asks again when access changes.
    pub access: Arc<AccessChanges>,
    /// What a socket may do.
    pub limits: Limits,
    /// What operators see.
    pub series: Arc<RealtimeSeries>,
    /// Sockets close when it is cancelled.
    pub stop: CancellationToken,
    /// How many sockets there are, for whom.
    pub slots: Arc<Slots>,
    /// How many large messages come in parts at the moment, for whom.
    large: Arc<Slots>,
    /// How many messages came over HTTP, from whom.
    pub rates: Rates,
    /// How many joins and attempts to connect asked Postgres, for whom.
    pub joins: Rates,
    /// How many requests over HTTP had a wrong key, from which network.
    wrong_keys: Rates,
    next_connection: AtomicU64,
}

/// The client's network. The proxy writes the address.
fn network(headers: &HeaderMap) -> String {
    let address = headers.get("x-forwarded-for");
    let address = address.and_then(|it| it.to_str().ok()).unwrap_or_default();
    rate::network_of(address)
}

/// Large messages that come in parts at once. A caller has few, so that no member takes all of the organization.
const MAX_LARGE_OF_CALLER: usize = 8;
const MAX_LARGE_OF_NETWORK: usize = 64;
const MAX_LARGE_OF_ORGANIZATION: usize = 256;

impl Service {
    /// A service without sockets.
    pub fn new(
        db: Db,
        hub: Arc<Hub>,
        instance: i32,
        limits: Limits,
        series: Arc<RealtimeSeries>,
    ) -> Self {
        let access = Arc::<AccessChanges>::default();
        Self {
            authorizer: Authorizer::new(db.clone(), access.clone()),
            db,
            hub,
            access,
            rates: Rates::new(limits.messages_per_second, 2),
            joins: Rates::new(limits.joins_per_second, 5),
            wrong_keys: Rates::new(limits.joins_per_second, 5),
            limits,
            series,
            stop: CancellationToken::new(),
            slots: Arc::default(),
            large: Arc::default(),
            next_connection: AtomicU64::new(first_socket(instance)),
        }
    }

    /// Closes all sockets, spread over some time, so that clients do not all come back at once.
    pub async fn drain(&self) {
        self.stop.cancel();
        let gone = async {
            while self.series.sockets.get() > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let _ = tokio::time::timeout(self.limits.drain + Duration::from_secs(2), gone).await;
    }

    /// A connection waits so long before it closes.
    pub fn drain_delay(&self, connection: u64) -> Duration {
        // A prime, so that neighbours are far apart.
        self.limits
            .drain
            .mul_f64((connection * 7919 % 1000) as f64 / 1000.0)
    }

    /// A number for a connection.
    pub fn next_connection(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts a connection for its caller and the caller's organizations, unless `held` has done so. The refusal says why.
    pub fn count(&self, caller: &Caller, held: &mut Vec<Slot>) -> Result<(), &'static str> {
        let limits = &self.limits;
        let own = [caller.user, caller.api_key].into_iter().flatten();
        let own = own.map(|id| (Holder::Caller(id), limits.sockets_of_caller));
        let organizations = caller.organizations.iter();
        let organizations = organizations.map(|id| {
            let holder = Holder::Organization(*id);
            (holder, limits.sockets_of_organization)
        });
        for (holder, most) in own.chain(organizations) {
            self.take(holder, most, held)?;
        }
        Ok(())
    }

    fn take(&self, holder: Holder, most: usize, held: &mut Vec<Slot>) -> Result<(), &'static str> {
        if held.iter().any(|slot| *slot.holder() == holder) {
            return Ok(());
        }
        let refusal = holder.refusal();
        held.push(self.slots.take(holder, most).ok_or(refusal)?);
        Ok(())
    }

    /// Counts an attempt to connect of the client's network, whose address the proxy writes: whoever tries keys or topics does not keep
    /// Postgres busy. False when there were too many.
    pub fn count_attempt(&self, headers: &HeaderMap) -> bool {
        self.joins.take(&network(headers), Instant::now())
    }

    /// Whether the client's network may present a key over HTTP. Only wrong ones count, and sockets that connect again do not.
    pub fn may_attempt(&self, headers: &HeaderMap) -> bool {
        self.wrong_keys.has(&network(headers), Instant::now())
    }

    /// Counts a wrong key.
    pub fn count_wrong(&self, headers: &HeaderMap) {
        self.wrong_keys.charge(&network(headers), Instant::now());
    }

    /// Counts what Postgres is asked about a private channel for a caller. False when there was too much.
    pub fn count_question(&self, caller: &Caller) -> bool {
        caller.passes_policies() || self.joins.take(&caller.counted_as(), Instant::now())
    }

    /// Counts a large message until it is whole. None: there are too many.
    pub fn large(&self, caller: &Caller) -> Option<Vec<Slot>> {
        let network = caller.network.clone().map(Holder::Network);
        let own = [caller.user, caller.api_key].into_iter().flatten();
        let organizations = caller.organizations.iter().copied();
        let holders = network
            .map(|network| (network, MAX_LARGE_OF_NETWORK))
            .into_iter()
            .chain(own.map(|id| (Holder::Caller(id), MAX_LARGE_OF_CALLER)))
            .chain(organizations.map(|id| (Holder::Organization(id), MAX_LARGE_OF_ORGANIZATION)));
        holders
            .map(|(holder, most)| self.large.take(holder, most))
            .collect()
    }

    /// Counts a connection in all and for the client's network.
    pub fn open(&self, caller: &Caller) -> Result<Vec<Slot>, &'static str> {
        if self.series.sockets.get() >= self.limits.sockets as i64 {
            return Err("TooManySockets: this server has no room; try again later");
        }
        let mut held = Vec::new();
        if let Some(network) = &caller.network {
            let holder = Holder::Network(network.clone());
            self.take(holder, self.limits.sockets_of_network, &mut held)?;
        }
        self.count(caller, &mut held)?;
        Ok(held)
    }
}

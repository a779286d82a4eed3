//! Postgres: a pool for single statements, and one more connection that listens.

mod cancel;
mod config;
mod error;
mod json;
mod listener;
mod lock_wait;
mod metrics;
mod pool;
mod retry;
mod session;
mod shares;
pub(crate) mod tls;

pub use config::{DatabaseConfig, Tls};
pub use error::{DbError, REFUSAL, with_causes};
pub use json::{has_long_number, storable};
pub use listener::{Channel, Listener, Wake, Wakeups};
pub(crate) use lock_wait::LockWait;
pub use metrics::{DatabaseCheck, DatabaseSeries};
pub use pool::{Db, PoolUse};
pub use retry::retry_transient;
pub use session::{SessionCheck, check_session};
pub use shares::carried;
pub(crate) use shares::on_behalf_of;

/// A pool of an unreachable database: port 1 of this machine refuses connections at once.
#[cfg(test)]
pub(crate) fn unreachable() -> Db {
    let lookup = |name: &str| {
        (name == "DATABASE_URL")
            .then(|| "postgres://nobody:secret@127.0.0.1:1/none?sslmode=disable".to_owned())
    };
    let mut env = crate::config::Reader::new(crate::Service::TEST, &lookup);
    let config = DatabaseConfig::read(&mut env).expect("a configuration");
    Db::new(&config).expect("a pool")
}

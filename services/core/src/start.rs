//! What the log says at the start.

use tokio::net::TcpListener;

use crate::{service::Service, settings::Settings};

/// What the log says once every part is made.
pub(crate) struct Start {
    service: Service,
    address: String,
    operators_address: String,
    database: tokio_postgres::Config,
    concurrency: usize,
    short_slots: usize,
}

impl Start {
    pub(crate) fn of(settings: &Settings, public: &TcpListener, operators: &TcpListener) -> Self {
        let address = |socket: &TcpListener| {
            let address = socket.local_addr();
            address.map_or_else(|_| String::new(), |address| address.to_string())
        };
        Self {
            service: settings.service,
            address: address(public),
            operators_address: address(operators),
            database: settings.database.postgres.clone(),
            concurrency: settings.worker.concurrency,
            short_slots: settings.worker.short_slots,
        }
    }

    pub(crate) fn log(&self, kinds: &[String]) {
        tracing::info!(
            service = self.service.name,
            version = self.service.version,
            address = self.address,
            operators_address = self.operators_address,
            database_user = self.database.get_user(),
            database = self.database.get_dbname(),
            database_hosts = ?self.database.get_hosts(),
            concurrency = self.concurrency,
            short_slots = self.short_slots,
            kinds = kinds.join(","),
            "the service starts"
        );
    }
}

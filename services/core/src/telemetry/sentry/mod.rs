//! Faults of ours, reported to Sentry: lines of the log of level ERROR (panics among them) and jobs that die. Nothing is sent unless
//! `SENTRY_DSN` is set.
//!
//! 1. [`layer`]: takes such lines as they are logged, with the request or job that they are about.
//! 2. [`queue`]: bounded, with one report a minute of each group. It never waits, so Sentry delays nobody.
//! 3. [`event`]: the report as Sentry's event, scrubbed.
//! 4. [`sender`]: a thread with a runtime of its own posts envelopes. It lives longer than the service's runtime, so that a service
//!    that fails at its start or panics at its end is reported, too.
//! 5. [`config`]: the settings, by Sentry's own names; [`metrics`]: what became of the reports; [`user`]: whose request it was.

mod config;
mod event;
mod layer;
mod metrics;
mod queue;
mod scrub;
mod sender;
#[cfg(test)]
mod tests;
pub(crate) mod user;

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

pub use config::SentryConfig;
pub use layer::ReportLayer;
use metrics::ReportSeries;
pub(crate) use metrics::series;
use queue::Queue;

use crate::{outbound::OutboundError, service::Service};

/// How long the last reports may take at the end of the process.
const FLUSH: Duration = Duration::from_secs(3);

/// The sender while it runs.
pub struct Sentry {
    queue: Arc<Queue>,
    ended: mpsc::Receiver<()>,
}

impl Sentry {
    /// Starts the thread.
    pub fn start(service: Service, config: &SentryConfig) -> Result<Self, OutboundError> {
        let sentry = Self::counted(service, config, series())?;
        user::turn_on();
        Ok(sentry)
    }

    fn counted(
        service: Service,
        config: &SentryConfig,
        series: Arc<ReportSeries>,
    ) -> Result<Self, OutboundError> {
        let (queue, reports) = Queue::new(series.clone());
        let ended = sender::start(service, config, reports, series)?;
        Ok(Self { queue, ended })
    }

    /// What the log needs.
    pub fn layer(&self) -> ReportLayer {
        ReportLayer::new(self.queue.clone())
    }

    /// Sends what waits, within some seconds. Whatever is reported later is dropped.
    pub fn finish(self) {
        self.queue.close();
        if self.ended.recv_timeout(FLUSH).is_err() {
            tracing::warn!("errors were not reported: Sentry is too slow");
        }
    }
}

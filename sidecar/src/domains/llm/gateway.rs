//! What all calls share.

use std::{sync::Arc, time::Duration};

use kijko_core::{domain::Background, telemetry::traces::Tracer};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    config::GatewayConfig,
    credentials::{Keys, Passes},
    identity::Identities,
    metrics::GatewaySeries,
    pauses::{Pauses, ProviderKey},
    room::Rooms,
    settlement::Settler,
    store::Calls,
    upstreams::Upstreams,
};
use crate::{api::Api, rendering::Renderer, slots::Slots};

/// Requests are kept until their calls end, and may be large: together they have half a GiB.
pub(super) const MAX_BODIES_KIB: usize = 512 << 10;
/// After the grace period calls are cut; this is for settling them.
const SETTLING: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// The gateway.
pub(super) struct Gateway {
    /// None: not configured.
    pub api: Option<Api>,
    pub calls: Arc<dyn Calls>,
    pub settler: Settler,
    pub upstreams: Upstreams,
    pub renderer: Renderer,
    pub all: Slots<()>,
    /// Of organizations, from before their requests are read until their calls have ended.
    pub organizations: Slots<Uuid>,
    pub identities: Identities,
    pub passes: Passes,
    pub keys: Keys,
    /// For requests that are kept at once.
    pub bodies: Rooms,
    pub providers: Slots<ProviderKey>,
    pub pauses: Pauses,
    pub series: Arc<GatewaySeries>,
    pub tracer: Tracer,
    pub max_calls: usize,
    pub max_of_caller: usize,
    pub max_of_provider: usize,
    pub max_body_bytes: usize,
    /// Running calls and settlements.
    pub tasks: TaskTracker,
    /// Cuts the running calls.
    pub cut: CancellationToken,
}

impl Gateway {
    pub(super) fn new(
        config: &GatewayConfig,
        api: Option<Api>,
        calls: Arc<dyn Calls>,
        tracer: Tracer,
    ) -> Result<Self, String> {
        let series = Arc::new(GatewaySeries::default());
        let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
        Ok(Self {
            api,
            settler: Settler::new(
                calls.clone(),
                series.clone(),
                tracer.clone(),
                tasks.clone(),
                cut.clone(),
            ),
            calls,
            upstreams: Upstreams::new(&config.vendors)?,
            renderer: Renderer::new(config.max_calls_of_caller)?,
            all: Slots::default(),
            organizations: Slots::default(),
            identities: Identities::default(),
            passes: Passes::default(),
            keys: Keys::default(),
            bodies: Rooms::new(MAX_BODIES_KIB),
            providers: Slots::default(),
            pauses: Pauses::default(),
            series,
            tracer,
            max_calls: config.max_calls,
            max_of_caller: config.max_calls_of_caller,
            max_of_provider: config.max_calls_of_provider,
            max_body_bytes: config.max_body_bytes,
            tasks,
            cut,
        })
    }

    /// Waits until no request and no settlement goes on.
    async fn idle(&self) {
        while !self.all.is_empty() || !self.tasks.is_empty() {
            tokio::time::sleep(POLL).await;
        }
    }

    /// A process that is asked to stop lets its calls end within the grace period, cuts the others, and settles all.
    pub(super) fn stopping(self: Arc<Self>, grace: Duration) -> Background {
        Box::new(move |stop| {
            Box::pin(async move {
                stop.cancelled().await;
                let _ = tokio::time::timeout(grace, self.idle()).await;
                self.cut.cancel();
                if tokio::time::timeout(SETTLING, self.idle()).await.is_err() {
                    tracing::error!("calls of models are left to maintenance");
                }
            })
        })
    }
}

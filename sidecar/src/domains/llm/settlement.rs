//! The end of a call in the database. A call that was opened is settled once, whatever becomes of it: the answer came, the client
//! hung up, the vendor failed, the process stops, or its task panics. When the database is away, this waits for it.

use std::{sync::Arc, time::Duration};

use kijko_core::{
    db::retry_transient,
    telemetry::traces::{Span, Tracer},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{
    metrics::GatewaySeries,
    store::{Calls, Spent},
};
use crate::llm::semconv;

/// How long a database that answers may go on refusing. Maintenance settles the call at its hold then.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long the client waits for the last piece, so that who has the whole answer finds the call settled.
const CLIENT_WAIT: Duration = Duration::from_secs(2);

/// Settles calls.
#[derive(Clone)]
pub(super) struct Settler {
    calls: Arc<dyn Calls>,
    series: Arc<GatewaySeries>,
    tracer: Tracer,
    /// What a stopping process waits for.
    tasks: TaskTracker,
}

/// A call that is not settled yet.
pub(super) struct Unsettled {
    settler: Settler,
    call: Uuid,
    settled: bool,
}

impl Settler {
    pub(super) fn new(
        calls: Arc<dyn Calls>,
        series: Arc<GatewaySeries>,
        tracer: Tracer,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            calls,
            series,
            tracer,
            tasks,
        }
    }

    pub(super) fn opened(&self, call: Uuid) -> Unsettled {
        Unsettled {
            settler: self.clone(),
            call,
            settled: false,
        }
    }

    fn settle(&self, call: Uuid, usage: Value, span: Option<Span>) -> JoinHandle<()> {
        let (calls, counted) = (self.calls.clone(), self.series.unsettled());
        let tracer = self.tracer.clone();
        self.tasks.spawn(async move {
            let _counted = counted;
            let mut usage = usage;
            let settle = |usage: &Value| calls.settle(call, usage.clone());
            let mut settled = retry_transient(PATIENCE, || settle(&usage)).await;
            if settled.as_ref().is_err_and(|error| !error.is_transient()) && forget(&mut usage) {
                // What was said cannot be stored; what it used can.
                tracing::warn!(%call, "the content of a call could not be kept");
                settled = retry_transient(PATIENCE, || settle(&usage)).await;
            }
            if let Err(error) = &settled {
                // Maintenance settles it at its whole hold.
                tracing::error!(%call, %error, "a call of a model could not be settled");
            }
            if let Some(mut span) = span {
                // Its cost is known now.
                if let Ok(Some(settled)) = settled {
                    span.change(|attributes| {
                        attributes.set(semconv::ESTIMATED, settled.estimated);
                        if let Some(cost) = settled.cost_microusd {
                            semconv::cost(attributes, cost);
                        }
                    });
                }
                tracer.record(span);
            }
        })
    }
}

/// Takes the content out of a settlement; whether there was any.
fn forget(usage: &mut Value) -> bool {
    let names = ["prompt", "answer"];
    let usage = usage.as_object_mut();
    usage.is_some_and(|usage| {
        names
            .map(|name| usage.remove(name).is_some())
            .contains(&true)
    })
}

impl Unsettled {
    /// Settles it. Waits a moment, and goes on in the background.
    pub(super) async fn settle(mut self, usage: Value, span: Option<Span>) {
        self.settled = true;
        let task = self.settler.settle(self.call, usage, span);
        let _ = tokio::time::timeout(CLIENT_WAIT, task).await;
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if !self.settled {
            let mut usage = Spent::Unknown.counts();
            usage["status"] = json!("failed");
            usage["error_code"] = json!("internal");
            self.settler.settle(self.call, usage, None);
        }
    }
}

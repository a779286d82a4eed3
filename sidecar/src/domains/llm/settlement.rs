//! The end of a call in the database. A call that was opened is settled once, whatever becomes of it: the answer came, the client
//! hung up, the vendor failed, the process stops, or its task panics. When the database is away, this waits for it.
//!
//! The client has its answer before that: what is not settled is open, and held, in the database.

use std::{sync::Arc, time::Duration};

use kijko_core::{
    db::retry_transient,
    telemetry::{
        canonical,
        traces::{Span, Tracer},
    },
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{
    batches::Batches,
    metrics::GatewaySeries,
    outstanding::Outstanding,
    store::{Calls, Spent},
};
use crate::llm::semconv;

/// How long a database that answers may go on refusing. Maintenance settles the call at its hold then.
const PATIENCE: Duration = Duration::from_secs(300);
/// When a call that may have been opened is looked for. The API gives a request up within a minute.
const LOOKS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(15),
    Duration::from_secs(75),
];
/// What is kept of a call, and may be large.
const CONTENT: [&str; 2] = ["prompt", "answer"];

/// Settles calls.
#[derive(Clone)]
pub(super) struct Settler {
    calls: Arc<dyn Calls>,
    batches: Arc<Batches>,
    pub outstanding: Outstanding,
    series: Arc<GatewaySeries>,
    tracer: Tracer,
    /// What a stopping process waits for.
    tasks: TaskTracker,
}

/// A call that is not settled yet.
pub(super) struct Unsettled {
    settler: Settler,
    call: Uuid,
    organization: Uuid,
    settled: bool,
}

/// A call that the API was asked to open. Without an answer it may be open all the same; nobody was called for it.
pub(super) struct Asked {
    settler: Settler,
    call: Uuid,
    answered: bool,
}

impl Settler {
    pub(super) fn new(
        calls: Arc<dyn Calls>,
        series: Arc<GatewaySeries>,
        tracer: Tracer,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            batches: Arc::new(Batches::new(calls.clone())),
            calls,
            outstanding: Outstanding::default(),
            series,
            tracer,
            tasks,
        }
    }

    /// A call that is about to be opened under this id.
    pub(super) fn asked(&self, call: Uuid) -> Asked {
        Asked {
            settler: self.clone(),
            call,
            answered: false,
        }
    }

    pub(super) fn opened(&self, call: Uuid, organization: Uuid) -> Unsettled {
        Unsettled {
            settler: self.clone(),
            call,
            organization,
            settled: false,
        }
    }

    fn settle(
        &self,
        call: Uuid,
        organization: Uuid,
        usage: Value,
        span: Option<Span>,
    ) -> JoinHandle<()> {
        let (settler, counted) = (self.clone(), self.series.unsettled());
        let settling = self.outstanding.begin(organization);
        self.tasks.spawn(canonical::carried(async move {
            let _counted = (counted, settling);
            let (calls, mut usage) = (settler.calls, usage);
            let settle = |usage: &Value| calls.settle(call, usage.clone());
            let is_small = CONTENT.iter().all(|name| usage.get(name).is_none());
            let at_first = match is_small {
                true => settler.batches.settle(call, usage.clone()).await.ok(),
                false => None,
            };
            let mut settled = match at_first {
                Some(settled) => Ok(settled),
                None => retry_transient(PATIENCE, || settle(&usage)).await,
            };
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
                settler.tracer.record(span);
            }
        }))
    }

    /// Releases a call that may be open, and that nobody was called for.
    fn release(&self, call: Uuid) {
        let calls = self.calls.clone();
        // A process that stops leaves it to maintenance.
        tokio::spawn(canonical::carried(async move {
            let mut usage = Spent::Unsent.counts();
            usage["status"] = json!("cancelled");
            usage["error_code"] = json!("not_sent");
            for wait in LOOKS {
                tokio::time::sleep(wait).await;
                if let Ok(Some(_)) = calls.settle(call, usage.clone()).await {
                    return;
                }
            }
        }));
    }
}

/// Takes the content out of a settlement; whether there was any.
fn forget(usage: &mut Value) -> bool {
    let usage = usage.as_object_mut();
    usage.is_some_and(|usage| {
        CONTENT
            .map(|name| usage.remove(name).is_some())
            .contains(&true)
    })
}

impl Asked {
    /// The API has answered: it opened the call, or did nothing.
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.answered {
            self.settler.release(self.call);
        }
    }
}

impl Unsettled {
    /// Settles it in the background.
    pub(super) fn settle(mut self, usage: Value, span: Option<Span>) -> JoinHandle<()> {
        self.settled = true;
        self.settler
            .settle(self.call, self.organization, usage, span)
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if !self.settled {
            let mut usage = Spent::Unknown.counts();
            usage["status"] = json!("failed");
            usage["error_code"] = json!("internal");
            self.settler
                .settle(self.call, self.organization, usage, None);
        }
    }
}

//! The end of a call in the database. A call that was opened is settled once, whatever becomes of it: the answer came, the client
//! hung up, the vendor failed, the process stops, or its task panics. When the database is away, this waits for it.
//!
//! The client has its answer before that: what is not settled is open, and held, in the database.

use std::{sync::Arc, time::Duration};

use kijko_core::{
    db::{DbError, retry_transient},
    telemetry::{
        canonical,
        traces::{Span, Tracer},
    },
};
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    batches::Batches,
    metrics::GatewaySeries,
    outstanding::Outstanding,
    store::{Calls, Settled, Spent},
};
use crate::llm::semconv;

/// How long a database that answers may go on refusing. Maintenance settles the call at its hold then.
const PATIENCE: Duration = Duration::from_secs(300);
/// Settlements by themselves at once. Those of a database that is slow, or of rows that are locked, wait for one another and keep
/// nobody else's connection.
const MAX_ALONE: usize = 2;
/// When a call that may have been opened is looked for again. The API gives a request up within a minute.
const LOOKS: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(75)];
/// How long after a client that has gone it is looked for first: the API may be at it.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Maintenance settles it then.
const LOOKED_FOR: Duration = Duration::from_secs(600);
/// How long a call that is looked for keeps its place among the organization's.
const KEPT: Duration = Duration::from_secs(2);
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
    alone: Arc<Semaphore>,
    /// What a stopping process waits for.
    tasks: TaskTracker,
    /// Cancelled when a stopping process waits no longer.
    cut: CancellationToken,
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
    organization: Uuid,
    /// Its place among the calls of the process and the organization.
    place: Taken,
    first_look: Duration,
    answered: bool,
}

/// Places of a call, which are free when the last one that keeps them is dropped.
pub(super) type Taken = Arc<dyn Send + Sync>;

impl Settler {
    pub(super) fn new(
        calls: Arc<dyn Calls>,
        series: Arc<GatewaySeries>,
        tracer: Tracer,
        tasks: TaskTracker,
        cut: CancellationToken,
    ) -> Self {
        Self {
            batches: Arc::new(Batches::new(calls.clone())),
            calls,
            outstanding: Outstanding::default(),
            series,
            tracer,
            alone: Arc::new(Semaphore::new(MAX_ALONE)),
            tasks,
            cut,
        }
    }

    /// A call that is about to be opened under this id.
    pub(super) fn asked(&self, call: Uuid, organization: Uuid, place: Taken) -> Asked {
        Asked {
            settler: self.clone(),
            call,
            organization,
            place,
            first_look: FIRST_LOOK,
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
            let mut usage = usage;
            let mut settled = settler.end(call, &usage).await;
            if settled.as_ref().is_err_and(|error| !error.is_transient()) && forget(&mut usage) {
                // What was said cannot be stored; what it used can.
                tracing::warn!(%call, "the content of a call could not be kept");
                settled = settler.end(call, &usage).await;
            }
            match &settled {
                Ok(Some(_)) => {}
                // Another end than this one counts. Either the database had stored an attempt whose answer did not come back, or
                // maintenance was first, or the record of a call that a vendor got is lost.
                Ok(None) => {
                    tracing::warn!(%call, "a call of a model was no longer open when it was settled");
                }
                // Maintenance settles it at its whole hold.
                Err(error) => {
                    tracing::error!(%call, %error, "a call of a model could not be settled");
                }
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

    /// Ends a call: with others, and if that fails by itself, again and again. None: it is not open.
    async fn end(&self, call: Uuid, usage: &Value) -> Result<Option<Settled>, DbError> {
        let is_small = CONTENT.iter().all(|name| usage.get(name).is_none());
        if is_small && let Ok(settled) = self.batches.settle(call, usage.clone()).await {
            return Ok(settled);
        }
        let alone = async || {
            // Closed never.
            let _turn = self.alone.acquire().await;
            self.calls.settle(call, usage.clone()).await
        };
        retry_transient(PATIENCE, alone).await
    }

    /// Releases a call that may be open, and that nobody was called for.
    fn release(&self, asked: &Asked) {
        let (settler, call, first) = (self.clone(), asked.call, asked.first_look);
        // The organization's next call may be refused for what this one holds.
        let settling = self.outstanding.begin(asked.organization);
        let place = asked.place.clone();
        self.tasks.spawn(canonical::carried(async move {
            let looked = async {
                settler.wait(first).await;
                let kept = (settling, place);
                let found = settler.look(call);
                tokio::pin!(found);
                let soon = timeout(KEPT, &mut found).await.ok();
                drop(kept);
                let mut found = match soon {
                    Some(found) => found?,
                    None => found.await?,
                };
                for wait in LOOKS {
                    // A process that stops looks once more.
                    if found || settler.cut.is_cancelled() {
                        break;
                    }
                    settler.wait(wait).await;
                    found = settler.look(call).await?;
                }
                Ok::<_, DbError>(())
            };
            match timeout(LOOKED_FOR, looked).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(%call, %error, "a call that was not sent could not be released");
                }
                Err(_) => tracing::error!(%call, "a call that was not sent is left to maintenance"),
            }
        }));
    }

    /// Releases the call if it is open; whether it was.
    async fn look(&self, call: Uuid) -> Result<bool, DbError> {
        let mut usage = Spent::Unsent.counts();
        usage["status"] = json!("cancelled");
        usage["error_code"] = json!("not_sent");
        Ok(self.end(call, &usage).await?.is_some())
    }

    /// Waits, unless the process stops.
    async fn wait(&self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            () = self.cut.cancelled() => {}
        }
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
    /// The API is no longer at it. It may have opened the call, which is looked for at once.
    pub(super) fn returned(&mut self) {
        self.first_look = Duration::ZERO;
    }

    /// The API has answered: it opened the call, or did nothing.
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.answered {
            self.settler.release(self);
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

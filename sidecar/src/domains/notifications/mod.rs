//! Notifications: the database makes them. This domain wakes it when a transaction has committed that reached a threshold of usage,
//! so that nobody waits for the schedule, which does the same once a minute.

mod store;

use std::{sync::Arc, time::Duration};

use kijko_core::{
    Context, Domain, Setup,
    config::Reader,
    db::{Channel, Db, Wake},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The extension notifies here.
const CROSSED: &str = "kijko_threshold_crossings";
/// Crossings that come meanwhile share one call.
const BREATH: Duration = Duration::from_millis(100);

/// There is nothing to read.
pub fn from_env(_: &mut Reader<'_>) -> Setup {
    Box::new(|context: &Context| {
        if !context.runs_jobs {
            return Ok(Domain::default());
        }
        let (db, crossed) = (context.db.clone(), Arc::<Notify>::default());
        let wake = Wake::Look(crossed.clone());
        Ok(Domain {
            channels: vec![Channel {
                name: CROSSED,
                wake,
            }],
            background: vec![Box::new(move |stop| Box::pin(emit(db, crossed, stop)))],
            ..Domain::default()
        })
    })
}

/// Until `stop`. What fails is done by the schedule.
async fn emit(db: Db, crossed: Arc<Notify>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = crossed.notified() => {}
        }
        loop {
            match store::emit_thresholds(&db).await {
                Ok(taken) if taken >= store::MAX_CROSSINGS => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "thresholds of usage notify within a minute");
                    break;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(BREATH) => {}
        }
    }
}

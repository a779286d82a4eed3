//! Reports the providers of this process to the database, which so knows the models that can be called.

use std::time::Duration;

use kijko_core::domain::Background;

use super::store::Store;

/// A report counts for an hour.
const INTERVAL: Duration = Duration::from_secs(60);

/// After a report that failed, because the database was away or is older than this build.
const RETRY: Duration = Duration::from_secs(5);

/// Reports at the start and then every minute.
pub(super) fn report_until_stopped(store: Store, providers: Vec<&'static str>) -> Background {
    Box::new(move |stop| {
        Box::pin(async move {
            loop {
                let pause = match store.report_providers(&providers).await {
                    Ok(()) => INTERVAL,
                    Err(error) => {
                        tracing::warn!(%error, "the providers were not reported");
                        RETRY
                    }
                };
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        })
    })
}

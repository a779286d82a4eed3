//! Reads the log, hands it to the database in batches, and counts what was recorded.

use std::{collections::HashMap, io, path::PathBuf, sync::Arc, time::Duration};

use kijko_core::{
    backoff::Backoff,
    db::{Db, DbError},
    domain::Background,
    telemetry::traces::Tracer,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    files::{self, Chunk, LogFile},
    line::{self, LoggedRequest},
    metrics::{Outcome, RequestLogSeries},
    store,
};

/// How often the log is looked at.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A batch that the database refuses so often is passed: those behind it must not wait for ever.
const MAX_REFUSALS: u32 = 5;

/// The log of the proxy.
pub(super) struct RequestLog {
    pub path: PathBuf,
    /// One of how many requests is recorded.
    pub sample: u32,
    /// How long it goes on reading when it is asked to stop, if nobody else can read the rest.
    pub last_round: Option<Duration>,
    pub db: Db,
    pub tracer: Tracer,
    pub series: Arc<RequestLogSeries>,
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the log cannot be read: {0}")]
    File(#[from] io::Error),
    #[error("requests cannot be recorded: {0}")]
    Database(#[from] DbError),
}

/// How far each file has been read, and how often its next batch was refused.
#[derive(Default)]
struct Positions(HashMap<String, (u64, u32)>);

impl RequestLog {
    pub fn background(self) -> Background {
        Box::new(move |stop| Box::pin(self.run(stop)))
    }

    async fn run(self, stop: CancellationToken) {
        let mut positions = Positions::default();
        let mut backoff = Backoff::new(PAUSE, LONGEST_PAUSE);
        while !stop.is_cancelled() {
            let pause = match self.round(&mut positions, &stop).await {
                Ok(()) => {
                    backoff.reset();
                    PAUSE
                }
                // The proxy has logged nothing yet.
                Err(Fault::File(error)) if error.kind() == io::ErrorKind::NotFound => PAUSE,
                Err(error) => {
                    tracing::warn!(%error, "the log of requests waits");
                    backoff.next_delay()
                }
            };
            let _ = tokio::time::timeout(pause, stop.cancelled()).await;
        }
        if let Some(limit) = self.last_round
            && tokio::time::timeout(limit, self.read_to_the_end(&mut positions))
                .await
                .is_err()
        {
            tracing::error!("the last requests of the log are not recorded");
        }
    }

    async fn read_to_the_end(&self, positions: &mut Positions) {
        let never = CancellationToken::new();
        while let Err(fault) = self.round(positions, &never).await {
            // The proxy has logged nothing.
            if matches!(&fault, Fault::File(error) if error.kind() == io::ErrorKind::NotFound) {
                return;
            }
            tracing::warn!(error = %fault, "the log of requests waits");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads all that is new.
    async fn round(
        &self,
        positions: &mut Positions,
        stop: &CancellationToken,
    ) -> Result<(), Fault> {
        let path = self.path.clone();
        let files = blocking(move || files::find(&path)).await?;
        positions
            .0
            .retain(|id, _| files.iter().any(|file| file.id == *id));
        let mut unread = 0;
        for file in files {
            unread += self.read(Arc::new(file), positions, stop).await?;
        }
        self.series.set_unread(unread);
        Ok(())
    }

    /// Returns how many bytes are left: half a line.
    async fn read(
        &self,
        file: Arc<LogFile>,
        positions: &mut Positions,
        stop: &CancellationToken,
    ) -> Result<u64, Fault> {
        let (mut at, mut refusals) = match positions.0.get(&file.id) {
            Some(known) => *known,
            None => (store::position(&self.db, &file.id).await?, 0),
        };
        while at < file.size && !stop.is_cancelled() {
            let from = file.clone();
            let Some(chunk) = blocking(move || from.read(at)).await? else {
                break;
            };
            match self.record(&file.id, at, &chunk).await {
                Ok(reached) => (at, refusals) = (reached, 0),
                Err(error) => {
                    // Only what the database has answered is about the batch.
                    refusals += u32::from(matches!(
                        error,
                        DbError::Refused {
                            transient: false,
                            ..
                        }
                    ));
                    if refusals >= MAX_REFUSALS {
                        tracing::error!(%error, bytes = chunk.lines.len(), "requests of the log are left out");
                        at = store::record(&self.db, &file.id, (at, chunk.end), &json!([])).await?;
                        refusals = 0;
                    }
                    positions.0.insert(file.id.clone(), (at, refusals));
                    return Err(error.into());
                }
            }
            positions.0.insert(file.id.clone(), (at, refusals));
        }
        positions.0.insert(file.id.clone(), (at, refusals));
        Ok(file.size.saturating_sub(at))
    }

    async fn record(&self, file: &str, at: u64, chunk: &Chunk) -> Result<u64, DbError> {
        let lines = chunk.lines.split(|byte| *byte == b'\n');
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        let requests: Vec<_> = lines.iter().filter_map(|line| line::parse(line)).collect();
        let kept: Vec<LoggedRequest> = requests
            .iter()
            .filter_map(|request| line::sample(request.clone(), self.sample))
            .collect();
        let reached = store::record(&self.db, file, (at, chunk.end), &json!(kept)).await?;
        // Another reader has counted what it was faster with.
        if reached == chunk.end {
            for request in &requests {
                self.series.request(request);
                if let Some((place, _)) = request.trace
                    && self.tracer.keeps(place.trace)
                    && let Some(span) = request.span()
                {
                    self.tracer.record(span);
                }
            }
            for (outcome, count) in [
                (Outcome::Recorded, kept.len()),
                (Outcome::NotSampled, requests.len() - kept.len()),
                (Outcome::Skipped, lines.len() - requests.len()),
            ] {
                self.series.lines(outcome, count as u64);
            }
        }
        Ok(reached)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

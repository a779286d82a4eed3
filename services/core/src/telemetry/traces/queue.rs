//! Spans that wait for the exporter, bounded in number and in bytes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::sync::Notify;

use super::metrics::{Outcome, SpanSeries};

/// So many wait at most, in so many bytes.
pub(super) const MAX_SPANS: usize = 8_192;
pub(super) const MAX_BYTES: usize = 16 << 20;
/// What one request holds at most. A span is smaller than a batch.
pub(super) const MAX_BATCH: usize = 512;
const MAX_BATCH_BYTES: usize = 2 << 20;
/// A batch that is not full waits so long for more.
const LINGER: Duration = Duration::from_secs(1);

/// The queue.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
    series: Arc<SpanSeries>,
}

#[derive(Default)]
struct State {
    spans: VecDeque<(Span, usize)>,
    bytes: usize,
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(series: Arc<SpanSeries>) -> Self {
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            series,
        }
    }

    /// Takes a span, or drops it when there is no room: the oldest ones may already be with the collector.
    pub(super) fn push(&self, span: Span) {
        let size = span.encoded_len();
        let mut state = self.lock();
        if state.is_closed || state.spans.len() >= MAX_SPANS || state.bytes + size > MAX_BYTES {
            drop(state);
            return self.series.count(Outcome::Dropped, 1);
        }
        state.bytes += size;
        state.spans.push_back((span, size));
        self.series.waiting(state.spans.len());
        let is_due = state.spans.len() == 1 || state.spans.len() == MAX_BATCH;
        drop(state);
        if is_due {
            self.changed.notify_one();
        }
    }

    /// The next batch; waits until there is one. Empty when the queue is closed and all is taken.
    pub(super) async fn next(&self) -> Vec<Span> {
        loop {
            let (waiting, is_closed) = {
                let state = self.lock();
                (state.spans.len(), state.is_closed)
            };
            if waiting >= MAX_BATCH || is_closed {
                break;
            }
            if waiting == 0 {
                self.changed.notified().await;
            } else {
                let more = tokio::time::timeout(LINGER, self.full()).await;
                if more.is_err() {
                    break;
                }
            }
        }
        self.take()
    }

    async fn full(&self) {
        loop {
            self.changed.notified().await;
            let state = self.lock();
            if state.spans.len() >= MAX_BATCH || state.is_closed {
                return;
            }
        }
    }

    fn take(&self) -> Vec<Span> {
        let mut state = self.lock();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < MAX_BATCH
            && let Some((_, size)) = state.spans.front()
            && (batch.is_empty() || bytes + size <= MAX_BATCH_BYTES)
            && let Some((span, size)) = state.spans.pop_front()
        {
            bytes += size;
            state.bytes -= size;
            batch.push(span);
        }
        self.series.waiting(state.spans.len());
        batch
    }

    /// No more spans; the exporter takes what is there.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Waits so long, or until the queue is closed.
    pub(super) async fn closed_within(&self, time: Duration) {
        let closed = async {
            while !self.is_closed() {
                self.changed.notified().await;
            }
        };
        let _ = tokio::time::timeout(time, closed).await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    pub(super) fn len(&self) -> usize {
        self.lock().spans.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The text of a running execution, written while the model answers, so that its organization can read along. It is a preview:
//! the output replaces it, and nothing depends on it.

use std::{collections::VecDeque, convert::Infallible, future, time::Duration};

use kijko_core::jobs::{Job, Queue, queue::without_nul};

use super::store::Store;
use crate::llm::Progress;

/// Readers see a text grow twice a second; each write is a transaction.
const PERIOD: Duration = Duration::from_millis(500);
/// The check of `execution_text_chunks.text` counts characters, of which there are never more than bytes.
const MAX_PIECE_BYTES: usize = 65_536;
/// Nobody reads along further than this.
const MAX_TEXT_BYTES: usize = 262_144;

/// Writes the text of one attempt.
pub(super) struct TextWriter<'a> {
    store: &'a Store,
    queue: &'a Queue,
    job: &'a Job,
    progress: Progress,
}

/// What is to be written. A piece keeps its number until it is known to be written, since a write whose answer got lost may
/// have happened.
#[derive(Debug, Default)]
struct Pieces {
    /// How many were written.
    written: i32,
    waiting: VecDeque<String>,
    /// Of all text that came.
    bytes: usize,
}

impl<'a> TextWriter<'a> {
    /// For the text that this call reports.
    pub(super) fn new(
        store: &'a Store,
        queue: &'a Queue,
        job: &'a Job,
        progress: Progress,
    ) -> Self {
        Self {
            store,
            queue,
            job,
            progress,
        }
    }

    /// Writes until the call has ended. A write that fails or hangs does not delay the call.
    pub(super) async fn beside<T>(&self, call: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            answer = call => answer,
            never = self.write() => match never {},
        }
    }

    async fn write(&self) -> Infallible {
        let mut pieces = Pieces::default();
        loop {
            tokio::time::sleep(PERIOD).await;
            pieces.push(&self.progress.take_text());
            let Some((seq, text)) = pieces.next() else {
                continue;
            };
            match self
                .store
                .stream_text(self.queue, self.job, seq, text)
                .await
            {
                Ok(true) => pieces.took_one(),
                // The heartbeat tells the worker that it lost the job.
                Ok(false) => return future::pending().await,
                Err(error) => tracing::debug!(%error, "a piece of text waits"),
            }
        }
    }
}

impl Pieces {
    /// Takes in more text, up to the limit.
    fn push(&mut self, text: &str) {
        let room = MAX_TEXT_BYTES.saturating_sub(self.bytes);
        let mut rest = &text[..text.floor_char_boundary(room)];
        // What does not fit ends the text: the next piece would leave a gap.
        self.bytes = match rest.len() < text.len() {
            true => MAX_TEXT_BYTES,
            false => self.bytes + text.len(),
        };
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.floor_char_boundary(MAX_PIECE_BYTES));
            self.waiting.push_back(without_nul(piece));
            rest = later;
        }
    }

    fn next(&self) -> Option<(i32, &str)> {
        let piece = self.waiting.front()?;
        Some((self.written + 1, piece))
    }

    fn took_one(&mut self) {
        self.waiting.pop_front();
        self.written += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut pieces: Pieces) -> Vec<(i32, String)> {
        let mut taken = Vec::new();
        while let Some((seq, text)) = pieces.next() {
            taken.push((seq, text.to_owned()));
            pieces.took_one();
        }
        taken
    }

    #[test]
    fn pieces_are_numbered_and_one_that_failed_keeps_its_number() {
        let mut pieces = Pieces::default();
        assert_eq!(pieces.next(), None);
        pieces.push("");
        assert_eq!(pieces.next(), None);
        pieces.push("one");
        assert_eq!(pieces.next(), Some((1, "one")));
        pieces.push("two\0");
        assert_eq!(pieces.next(), Some((1, "one")));
        assert_eq!(
            all(pieces),
            [(1, "one".to_owned()), (2, "two\u{fffd}".to_owned())]
        );
    }

    #[test]
    fn pieces_and_text_are_bounded_without_breaking_a_character() {
        let mut pieces = Pieces::default();
        pieces.push(&"x€".repeat(40_000));
        pieces.push(&"€".repeat(40_000));
        pieces.push("later");
        let texts: Vec<String> = all(pieces).into_iter().map(|(_, text)| text).collect();
        assert!(texts.iter().all(|text| text.len() <= MAX_PIECE_BYTES));
        let whole = texts.concat();
        assert!(whole.len() <= MAX_TEXT_BYTES && whole.len() > MAX_TEXT_BYTES - 4);
        assert!(!whole.contains("later"));
    }
}

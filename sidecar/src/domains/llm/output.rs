//! Where an answer goes: to the client as it comes, or into one whole.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::body::Bytes;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::{
    answer::Heading,
    assemble::Assembly,
    error::ApiError,
    failure::Failure,
    reader::{Reader, has_substance},
};

/// Parts of a stream that wait for the client. A slow one slows its vendor, and no more than this is kept.
const WAITING: usize = 32;

/// What the handler gets.
pub(super) enum Reply {
    Whole(Value),
    Stream(mpsc::Receiver<Bytes>),
    Failed(Box<ApiError>),
}

/// The place of the answer.
pub(super) struct Output {
    reply: Option<oneshot::Sender<Reply>>,
    stream: Option<Stream>,
    /// The answer as far as it came, if it is wanted as a whole or kept.
    pub assembly: Option<Assembly>,
    /// An answer that came whole.
    pub whole: Option<Value>,
    /// Whether every choice that began has ended.
    pub said: Arc<AtomicBool>,
}

struct Stream {
    heading: Heading,
    with_usage: bool,
    /// How long the client may take none of the parts that wait.
    patience: Duration,
    /// The client takes no more.
    is_over: bool,
    parts: mpsc::Sender<Bytes>,
    receiver: Option<mpsc::Receiver<Bytes>>,
    /// Pieces without substance: as long as there are no others, another vendor may answer.
    held: Vec<Bytes>,
}

impl Output {
    pub(super) fn whole(reply: oneshot::Sender<Reply>) -> Self {
        Self {
            reply: Some(reply),
            stream: None,
            assembly: None,
            whole: None,
            said: Arc::default(),
        }
    }

    pub(super) fn stream(
        reply: oneshot::Sender<Reply>,
        heading: Heading,
        with_usage: bool,
        patience: Duration,
    ) -> Self {
        let (parts, receiver) = mpsc::channel(WAITING);
        let stream = Stream {
            heading,
            with_usage,
            patience,
            is_over: false,
            parts,
            receiver: Some(receiver),
            held: Vec::new(),
        };
        Self {
            stream: Some(stream),
            ..Self::whole(reply)
        }
    }

    /// A new attempt begins: nothing of the former one is kept.
    pub(super) fn restart(&mut self, keeps: bool) {
        self.said.store(false, Ordering::Relaxed);
        self.assembly = keeps.then(Assembly::default);
        self.whole = None;
        if let Some(stream) = &mut self.stream {
            stream.held.clear();
        }
    }

    /// Whether the client has something of the answer. From then on no other vendor can answer.
    pub(super) fn has_begun(&self) -> bool {
        let stream = self.stream.as_ref();
        stream.is_some_and(|stream| stream.receiver.is_none())
    }

    /// Takes the choices of a chunk; whether they say something.
    pub(super) async fn take(
        &mut self,
        reader: &Reader,
        choices: Vec<Value>,
    ) -> Result<bool, Failure> {
        let said = reader.tally.is_complete();
        self.said.store(said, Ordering::Relaxed);
        if let Some(assembly) = &mut self.assembly {
            choices.iter().for_each(|choice| assembly.take(choice));
        }
        let substance = choices.iter().any(has_substance);
        let Some(stream) = &mut self.stream else {
            return Ok(substance);
        };
        let mut heading = stream.heading.clone();
        if let Some(model) = &reader.model {
            heading.model.clone_from(model);
        }
        let chunk = heading.chunk(reader, choices, stream.with_usage);
        if !substance && stream.receiver.is_some() {
            stream.held.push(chunk);
            return Ok(false);
        }
        for held in std::mem::take(&mut stream.held) {
            self.push(held).await?;
        }
        self.push(chunk).await?;
        Ok(substance)
    }

    /// Sends a part. The first one takes the head of the answer with it. A client that takes nothing for its time counts as gone.
    pub(super) async fn push(&mut self, part: Bytes) -> Result<(), Failure> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        if let (Some(receiver), Some(reply)) = (stream.receiver.take(), self.reply.take()) {
            let _ = reply.send(Reply::Stream(receiver));
        }
        if stream.is_over {
            return Err(Failure::ClientGone);
        }
        let sent = tokio::time::timeout(stream.patience, stream.parts.send(part)).await;
        sent.ok().and_then(Result::ok).ok_or_else(|| {
            stream.is_over = true;
            Failure::ClientGone
        })
    }

    /// Answers at once. After a stream began there is nothing more to answer.
    pub(super) fn answer(&mut self, reply: Reply) {
        if let Some(sender) = self.reply.take() {
            let _ = sender.send(reply);
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// The chunk with usage, if it was asked for.
    pub(super) fn usage_chunk(&self, reader: &Reader, usage: Value) -> Option<Bytes> {
        let stream = self.stream.as_ref().filter(|stream| stream.with_usage)?;
        let mut heading = stream.heading.clone();
        if let Some(model) = &reader.model {
            heading.model.clone_from(model);
        }
        Some(heading.usage_chunk(reader, usage))
    }
}

//! The child as its parent sees it.

use std::{collections::HashSet, io, path::Path, process::Stdio, time::Duration};

use gix_hash::{Kind as HashKind, ObjectId};
use gix_object::Kind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{ChildStderr, ChildStdin, ChildStdout, Command},
};

use super::{
    ARGUMENT,
    frames::{self, Blob, Entry, File, Listed, Open, Reply, Request},
};

/// This program, also after its file was replaced by a newer one.
pub const SELF: &str = "/proc/self/exe";
/// The child's exit status after an error of input or output.
const FAILURE: i32 = 1;
/// Bytes of what the child says in its own words.
const MAX_WORDS: u64 = 2_000;

/// Why the child gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It cannot be started or written to.
    #[error("the child cannot be used: {0}")]
    Io(#[from] io::Error),
    /// It ended: a limit of the kernel, or a fault of a parser.
    #[error("the child ended: {0}")]
    Ended(String),
    /// It says why.
    #[error("{message}")]
    Failed {
        /// The code of the failure.
        code: String,
        /// In words.
        message: String,
    },
    /// It answers what was not asked.
    #[error("the child answers something else: {0}")]
    Unexpected(&'static str),
}

/// A running child. It is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    input: ChildStdin,
    output: ChildStdout,
    words: ChildStderr,
}

impl Child {
    /// Starts one of this program with so much memory and time.
    pub fn start(program: &Path, memory: u64, time: Duration) -> Result<Self, ChildError> {
        let mut process = Command::new(program)
            .arg(ARGUMENT)
            .args([
                (memory >> 20).to_string(),
                time.as_secs().max(1).to_string(),
            ])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        Ok(Self {
            input: process.stdin.take().ok_or_else(missing)?,
            output: process.stdout.take().ok_or_else(missing)?,
            words: process.stderr.take().ok_or_else(missing)?,
            process,
        })
    }

    /// Its number.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Lists the files.
    pub async fn open(&mut self, open: Open) -> Result<Listed, ChildError> {
        self.send(&Request::Open(open)).await?;
        match self.reply().await? {
            Reply::Listed(listed) => Ok(listed),
            _ => Err(ChildError::Unexpected("no list")),
        }
    }

    /// The next page of the files; behind the last one, none.
    pub async fn page(&mut self) -> Result<Vec<Entry>, ChildError> {
        self.send(&Request::Page).await?;
        match self.reply().await? {
            Reply::Entries { entries } => Ok(entries),
            _ => Err(ChildError::Unexpected("no entries")),
        }
    }

    /// Asks for files.
    pub async fn parse(&mut self, files: &[File]) -> Result<(), ChildError> {
        let files = files.to_vec();
        self.send(&Request::Parse { files }).await
    }

    /// The next of the files that were asked for.
    pub async fn blob(&mut self, file: &File) -> Result<Blob, ChildError> {
        match self.reply().await? {
            Reply::Blob(blob) if is_of(&blob, file) => Ok(*blob),
            _ => Err(ChildError::Unexpected("another file")),
        }
    }

    async fn send(&mut self, request: &Request) -> Result<(), ChildError> {
        let bytes = frames::encode(request)?;
        match self.input.write_all(&bytes).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.end().await),
        }
    }

    async fn reply(&mut self) -> Result<Reply, ChildError> {
        let mut length = [0; 4];
        if self.output.read_exact(&mut length).await.is_err() {
            return Err(self.end().await);
        }
        let mut bytes = vec![0; frames::length_of(length)?];
        if self.output.read_exact(&mut bytes).await.is_err() {
            return Err(self.end().await);
        }
        let reply = serde_json::from_slice(&bytes);
        match reply.map_err(|_| ChildError::Unexpected("no reply"))? {
            Reply::Failed { code, message } => Err(ChildError::Failed { code, message }),
            reply => Ok(reply),
        }
    }

    /// How it ended, for the log.
    async fn end(&mut self) -> ChildError {
        let _ = self.process.start_kill();
        let mut words = Vec::new();
        let mut read = (&mut self.words).take(MAX_WORDS);
        let read = read.read_to_end(&mut words);
        // What is left of a child that wrote nothing is nothing.
        let _ = tokio::time::timeout(Duration::from_secs(5), read).await;
        let words = String::from_utf8_lossy(&words);
        let status = match self.process.wait().await {
            // It could not read or write: a fault of this machine, not of the repository.
            Ok(status) if status.code() == Some(FAILURE) => {
                return io::Error::other(words.trim().to_owned()).into();
            }
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        ChildError::Ended(format!("{status} {}", words.trim()))
    }
}

/// Whether it is the file that was asked for: its content must have its id, so that one repository cannot write for another one.
fn is_of(blob: &Blob, file: &File) -> bool {
    let skips: HashSet<&str> = ["binary", "too_large", "generated"].into();
    let fits = match (&blob.content, &blob.skipped) {
        (Some(content), None) => {
            let id = gix_object::compute_hash(HashKind::Sha1, Kind::Blob, content.as_bytes());
            id.is_ok_and(|id| {
                ObjectId::from_hex(file.oid.as_bytes()).is_ok_and(|asked| asked == id)
            })
        }
        (None, Some(why)) => skips.contains(why.as_str()),
        _ => false,
    };
    fits && blob.oid == file.oid && blob.has_arrays()
}

//! Git's smart HTTP, protocol version 2: which commit a branch is at, and the pack of what the cache lacks.
//!
//! It is a client of its own, because the transports of the git libraries bring their own HTTP client: they would resolve names
//! without the guard, follow redirects with the token, and read without bounds. What is needed of the protocol is three requests:
//!
//! 1. `GET info/refs`: the capabilities. Redirects are followed here, checked one by one, and without the token.
//! 2. `ls-refs`: the commit of the branch.
//! 3. `fetch`: that commit without its history, as a pack into a file, within limits of bytes and time.

mod error;
mod mirrors;
mod pkt_line;
mod transport;

use std::{path::Path, time::Duration};

use kijko_core::secret::Secret;
use kijko_guard::Guard;
use tokio::{fs::File, io::AsyncWriteExt};

pub use error::FetchError;
pub use mirrors::Mirrors;
use pkt_line::{Line, Lines, write_delimiter, write_flush, write_line};
use transport::Transport;

/// Bytes of an answer that is no pack.
const MAX_ANSWER: u64 = 4 << 20;

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Source {
    /// The address, as its maker wrote it.
    pub clone_url: String,
    /// The branch; none: the one that HEAD points at.
    pub branch: Option<String>,
    /// The token and the host that it is for.
    pub token: Option<Token>,
    /// Bytes of the pack.
    pub max_bytes: u64,
    /// Larger files need not come.
    pub max_file_bytes: u64,
}

/// A token of a provider.
#[derive(Debug, Clone)]
pub struct Token {
    /// The only host that gets it.
    pub host: String,
    /// The name that the provider expects beside a token.
    pub user: &'static str,
    /// The token.
    pub secret: Secret,
}

/// Fetches from any repository.
#[derive(Debug, Clone)]
pub struct Fetcher {
    guard: Guard,
    http: reqwest::Client,
    /// For mirrors alone: they may be in the operator's own network, where no tenant's URL leads.
    mirror_http: reqwest::Client,
    mirrors: Mirrors,
    idle: Duration,
}

/// A repository whose server has answered.
#[derive(Debug)]
pub struct Remote {
    transport: Transport,
    max_bytes: u64,
    max_file_bytes: u64,
    filters: bool,
    idle: Duration,
}

impl Fetcher {
    /// Makes the client.
    pub fn new(guard: Guard, mirrors: Mirrors, idle: Duration) -> Result<Self, reqwest::Error> {
        let agent = format!("kijko-indexer/{}", crate::VERSION);
        let client = |guard: &Guard| {
            guard.client(|builder| {
                builder
                    .user_agent(agent.clone())
                    .connect_timeout(Duration::from_secs(10).min(idle))
                    .read_timeout(idle)
            })
        };
        Ok(Self {
            http: client(&guard)?,
            mirror_http: client(&Guard::new(mirrors.hosts()))?,
            guard,
            mirrors,
            idle,
        })
    }

    /// Asks for the server's capabilities.
    pub async fn connect(&self, source: &Source) -> Result<Remote, FetchError> {
        let mut transport = Transport::new(self, source)?;
        let answer = transport.advertisement().await?;
        let mut lines = Lines::new(answer, MAX_ANSWER, self.idle);
        let (mut version, mut filters, mut sha1) = (false, false, true);
        // A server may begin with the service's name and a flush.
        let mut flushes = 0;
        loop {
            match lines.next().await? {
                Line::Data(line) => {
                    let line = String::from_utf8_lossy(&line);
                    let line = line.trim_end();
                    version |= line == "version 2";
                    if let Some(features) = line.strip_prefix("fetch=") {
                        filters = features.split(' ').any(|feature| feature == "filter");
                    }
                    if let Some(format) = line.strip_prefix("object-format=") {
                        sha1 = format == "sha1";
                    }
                }
                Line::Flush => {
                    flushes += 1;
                    if version || flushes == 2 {
                        break;
                    }
                }
                Line::Delimiter | Line::ResponseEnd => {}
                Line::End => break,
            }
        }
        if !version {
            return Err(FetchError::Protocol(
                "the server does not speak version 2 of git's protocol",
            ));
        }
        if !sha1 {
            return Err(FetchError::Protocol("the repository's ids are not SHA-1"));
        }
        Ok(Remote {
            transport,
            max_bytes: source.max_bytes,
            max_file_bytes: source.max_file_bytes,
            filters,
            idle: self.idle,
        })
    }
}

impl Remote {
    /// The commit of a branch, or of the one that HEAD points at.
    pub async fn commit_of(&mut self, branch: Option<&str>) -> Result<String, FetchError> {
        let name = branch.map_or("HEAD".to_owned(), |branch| format!("refs/heads/{branch}"));
        let mut request = Vec::new();
        write_line(&mut request, "command=ls-refs\n")?;
        write_line(&mut request, "object-format=sha1\n")?;
        write_delimiter(&mut request);
        write_line(&mut request, &format!("ref-prefix {name}\n"))?;
        write_flush(&mut request);
        let mut lines = Lines::new(
            self.transport.upload_pack(request).await?,
            MAX_ANSWER,
            self.idle,
        );
        let mut found = None;
        while let Line::Data(line) = lines.next().await? {
            let line = String::from_utf8_lossy(&line);
            let mut words = line.trim_end().split(' ');
            if let (Some(commit), Some(reference)) = (words.next(), words.next())
                && reference == name
            {
                found = Some(commit.to_owned());
            }
        }
        match found {
            Some(commit) if is_oid(&commit) => Ok(commit),
            Some(_) => Err(FetchError::Protocol(
                "the server names no commit for the branch",
            )),
            None => Err(FetchError::BranchNotFound),
        }
    }

    /// The pack of a commit without its history, less what commits that are known already have, into a file.
    pub async fn pack(
        &mut self,
        commit: &str,
        known: &[String],
        file: &Path,
    ) -> Result<u64, FetchError> {
        let mut request = Vec::new();
        write_line(&mut request, "command=fetch\n")?;
        write_line(&mut request, "object-format=sha1\n")?;
        write_delimiter(&mut request);
        // Without it, a server sends all files again: what a commit without history has in common with a known one, it looks up for
        // thin packs only.
        write_line(&mut request, "thin-pack\n")?;
        write_line(&mut request, "no-progress\n")?;
        write_line(&mut request, "ofs-delta\n")?;
        for known in known {
            write_line(&mut request, &format!("shallow {known}\n"))?;
        }
        write_line(&mut request, "deepen 1\n")?;
        if self.filters {
            let limit = self.max_file_bytes.saturating_add(1);
            write_line(&mut request, &format!("filter blob:limit={limit}\n"))?;
        }
        write_line(&mut request, &format!("want {commit}\n"))?;
        for known in known {
            write_line(&mut request, &format!("have {known}\n"))?;
        }
        write_line(&mut request, "done\n")?;
        write_flush(&mut request);
        let answer = self.transport.upload_pack(request).await?;
        let mut lines = Lines::new(answer, self.max_bytes.saturating_add(MAX_ANSWER), self.idle);
        loop {
            match lines.next().await? {
                Line::Data(line)
                    if line.as_ref() == b"packfile\n" || line.as_ref() == b"packfile" =>
                {
                    break;
                }
                Line::Data(line) if line.starts_with(b"ERR ") => return Err(refused(&line[4..])),
                Line::End => return Err(FetchError::Protocol("the server sends no pack")),
                _ => {}
            }
        }
        let mut file = File::create(file).await?;
        let mut written = 0;
        loop {
            match lines.next().await? {
                Line::Data(line) => match line.split_first() {
                    Some((1, data)) => {
                        written += data.len() as u64;
                        if written > self.max_bytes {
                            return Err(FetchError::TooLarge(self.max_bytes));
                        }
                        file.write_all(data).await?;
                    }
                    Some((2, _)) => {}
                    Some((3, message)) => return Err(refused(message)),
                    _ => return Err(FetchError::Protocol("the server sends an unknown band")),
                },
                Line::Flush | Line::ResponseEnd => break,
                Line::Delimiter => {}
                Line::End => return Err(FetchError::Broken("the pack has no end".to_owned())),
            }
        }
        file.flush().await?;
        Ok(written)
    }
}

/// What the server says, for the log and the owner of the repository.
fn refused(message: &[u8]) -> FetchError {
    let message = String::from_utf8_lossy(message);
    let plain = message.chars().filter(|letter| !letter.is_control());
    FetchError::Refused(plain.take(200).collect())
}

/// Whether it is an id of SHA-1.
pub fn is_oid(text: &str) -> bool {
    text.len() == 40
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

//! Search in files, by literals and by regular expressions. The database gives the files that have the literals of an expression, of
//! branches that the caller sees, page by page; their lines are matched here.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::http::HeaderMap;
use kijko_core::{error::Error, telemetry::canonical};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::pattern::{Expression, Line, Options, Pattern, Wanted};
use crate::{
    api::{Api, NotGranted},
    turns::Turns,
};

/// What one request may read. The first page of files is small: an expression that many lines match needs no more.
const FIRST_BYTES: u64 = 256 << 10;
const MORE_BYTES: [u64; 2] = [1 << 20, 2 << 20];
/// It may take this long; then what was found is the page.
const TIME: Duration = Duration::from_secs(2);
const MAX_MATCHES: u64 = 100;
const DEFAULT_MATCHES: u64 = 50;
const MAX_CONTEXT: u64 = 10;
const DEFAULT_CONTEXT: u64 = 2;

/// A search, as routes and tools have it.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct CodeQuery {
    #[serde(alias = "q")]
    pub query: String,
    #[serde(default)]
    pub regex: bool,
    #[serde(default)]
    pub match_case: bool,
    #[serde(default)]
    pub whole_word: bool,
    pub languages: Option<Vec<String>>,
    pub path: Option<String>,
    pub repository_id: Option<Uuid>,
    pub branch: Option<String>,
    pub context: Option<u64>,
    #[serde(alias = "n")]
    pub limit: Option<u64>,
    /// `next` of the page before.
    pub after: Option<String>,
}

/// A page.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Found {
    /// Each line with its file.
    pub matches: Vec<Value>,
    /// Where the next page begins; None at the end.
    pub next: Option<String>,
}

/// What `public.code_candidates` answers.
#[derive(Debug, Deserialize)]
struct Candidates {
    org_id: Uuid,
    files: Vec<Candidate>,
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Candidate {
    content: String,
    /// Repository, branch, path and language.
    #[serde(flatten)]
    file: Map<String, Value>,
}

/// Searches as the callers.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    turns: Arc<Turns>,
}

impl CodeQuery {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_MATCHES).clamp(1, MAX_MATCHES) as usize
    }

    fn context(&self) -> usize {
        self.context.unwrap_or(DEFAULT_CONTEXT).min(MAX_CONTEXT) as usize
    }

    fn filters(&self) -> Value {
        json!({
            "languages": self.languages, "path": self.path, "repository_id": self.repository_id, "branch": self.branch,
        })
    }
}

impl Search {
    pub(super) async fn code(
        &self,
        api: &Api,
        headers: &HeaderMap,
        query: CodeQuery,
    ) -> Result<(Found, HeaderMap), NotGranted> {
        let end = Instant::now() + TIME;
        if query.query.is_empty() {
            return Err(wrong("must not be empty".to_owned()).into());
        }
        let options = Options {
            match_case: query.match_case,
            whole_word: query.whole_word,
        };
        let expression = match query.regex {
            true => Expression::parse(&query.query, options),
            false => Expression::literal(&query.query, options),
        };
        let expression = expression.map_err(wrong)?;
        let mut arguments = query.filters();
        arguments["literals"] = json!(expression.literals());
        let mut place = Place::parse(query.after.as_deref())?;
        let mut page = |place: &Place, bytes: u64| {
            arguments["max_bytes"] = json!(bytes);
            arguments["after"] = json!(place.page);
            let arguments = arguments.clone();
            async move {
                let page = api.call::<Candidates>("code_candidates", headers, &arguments);
                page.await
            }
        };
        let (mut candidates, mut limits) = page(&place, FIRST_BYTES).await?;
        // Not before the caller is known.
        let compiled = tokio::task::spawn_blocking(|| expression.compile());
        let pattern = compiled.await.map_err(panicked)?.map_err(wrong)?;
        let mut found = Found::default();
        for bytes in MORE_BYTES.map(Some).into_iter().chain([None]) {
            let organization = candidates.org_id;
            let work = Work {
                pattern: pattern.clone(),
                candidates,
                context: query.context(),
                max: query.limit() - found.matches.len(),
                place,
            };
            let searched = self.turns.run(organization, work.run(end)).await;
            let (matches, next) = searched.ok_or_else(crowded)??;
            found.matches.extend(matches);
            found.next = next.as_ref().map(Place::to_string);
            let is_over = found.matches.len() == query.limit() || Instant::now() >= end;
            let (Some(next), Some(bytes), false) = (next, bytes, is_over) else {
                break;
            };
            (candidates, limits) = page(&next, bytes).await?;
            place = next;
        }
        canonical::add("matches", found.matches.len());
        Ok((found, limits))
    }
}

fn wrong(message: String) -> Error {
    Error::BadRequest(format!("query: {message}"))
}

/// Where a search goes on.
#[derive(Debug, Clone, Default, PartialEq)]
struct Place {
    /// Of this page of files; None: the first.
    page: Option<String>,
    /// So many files are done.
    files: usize,
    /// And of the next one so many lines.
    lines: usize,
}

impl Place {
    fn parse(cursor: Option<&str>) -> Result<Self, Error> {
        let Some(cursor) = cursor else {
            return Ok(Self::default());
        };
        let mut parts = cursor.splitn(3, '.');
        let mut number = || parts.next()?.parse().ok();
        let (lines, files) = (number(), number());
        match (lines, files, parts.next()) {
            (Some(lines), Some(files), Some(page)) => Ok(Self {
                page: (!page.is_empty()).then(|| page.to_owned()),
                files,
                lines,
            }),
            _ => Err(Error::BadRequest(
                "after: not the next of a page".to_owned(),
            )),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let page = self.page.as_deref().unwrap_or_default();
        write!(f, "{}.{}.{page}", self.lines, self.files)
    }
}

/// A page of files to be searched.
struct Work {
    pattern: Pattern,
    candidates: Candidates,
    context: usize,
    max: usize,
    place: Place,
}

/// Stops a search that nobody waits for any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Work {
    /// Searches in a thread of its own. What it has found at the end of its time is the page.
    async fn run(self, end: Instant) -> Result<(Vec<Value>, Option<Place>), Error> {
        let stop = StopOnDrop(Arc::default());
        let told = stop.0.clone();
        let mut search = tokio::task::spawn_blocking(move || self.search(&told));
        let found = match tokio::time::timeout_at(end.into(), &mut search).await {
            Ok(found) => found,
            Err(_) => {
                stop.0.store(true, Ordering::Relaxed);
                search.await
            }
        };
        found.map_err(panicked)
    }

    fn search(self, stop: &AtomicBool) -> (Vec<Value>, Option<Place>) {
        let mut cache = self.pattern.cache();
        let mut found = Vec::new();
        let (page, done) = (self.place.page, self.place.files);
        let count = self.candidates.files.len();
        for (files, candidate) in self.candidates.files.into_iter().enumerate().skip(done) {
            let wanted = Wanted {
                after: if files == done { self.place.lines } else { 0 },
                context: self.context,
                max: self.max - found.len(),
                stop,
            };
            let lines = self.pattern.lines(&mut cache, &candidate.content, &wanted);
            let of_file = |line| described(&candidate.file, line);
            found.extend(lines.found.into_iter().map(of_file));
            if let Some(lines) = lines.reached {
                return (found, Some(Place { page, files, lines }));
            }
        }
        let next = self.candidates.next.map(|page| Place {
            page: Some(page),
            // A page that was smaller than the one before.
            files: done.saturating_sub(count),
            lines: if done >= count { self.place.lines } else { 0 },
        });
        (found, next)
    }
}

fn described(file: &Map<String, Value>, line: Line) -> Value {
    let mut described = file.clone();
    if let Ok(Value::Object(line)) = serde_json::to_value(line) {
        described.extend(line);
    }
    Value::Object(described)
}

fn crowded() -> Error {
    Error::Unavailable {
        cause: "too many searches by regular expressions at once".to_owned(),
    }
}

fn panicked(error: tokio::task::JoinError) -> Error {
    Error::Internal {
        cause: format!("a search: {error}"),
    }
}

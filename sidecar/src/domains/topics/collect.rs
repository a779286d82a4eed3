//! One collection: what a discovery finds now, or why it finds nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kijko_core::{
    SetupError,
    jobs::Failure,
    outbound::{Client, Url},
    secret::Secret,
};
use serde::Serialize;
use serde_json::Value;

use super::{
    config::TopicsConfig,
    fetch::{Fault, Fetched, Fetcher, Validators},
    gemini::Gemini,
    searxng,
    store::{Kind, Work},
    tavily,
    vendor::{LIMITS, Refused},
};
use crate::{
    sandbox::{DocumentRequest, Item, PromptError, Sandbox},
    service::SERVICE,
    upstream::Upstream,
};

/// The page of an item with fewer characters is read.
const SHORT: usize = 600;
/// Pages that are read in a run, and how long that may take.
const MAX_PAGES: usize = 10;
const PAGES_TIME: Duration = Duration::from_secs(120);
/// How long the redirectors of an answer may take. With the search and its pages that is less than the timeout of the job, which
/// would throw away what is paid.
const RESOLVE_TIME: Duration = Duration::from_secs(40);

/// How a collection ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Found(Box<Found>),
    /// With what it cost: `None` for nothing.
    Failed(Failure, Option<Value>),
}

/// What was found, as the database takes it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Found {
    pub items: Vec<Item>,
    /// The host that sent a feed, which speaks for its own pages only. None: a vendor says what pages of others say.
    #[serde(skip)]
    pub host: Option<String>,
    /// The address of a feed that was asked.
    pub asked: Option<String>,
    /// Where it is from now on.
    pub moved_to: Option<String>,
    /// Left out: what was known still holds.
    #[serde(flatten)]
    pub validators: Option<Kept>,
    /// What the vendor charges; null for nothing.
    pub spent: Option<Value>,
}

/// By what an unchanged feed is known.
#[derive(Debug, Serialize)]
pub(super) struct Kept {
    pub etag: Option<String>,
    pub last_modified: Option<String>,
}

/// What collects.
pub(super) struct Collector {
    fetcher: Fetcher,
    sandbox: Arc<Sandbox>,
    client: Client,
    searxng: Option<Url>,
    tavily: Option<(Url, Secret)>,
    gemini: Gemini,
}

impl Collector {
    pub(super) fn new(
        config: &TopicsConfig,
        fetcher: Fetcher,
        sandbox: Arc<Sandbox>,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            fetcher,
            sandbox,
            client: Client::new(SERVICE, LIMITS)?,
            searxng: config.searxng.clone(),
            tavily: config.tavily.clone(),
            gemini: Gemini {
                configured: config.gemini.clone(),
                rows: Upstream::default(),
            },
        })
    }

    /// Collects, and reads the pages of items that say little.
    pub(super) async fn collect(&self, work: &Work) -> Outcome {
        let found = match work.collector {
            Kind::Feed => self.feed(work).await.map_err(|failure| (failure, None)),
            _ => self.search(work).await,
        };
        match found {
            Ok(mut found) => {
                found.items.truncate(work.max_items);
                let Found { items, host, .. } = &mut found;
                let host = host.as_deref();
                items.iter_mut().for_each(|item| withhold(host, item));
                if work.read_pages {
                    self.read_pages(work, host, items).await;
                }
                Outcome::Found(Box::new(found))
            }
            Err((failure, spent)) => Outcome::Failed(failure, spent),
        }
    }

    async fn feed(&self, work: &Work) -> Result<Found, Failure> {
        let url = work.url.as_deref().unwrap_or_default();
        let validators = Validators {
            etag: work.etag.as_deref(),
            last_modified: work.last_modified.as_deref(),
        };
        let got = self.fetcher.get(&work.allowed_hosts, url, validators).await;
        let fetched = got.map_err(|fault| failure_of(&fault))?;
        let mut found = Found {
            asked: Some(url.to_owned()),
            host: fetched.url.host_str().map(str::to_owned),
            moved_to: fetched.moved_to.as_ref().map(Url::to_string),
            ..Found::default()
        };
        if fetched.status.as_u16() == 304 {
            return Ok(found);
        }
        check_status(&fetched)?;
        let mut request = document(&fetched);
        request.most = work.max_items;
        let feed = self.sandbox.read_feed(&request).await;
        found.items = feed.map_err(unreadable)?.items;
        found.validators = Some(Kept {
            etag: fetched.etag,
            last_modified: fetched.last_modified,
        });
        Ok(found)
    }

    async fn search(&self, work: &Work) -> Result<Found, Refused> {
        let missing = |name: &str| {
            let message = format!("the operator has not configured {name}");
            (
                Failure::permanent("collector_not_configured", message),
                None,
            )
        };
        let (found, spent) = match work.collector {
            Kind::Tavily => {
                let tavily = self.tavily.as_ref().ok_or_else(|| missing("Tavily"))?;
                let (items, spent) = tavily::search(&self.client, tavily, work).await?;
                (items, Some(spent))
            }
            Kind::Gemini => {
                let target = work.target.as_ref().ok_or_else(|| missing("Gemini"))?;
                let (items, spent) = self.gemini.search(&self.client, target, work).await?;
                (self.resolve(work, items).await, Some(spent))
            }
            Kind::Searxng | Kind::Feed => {
                let base = self.searxng.as_ref().ok_or_else(|| missing("SearXNG"))?;
                (searxng::search(&self.client, base, work).await?, None)
            }
        };
        let wanted = found.len().min(work.max_items);
        match self.sandbox.read_items(&found[..wanted]).await {
            Ok(items) => Ok(Found {
                items,
                spent,
                ..Found::default()
            }),
            Err(error) => Err((unreadable(error), spent)),
        }
    }

    /// Items at the addresses to which their redirectors lead. One that leads nowhere, or not in time, is left out: nobody could cite it.
    async fn resolve(&self, work: &Work, items: Vec<Item>) -> Vec<Item> {
        let until = Instant::now() + RESOLVE_TIME;
        let mut resolved = Vec::with_capacity(items.len());
        for mut item in items.into_iter().take(work.max_items) {
            let left = until.saturating_duration_since(Instant::now());
            let target = self.fetcher.resolve(&work.allowed_hosts, &item.url);
            match tokio::time::timeout(left, target).await {
                Ok(Ok(url)) => {
                    item.url = url.to_string();
                    resolved.push(item);
                }
                Ok(Err(fault)) => tracing::debug!(%fault, "a source cannot be resolved"),
                Err(_) => tracing::debug!("a source is not resolved in time"),
            }
        }
        resolved
    }

    async fn read_pages(&self, work: &Work, host: Option<&str>, items: &mut [Item]) {
        let until = Instant::now() + PAGES_TIME;
        let short = items
            .iter_mut()
            .filter(|item| item.text.chars().count() < SHORT && !work.known.contains(&item.url));
        for item in short.take(MAX_PAGES) {
            let left = until.saturating_duration_since(Instant::now());
            // A page that cannot be read leaves the item as it is.
            let Ok(Ok(page)) = tokio::time::timeout(left, self.page(work, &item.url)).await else {
                continue;
            };
            if page.text.len() > item.text.len() {
                item.text = page.text;
                item.simhash = page.simhash;
                item.language = page.language.or(item.language.take());
            }
            let is_elsewhere = !speaks_for(host, &item.url) && !page.title.is_empty();
            if item.title.is_empty() || is_elsewhere {
                item.title = page.title;
            }
            item.published_at = item.published_at.take().or(page.published_at);
        }
    }

    async fn page(&self, work: &Work, url: &str) -> Result<Item, Failure> {
        let got = self
            .fetcher
            .get(&work.allowed_hosts, url, Validators::default());
        let fetched = got.await.map_err(|fault| failure_of(&fault))?;
        check_status(&fetched)?;
        let page = self.sandbox.read_page(&document(&fetched)).await;
        page.map_err(unreadable)
    }
}

/// Whether what a feed says of a page is the page's: it is on the feed's host, or on one below. A search says what it has read.
fn speaks_for(feed_host: Option<&str>, page: &str) -> bool {
    let Some(feed_host) = feed_host else {
        return true;
    };
    let feed_host = feed_host.strip_prefix("www.").unwrap_or(feed_host);
    let page = Url::parse(page).ok();
    let page_host = page.as_ref().and_then(Url::host_str).unwrap_or_default();
    let above = page_host.strip_suffix(feed_host);
    above.is_some_and(|it| it.is_empty() || it.ends_with('.'))
}

/// Takes away what a feed says of a page of somebody else: anybody could have it cited as theirs. Only the page itself says it.
fn withhold(feed_host: Option<&str>, item: &mut Item) {
    if !speaks_for(feed_host, &item.url) {
        item.text.clear();
        item.simhash = None;
        item.language = None;
    }
}

fn document(fetched: &Fetched) -> DocumentRequest {
    DocumentRequest::new(
        &fetched.body,
        fetched.url.as_str(),
        fetched.content_type.as_deref(),
    )
}

fn failure_of(fault: &Fault) -> Failure {
    let is_passing = matches!(fault, Fault::Unreachable(_));
    Failure {
        retryable: is_passing,
        ..Failure::permanent(fault.code(), fault.to_string())
    }
}

fn check_status(fetched: &Fetched) -> Result<(), Failure> {
    let status = fetched.status;
    let message = format!("the server answered {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Ok(()),
        410 => Err(Failure::permanent("feed_gone", message)),
        408 | 425 | 429 | 500..=599 => Err(Failure {
            retry_after: fetched.retry_after,
            ..Failure::transient("unreachable", message)
        }),
        _ => Err(Failure::permanent("http_status", message)),
    }
}

fn unreadable(error: PromptError) -> Failure {
    match error {
        PromptError::Sandbox(cause) => {
            tracing::error!(cause, "the sandbox failed");
            Failure::internal()
        }
        PromptError::InvalidInput(reason) => Failure::permanent(
            "document_invalid",
            format!("the document cannot be read: {reason}"),
        ),
        _ => {
            let message = "the document takes too much time or memory to read";
            Failure::permanent("document_invalid", message)
        }
    }
}

impl Work {
    /// Whether no vendor charges for it.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.collector, Kind::Feed | Kind::Searxng)
    }

    #[cfg(test)]
    pub(super) fn of_query(collector: Kind, query: &str) -> Self {
        Self {
            collector,
            url: None,
            query: Some(query.to_owned()),
            category: "news".to_owned(),
            language: "en".to_owned(),
            read_pages: false,
            max_items: 5,
            etag: None,
            last_modified: None,
            target: None,
            allowed_hosts: String::new(),
            known: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_speaks_for_the_pages_of_its_own_host_only() {
        let said = |feed_host: Option<&str>, url: &str| {
            let mut item = Item {
                url: url.to_owned(),
                text: "It is said.".to_owned(),
                simhash: Some(1),
                ..Item::default()
            };
            withhold(feed_host, &mut item);
            assert_eq!(item.text.is_empty(), item.simhash.is_none());
            !item.text.is_empty()
        };
        assert!(said(Some("www.a.example"), "https://a.example/1"));
        assert!(said(Some("a.example"), "https://news.a.example/1"));
        assert!(said(Some("127.0.0.1"), "http://127.0.0.1:8080/1"));
        for elsewhere in [
            "https://nist.gov/1",
            "https://nota.example/1",
            "https://example/1",
            "https://a.example.org/1",
            "https://a.example@nist.gov/",
            "no address",
        ] {
            assert!(!said(Some("a.example"), elsewhere), "{elsewhere}");
            assert!(said(None, elsewhere), "{elsewhere}");
        }
    }
}

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
    gemini, searxng,
    store::{Kind, Work},
    tavily,
    vendor::{LIMITS, Refused},
};
use crate::{
    llm::VendorConfig,
    sandbox::{DocumentRequest, Item, PromptError, Sandbox},
    service::SERVICE,
};

/// The page of an item with fewer characters is read.
const SHORT: usize = 600;
/// Pages that are read in a run, and how long that may take.
const MAX_PAGES: usize = 10;
const PAGES_TIME: Duration = Duration::from_secs(120);

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
    gemini: Option<VendorConfig>,
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
            gemini: config.gemini.clone(),
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
                if work.read_pages {
                    self.read_pages(work, &mut found.items).await;
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
                let vendor = self.gemini.as_ref().ok_or_else(|| missing("Gemini"))?;
                let (items, spent) = gemini::search(&self.client, vendor, work).await?;
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

    /// Items at the addresses to which their redirectors lead. One that leads nowhere is left out: nobody could cite it.
    async fn resolve(&self, work: &Work, items: Vec<Item>) -> Vec<Item> {
        let mut resolved = Vec::with_capacity(items.len());
        for mut item in items.into_iter().take(work.max_items) {
            match self.fetcher.resolve(&work.allowed_hosts, &item.url).await {
                Ok(url) => {
                    item.url = url.to_string();
                    resolved.push(item);
                }
                Err(fault) => tracing::debug!(%fault, "a source cannot be resolved"),
            }
        }
        resolved
    }

    async fn read_pages(&self, work: &Work, items: &mut [Item]) {
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
            if item.title.is_empty() {
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
            model: None,
            max_output_tokens: None,
            allowed_hosts: String::new(),
            known: Vec::new(),
        }
    }
}

//! Addresses that tenants name, or that feeds and searches of theirs lead to. Each hop of a redirect is checked as the first address.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kijko_core::{
    error::Error,
    outbound::{Answer, Client, Limits, OutboundError, StatusCode, Url, header, retry_after},
};
use reqwest::Method;
use tokio::time::Instant;

use super::hosts::Hosts;
use crate::{
    sandbox::{PromptError, Robots, RobotsRequest, Sandbox},
    service::SERVICE,
    upstream::Upstream,
};

/// Of each request: of robots.txt, and of each hop of a feed or page.
const TIMEOUT: Duration = Duration::from_secs(20);
const MAX_REDIRECTS: usize = 5;
/// Bytes of a feed or page.
const MAX_DOCUMENT: usize = 4 << 20;
/// Bytes of robots.txt that are read (RFC 9309).
const MAX_ROBOTS: usize = 500 << 10;
/// How long robots.txt counts.
const ROBOTS_AGE: Duration = Duration::from_secs(3_600);
/// Bytes of robots.txt that are kept, of all hosts.
const MAX_KEPT: usize = 32 << 20;
/// A host that asks for longer pauses than this gets these.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Why there is no document. The texts are for the organization.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Fault {
    /// The address is not one that may be fetched.
    #[error("{0}")]
    Refused(String),
    /// robots.txt forbids it.
    #[error("robots.txt of {0} does not allow it")]
    Robots(String),
    /// Not reached, or no whole answer.
    #[error("the server does not answer: {0}")]
    Unreachable(String),
    /// Too much.
    #[error("the document is larger than {0} bytes")]
    TooLarge(usize),
    /// In a circle, or to nowhere.
    #[error("the address redirects too often, or to no address")]
    Redirects,
}

impl Fault {
    /// The name by which runs show it.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "url_refused",
            Self::Robots(_) => "robots_disallowed",
            Self::Unreachable(_) => "unreachable",
            Self::TooLarge(_) => "too_large",
            Self::Redirects => "too_many_redirects",
        }
    }
}

/// What is known of a document from before.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Validators<'a> {
    pub etag: Option<&'a str>,
    pub last_modified: Option<&'a str>,
}

/// A document.
#[derive(Debug)]
pub(super) struct Fetched {
    pub status: StatusCode,
    pub body: Vec<u8>,
    /// Where it was in the end.
    pub url: Url,
    /// Where it is from now on, if it has moved for good.
    pub moved_to: Option<Url>,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    pub content_type: Option<String>,
    pub retry_after: Option<Duration>,
}

/// robots.txt of a host.
#[derive(Debug, Clone)]
struct Rules {
    read_at: Instant,
    /// None: the host could not say, so nothing is allowed for now.
    text: Option<Arc<[u8]>>,
}

/// The fetcher.
pub(super) struct Fetcher {
    upstream: Upstream,
    sandbox: Arc<Sandbox>,
    hosts: Hosts,
    rules: Mutex<HashMap<String, Rules>>,
    pause: Duration,
}

impl Fetcher {
    pub(super) fn new(sandbox: Arc<Sandbox>, pause: Duration) -> Self {
        Self {
            upstream: Upstream::default(),
            sandbox,
            hosts: Hosts::default(),
            rules: Mutex::default(),
            pause,
        }
    }

    /// Fetches a document, as robots.txt allows. `allowed`: hosts of the operator's own network that may be reached.
    pub(super) async fn get(
        &self,
        allowed: &str,
        url: &str,
        validators: Validators<'_>,
    ) -> Result<Fetched, Fault> {
        let mut url = self.check(allowed, url)?;
        let mut moved_to = None;
        let mut is_permanent = true;
        for _ in 0..=MAX_REDIRECTS {
            let pause = self.may(allowed, &url).await?;
            let host = authority(&url);
            let turn = self.hosts.turn(&host, pause).await;
            let answer = self.ask(allowed, &url, validators, MAX_DOCUMENT).await?;
            if let Some(target) = target(&url, &answer)? {
                is_permanent &= matches!(answer.status().as_u16(), 301 | 308);
                url = self.check(allowed, target.as_str())?;
                moved_to = is_permanent.then(|| url.clone());
                continue;
            }
            let text = |name| header_text(&answer, name);
            let fetched = Fetched {
                status: answer.status(),
                url,
                moved_to,
                etag: text(header::ETAG),
                last_modified: text(header::LAST_MODIFIED),
                content_type: text(header::CONTENT_TYPE),
                retry_after: retry_after(answer.headers()),
                body: Vec::new(),
            };
            if !fetched.status.is_success() {
                return Ok(fetched);
            }
            let body = answer.bytes().await.map_err(unreachable)?;
            drop(turn);
            return Ok(Fetched { body, ..fetched });
        }
        Err(Fault::Redirects)
    }

    /// Where a redirector of a vendor leads.
    pub(super) async fn resolve(&self, allowed: &str, url: &str) -> Result<Url, Fault> {
        let url = self.check(allowed, url)?;
        let answer = self
            .ask(allowed, &url, Validators::default(), 1 << 10)
            .await?;
        let target = target(&url, &answer)?.ok_or(Fault::Redirects)?;
        self.check(allowed, target.as_str())
    }

    fn check(&self, allowed: &str, url: &str) -> Result<Url, Fault> {
        let reached = self.upstream.reach(allowed, url);
        reached.map(|(url, _)| url).map_err(|error| match error {
            Error::UpstreamFailed { cause } => Fault::Refused(cause),
            other => Fault::Unreachable(other.to_string()),
        })
    }

    async fn ask(
        &self,
        allowed: &str,
        url: &Url,
        validators: Validators<'_>,
        max_bytes: usize,
    ) -> Result<Answer, Fault> {
        let (url, http) = self
            .upstream
            .reach(allowed, url.as_str())
            .map_err(|error| Fault::Unreachable(error.to_string()))?;
        let limits = Limits {
            connect_timeout: TIMEOUT,
            total_timeout: TIMEOUT,
            idle_timeout: TIMEOUT,
            max_bytes,
        };
        let client = Client::of(http, limits);
        let mut request = client
            .request(Method::GET, url)
            .timeout(TIMEOUT)
            .header(header::ACCEPT, "*/*");
        if let Some(etag) = validators.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(time) = validators.last_modified {
            request = request.header(header::IF_MODIFIED_SINCE, time);
        }
        client.send(request).await.map_err(unreachable)
    }

    /// The pause that a host wants between two requests, if it allows this one.
    async fn may(&self, allowed: &str, url: &Url) -> Result<Duration, Fault> {
        let rules = self.rules_of(allowed, url).await?;
        let host = authority(url);
        let Some(text) = rules.text else {
            let message = format!("robots.txt of {host} cannot be read now");
            return Err(Fault::Unreachable(message));
        };
        if text.is_empty() {
            return Ok(self.pause);
        }
        let request = RobotsRequest {
            body: STANDARD.encode(&text),
            agent: SERVICE.name.to_owned(),
            url: url.to_string(),
        };
        match self.sandbox.read_robots(&request).await {
            Ok(Robots {
                allowed: true,
                delay,
            }) => {
                let delay =
                    delay.map_or(Duration::ZERO, |it| Duration::from_secs_f32(it.min(60.0)));
                Ok(self.pause.max(delay.min(MAX_PAUSE)))
            }
            Ok(_) => Err(Fault::Robots(host)),
            Err(PromptError::Sandbox(cause)) => {
                tracing::error!(cause, "the sandbox failed");
                Err(Fault::Unreachable(
                    "something went wrong on our side".to_owned(),
                ))
            }
            // It takes too much time or memory to read.
            Err(_) => Err(Fault::Robots(host)),
        }
    }

    async fn rules_of(&self, allowed: &str, url: &Url) -> Result<Rules, Fault> {
        let origin = format!("{}://{}", url.scheme(), authority(url));
        let known = {
            let known = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&origin).cloned()
        };
        if let Some(rules) = known.filter(|it| it.read_at.elapsed() < ROBOTS_AGE) {
            return Ok(rules);
        }
        let rules = Rules {
            text: self.read_rules(allowed, &origin).await?,
            read_at: Instant::now(),
        };
        // What could not be read is asked again by the next one.
        if rules.text.is_some() {
            let mut all = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
            let size = |rules: &Rules| 256 + rules.text.as_ref().map_or(0, |it| it.len());
            if all.values().map(size).sum::<usize>() > MAX_KEPT {
                all.clear();
            }
            all.insert(origin, rules.clone());
        }
        Ok(rules)
    }

    /// The text of robots.txt; empty if there is none. None: the host fails.
    async fn read_rules(&self, allowed: &str, origin: &str) -> Result<Option<Arc<[u8]>>, Fault> {
        let mut url = self.check(allowed, &format!("{origin}/robots.txt"))?;
        for _ in 0..=MAX_REDIRECTS {
            let asked = self.ask(allowed, &url, Validators::default(), usize::MAX);
            let Ok(mut answer) = asked.await else {
                return Ok(None);
            };
            if let Some(target) = target(&url, &answer)? {
                url = self.check(allowed, target.as_str())?;
                continue;
            }
            let status = answer.status();
            if !status.is_success() {
                return Ok((!status.is_server_error() && status.as_u16() != 429).then(|| [].into()));
            }
            let mut text = Vec::new();
            while text.len() < MAX_ROBOTS {
                match answer.next().await {
                    Ok(Some(part)) => text.extend_from_slice(&part),
                    Ok(None) => break,
                    Err(_) => return Ok(None),
                }
            }
            text.truncate(MAX_ROBOTS);
            return Ok(Some(text.into()));
        }
        // Not to be found.
        Ok(Some([].into()))
    }
}

/// Host and port.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Where an answer leads, if it is a redirect.
fn target(url: &Url, answer: &Answer) -> Result<Option<Url>, Fault> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = header_text(answer, header::LOCATION).ok_or(Fault::Redirects)?;
    url.join(&location).map(Some).map_err(|_| Fault::Redirects)
}

fn header_text(answer: &Answer, name: header::HeaderName) -> Option<String> {
    let text = answer.headers().get(name)?.to_str().ok()?;
    Some(text.to_owned())
}

fn unreachable(error: OutboundError) -> Fault {
    match error {
        OutboundError::TooLarge(most) => Fault::TooLarge(most),
        other => Fault::Unreachable(other.to_string()),
    }
}

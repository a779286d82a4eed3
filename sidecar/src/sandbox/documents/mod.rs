//! Documents of strangers: feeds, pages and robots.txt. Whoever wrote them wants something, so they are read here, where time and
//! memory are bounded.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dom_smoothie::{Config, Readability, TextMode};
use encoding_rs::{Encoding, UTF_8};
use feed_rs::{model::Entry, parser};
use serde::{Deserialize, Serialize};
use texting_robots::Robot;

use super::{
    prompt::PromptError,
    text::{MAX_TEXT, language, of_html, simhash, squeeze},
};

/// Characters of a title that are kept.
pub const MAX_TITLE: usize = 300;
/// Elements of a page.
const MAX_ELEMENTS: usize = 50_000;
/// The part of a page in which its character set must be named.
const CHARSET_WITHIN: usize = 1_024;

/// A document as it came.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DocumentRequest {
    /// Its bytes, in Base64.
    pub body: String,
    /// Where it came from; addresses in it are relative to this.
    pub url: String,
    /// Its `Content-Type`.
    #[serde(default)]
    pub content_type: Option<String>,
    /// So many items of a feed are wanted.
    #[serde(default)]
    pub most: usize,
}

impl DocumentRequest {
    /// A document that was fetched.
    pub fn new(body: &[u8], url: &str, content_type: Option<&str>) -> Self {
        Self {
            body: STANDARD.encode(body),
            url: url.to_owned(),
            content_type: content_type.map(str::to_owned),
            most: 0,
        }
    }
}

/// May a program with this name fetch an address?
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RobotsRequest {
    /// The text of robots.txt, in Base64.
    pub body: String,
    /// The program.
    pub agent: String,
    /// The address.
    pub url: String,
}

/// What robots.txt says.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Robots {
    /// Whether the address may be fetched.
    pub allowed: bool,
    /// Seconds between two requests, if the host asks for them.
    pub delay: Option<f32>,
}

/// A feed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// What it calls itself.
    pub title: String,
    /// The latest first, as far as they have a date.
    pub items: Vec<Item>,
}

/// What a source says: an item of a feed, or a page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its address.
    pub url: String,
    /// Its title; empty if it has none.
    pub title: String,
    /// Its text; empty if it has none.
    pub text: String,
    /// Its language, as ISO 639-1.
    pub language: Option<String>,
    /// When it was published, as RFC 3339.
    pub published_at: Option<String>,
    /// The fingerprint of its text.
    pub simhash: Option<i64>,
}

impl Item {
    /// An item whose title and text may be markup.
    pub fn new(
        url: String,
        title: &str,
        text: &str,
        said: Option<&str>,
        published_at: Option<String>,
    ) -> Self {
        let text = of_html(text, MAX_TEXT);
        let title = of_html(title, MAX_TITLE);
        Self {
            language: language(&format!("{title}. {text}"), said),
            simhash: simhash(&text),
            url,
            title,
            text,
            published_at,
        }
    }
}

/// Reads RSS, Atom and JSON feeds. Items without an address are left out: nobody could cite them.
pub(super) fn feed(request: &DocumentRequest) -> Result<Feed, PromptError> {
    let body = bytes(&request.body)?;
    let parser = parser::Builder::new().base_uri(Some(&request.url)).build();
    let feed = parser
        .parse(&body[..])
        .map_err(|error| PromptError::InvalidInput(squeeze(&error.to_string(), 300)))?;
    let said = feed.language.as_deref();
    let mut entries: Vec<&Entry> = feed.entries.iter().collect();
    // Stable: without dates the feed's own order holds.
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.published.or(entry.updated)));
    let items = entries.into_iter().filter_map(|entry| item(entry, said));
    Ok(Feed {
        title: feed
            .title
            .as_ref()
            .map_or_else(String::new, |it| of_html(&it.content, MAX_TITLE)),
        items: items.take(request.most).collect(),
    })
}

fn item(entry: &Entry, said: Option<&str>) -> Option<Item> {
    let is_page = |rel: Option<&str>| matches!(rel, None | Some("alternate"));
    let links = entry.links.iter();
    let link = links
        .clone()
        .find(|it| is_page(it.rel.as_deref()) && is_http(&it.href))
        .map(|it| it.href.as_str());
    // An RSS item without a link may name its page by its guid.
    let url = link.or_else(|| Some(entry.id.as_str()).filter(|id| is_http(id)))?;
    let summary = entry.summary.as_ref().map(|it| it.content.as_str());
    let content = entry.content.as_ref().and_then(|it| it.body.as_deref());
    // Whichever says more.
    let text = content
        .into_iter()
        .chain(summary)
        .max_by_key(|text| text.len());
    let title = entry.title.as_ref().map_or("", |it| it.content.as_str());
    let published = entry.published.or(entry.updated);
    let item = Item::new(
        url.to_owned(),
        title,
        text.unwrap_or_default(),
        entry.language.as_deref().or(said),
        published.map(|it| it.to_rfc3339()),
    );
    (!item.title.is_empty() || !item.text.is_empty()).then_some(item)
}

fn is_http(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

/// Reads a page: its article without menus and advertisements.
pub(super) fn page(request: &DocumentRequest) -> Result<Item, PromptError> {
    let html = decode(&bytes(&request.body)?, request.content_type.as_deref());
    let config = Config {
        max_elements_to_parse: MAX_ELEMENTS,
        text_mode: TextMode::Formatted,
        ..Config::default()
    };
    let unreadable = |error: dom_smoothie::ReadabilityError| {
        PromptError::InvalidInput(squeeze(&error.to_string(), 300))
    };
    let mut readability =
        Readability::new(html, Some(&request.url), Some(config)).map_err(unreadable)?;
    let article = readability.parse().map_err(unreadable)?;
    let published = article.published_time.as_deref();
    Ok(Item::new(
        request.url.clone(),
        &squeeze(&article.title, MAX_TITLE).replace('<', "&lt;"),
        // It is text already.
        &squeeze(&article.text_content, MAX_TEXT).replace('<', "&lt;"),
        article.lang.as_deref(),
        published.and_then(time),
    ))
}

/// A time as pages and vendors write it, as RFC 3339; a day alone is its beginning.
pub fn time(text: &str) -> Option<String> {
    let text = text.trim();
    let stamp = text
        .parse::<jiff::Timestamp>()
        .or_else(|_| jiff::fmt::rfc2822::parse(text).map(|it| it.timestamp()))
        .or_else(|_| {
            let local: jiff::civil::DateTime = text.parse()?;
            local
                .to_zoned(jiff::tz::TimeZone::UTC)
                .map(|it| it.timestamp())
        });
    stamp.ok().map(|it| it.to_string())
}

/// The text of a page: by its byte order mark, by its head, by what it says itself, else UTF-8.
fn decode(body: &[u8], content_type: Option<&str>) -> String {
    let by_header = content_type.and_then(charset);
    let by_page = || {
        let head = &body[..body.len().min(CHARSET_WITHIN)];
        charset(&String::from_utf8_lossy(head))
    };
    let encoding = by_header.or_else(by_page).unwrap_or(UTF_8);
    encoding.decode(body).0.into_owned()
}

/// The character set that is named in a text, as in `charset="windows-1252"`.
fn charset(text: &str) -> Option<&'static Encoding> {
    let lower = text.to_ascii_lowercase();
    let named = lower.split("charset=").nth(1)?;
    let named = named.trim_start_matches(['"', '\'', ' ']);
    let end = named.find(|it: char| !(it.is_ascii_alphanumeric() || "-_:.".contains(it)));
    Encoding::for_label(&named.as_bytes()[..end.unwrap_or(named.len())])
}

/// Items as a search found them.
pub(super) fn items(items: Vec<Item>) -> Vec<Item> {
    let items = items.into_iter().filter(|item| is_http(&item.url));
    items
        .map(|item| {
            let published = item.published_at.as_deref().and_then(time);
            Item::new(
                item.url,
                &item.title,
                &item.text,
                item.language.as_deref(),
                published,
            )
        })
        .collect()
}

/// Reads robots.txt. One that cannot be read says nothing.
pub(super) fn robots(request: &RobotsRequest) -> Result<Robots, PromptError> {
    let body = bytes(&request.body)?;
    Ok(match Robot::new(&request.agent, &body) {
        Ok(robot) => Robots {
            allowed: robot.allowed(&request.url),
            delay: robot.delay.filter(|it| it.is_finite() && *it > 0.0),
        },
        Err(_) => Robots {
            allowed: true,
            delay: None,
        },
    })
}

fn bytes(body: &str) -> Result<Vec<u8>, PromptError> {
    STANDARD
        .decode(body)
        .map_err(|error| PromptError::Sandbox(error.to_string()))
}

#[cfg(test)]
mod tests;

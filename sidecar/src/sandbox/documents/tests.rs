use super::*;

const HOME: &str = "https://blog.example/feed.xml";

fn read(document: &str) -> Feed {
    let mut request = DocumentRequest::new(document.as_bytes(), HOME, None);
    request.most = 20;
    feed(&request).unwrap()
}

#[test]
fn rss_with_content_and_relative_links() {
    let feed = read(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel>
  <title>Notes &amp; more</title><link>https://blog.example/</link><language>en-us</language>
  <item><title>Older</title><link>https://blog.example/older</link><pubDate>Mon, 02 Mar 2026 08:00:00 GMT</pubDate>
    <description>&lt;p&gt;Short &lt;b&gt;text&lt;/b&gt;&lt;/p&gt;</description></item>
  <item><title>Newer</title><guid isPermaLink="true">https://blog.example/newer</guid><pubDate>Tue, 03 Mar 2026 08:00:00 +0100</pubDate>
    <description>Teaser</description><content:encoded><![CDATA[<p>The whole text.</p><script>steal()</script>]]></content:encoded></item>
  <item><title>Nowhere</title><description>no address</description></item>
  <item><title>Trap</title><link>javascript:alert(1)</link></item>
</channel></rss>"#,
    );
    assert_eq!(feed.title, "Notes & more");
    let seen: Vec<_> = feed
        .items
        .iter()
        .map(|it| (it.url.as_str(), it.title.as_str(), it.text.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("https://blog.example/newer", "Newer", "The whole text."),
            ("https://blog.example/older", "Older", "Short text"),
        ]
    );
    assert_eq!(
        feed.items[0].published_at.as_deref(),
        Some("2026-03-03T07:00:00+00:00")
    );
    assert_eq!(feed.items[0].language.as_deref(), Some("en"));
}

#[test]
fn atom_and_json_feeds() {
    let atom = read(
        r#"<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="nl"><title>Berichten</title><id>urn:1</id>
<entry><id>urn:uuid:2</id><title type="html">Een &amp;lt;b&amp;gt;titel</title><updated>2026-03-01T10:00:00Z</updated>
<link rel="self" href="https://blog.example/api/2"/><link rel="alternate" href="https://blog.example/2"/>
<summary>Samenvatting</summary></entry></feed>"#,
    );
    assert_eq!(atom.items[0].url, "https://blog.example/2");
    let json = read(
        r#"{"version": "https://jsonfeed.org/version/1.1", "title": "J", "items": [
            {"id": "1", "url": "https://blog.example/j", "title": "One", "content_html": "<p>Body</p>", "date_published": "2026-03-01T10:00:00+02:00"}]}"#,
    );
    assert_eq!(json.items[0].text, "Body");
    assert_eq!(
        json.items[0].published_at.as_deref(),
        Some("2026-03-01T08:00:00+00:00")
    );
}

#[test]
fn what_is_no_feed_is_refused_and_bombs_grow_nothing() {
    for document in [
        "",
        "<html><body>hello</body></html>",
        "{}",
        "not a feed",
        "<rss><channel><item>",
    ] {
        let mut request = DocumentRequest::new(document.as_bytes(), HOME, None);
        request.most = 20;
        let refused = feed(&request);
        assert!(
            refused
                .as_ref()
                .is_err_and(|it| it.code() == "invalid_input")
                || refused.unwrap().items.is_empty(),
            "{document}"
        );
    }
    let bomb = r#"<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<rss version="2.0"><channel><title>&c;</title><item><title>&c;</title><link>https://blog.example/1</link></item></channel></rss>"#;
    let mut request = DocumentRequest::new(bomb.as_bytes(), HOME, None);
    request.most = 20;
    if let Ok(feed) = feed(&request) {
        assert!(feed.items.iter().all(|it| it.title.len() <= MAX_TITLE));
    }
}

#[test]
fn a_page_is_its_article() {
    let paragraph = "The council decided on Monday that the old bridge over the canal will be replaced, because the inspection found \
        cracks in two of its pillars, and because lorries have to take a detour of eleven kilometres. ";
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"windows-1252\"><title>Bridge to be replaced \u{2013} Daily</title>\
         <meta property=\"article:published_time\" content=\"2026-03-04T09:30:00+01:00\"></head><body>\
         <nav><a href=/>Home</a><a href=/buy>Subscribe now</a></nav><article><h1>Bridge to be replaced</h1>{}</article>\
         <footer>All rights reserved. caf\u{e9}</footer></body></html>",
        format!("<p>{paragraph}Caf\u{e9}.</p>").repeat(6)
    );
    let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode(&html);
    let request = DocumentRequest::new(&bytes, "https://daily.example/bridge", Some("text/html"));
    let item = page(&request).unwrap();
    assert!(
        item.title.starts_with("Bridge to be replaced"),
        "{}",
        item.title
    );
    assert!(item.text.contains("cracks in two of its pillars") && item.text.contains("Caf\u{e9}"));
    assert!(
        !item.text.contains("Subscribe") && !item.text.contains("rights reserved"),
        "{}",
        item.text
    );
    assert_eq!(item.published_at.as_deref(), Some("2026-03-04T08:30:00Z"));
    assert_eq!(item.language.as_deref(), Some("en"));
    assert!(item.simhash.is_some());
}

#[test]
fn character_sets_are_found_where_they_are_named() {
    let named = |text: &str| charset(text).map(encoding_rs::Encoding::name);
    assert_eq!(named("text/html; charset=ISO-8859-1"), Some("windows-1252"));
    assert_eq!(named("<meta charset='Shift_JIS'>"), Some("Shift_JIS"));
    assert_eq!(named("text/html"), None);
    assert_eq!(named("charset="), None);
    assert_eq!(
        decode(
            "\u{feff}\u{e9}".as_bytes(),
            Some("text/html; charset=iso-8859-1")
        ),
        "\u{e9}"
    );
}

#[test]
fn robots_are_obeyed() {
    let txt = "User-agent: *\nDisallow: /\n\nUser-agent: kijko\nDisallow: /private\nAllow: /private/open\nCrawl-delay: 2\n";
    let ask = |body: &[u8], path: &str| {
        robots(&RobotsRequest {
            body: STANDARD.encode(body),
            agent: "Kijko".to_owned(),
            url: format!("https://blog.example{path}"),
        })
        .unwrap()
    };
    assert!(ask(txt.as_bytes(), "/").allowed);
    assert!(!ask(txt.as_bytes(), "/private/1").allowed);
    assert!(ask(txt.as_bytes(), "/private/open").allowed);
    assert_eq!(ask(txt.as_bytes(), "/").delay, Some(2.0));
    assert!(ask(b"\xff\xfe\x00garbage", "/").allowed);
    assert!(ask(b"", "/").allowed);
}

#[test]
fn times_of_vendors() {
    for (text, expected) in [
        ("2026-03-04T09:30:00+01:00", Some("2026-03-04T08:30:00Z")),
        ("2026-03-04T09:30:00", Some("2026-03-04T09:30:00Z")),
        ("2026-03-04", Some("2026-03-04T00:00:00Z")),
        (
            "Wed, 04 Mar 2026 09:30:00 GMT",
            Some("2026-03-04T09:30:00Z"),
        ),
        ("yesterday", None),
        ("", None),
    ] {
        assert_eq!(time(text).as_deref(), expected, "{text}");
    }
}

//! Markdown to HTML that is safe to show on any page.
//!
//! 1. Comrak renders `CommonMark` with GitHub's extensions, and leaves HTML in it out.
//! 2. Ammonia keeps what is on its lists: the elements that comrak makes, a few attributes, addresses by http, https and mailto.
//!
//! Ids begin with a prefix, so that no text names an element of the page around it.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use ammonia::Builder;
use comrak::{Options, markdown_to_html};
use regex::Regex;

/// As the database keeps it. Only texts that are made to grow exceed it: they are shown as they are written.
const MAX_HTML: usize = 4 << 20;
/// Deeper elements are no text that somebody wrote, and cost browsers time.
const MAX_DEPTH: usize = 100;

/// Prefixes of the ids that comrak makes, of headings and footnotes.
const ID_PREFIXES: [&str; 3] = ["post-", "fn-", "fnref-"];
const ELEMENTS: [&str; 30] = [
    "a",
    "blockquote",
    "br",
    "code",
    "del",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "img",
    "input",
    "li",
    "ol",
    "p",
    "pre",
    "section",
    "strong",
    "sup",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
    "ul",
    "s",
];

/// A rendered text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendered {
    pub html: String,
    pub words: i32,
}

/// Renders a text. It depends on nothing but the text.
pub(super) fn render(markdown: &str) -> Rendered {
    let mut options = Options::default();
    options.extension.strikethrough = true;
    options.extension.table = true;
    options.extension.autolink = true;
    options.extension.tasklist = true;
    options.extension.footnotes = true;
    options.extension.header_id_prefix = Some("post-".to_owned());
    options.extension.header_id_prefix_in_href = true;
    let html = match is_too_deep(markdown) {
        true => None,
        false => Some(
            SANITIZER
                .clean(&markdown_to_html(markdown, &options))
                .to_string(),
        ),
    };
    let html = html.map(|html| HEADING_LINK.replace_all(&html, "</h").into_owned());
    let html = html.filter(|html| html.len() <= MAX_HTML);
    let html = html.unwrap_or_else(|| format!("<pre>{}</pre>\n", escape(markdown)));
    let words = i32::try_from(words(&html)).unwrap_or(i32::MAX);
    Rendered { html, words }
}

/// Comrak puts an empty link into each heading, which a screen reader stops at.
static HEADING_LINK: LazyLock<Regex> = LazyLock::new(|| {
    let link = r##"<a href="#post-[^"]*" rel="noopener"></a></h"##;
    Regex::new(link).expect("a valid expression")
});

static SANITIZER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut builder = Builder::empty();
    builder
        .tags(HashSet::from(ELEMENTS))
        .clean_content_tags(HashSet::from(["script", "style"]))
        .tag_attributes(HashMap::from([
            ("a", HashSet::from(["href", "id", "title"])),
            ("code", HashSet::from(["class"])),
            ("h1", HashSet::from(["id"])),
            ("h2", HashSet::from(["id"])),
            ("h3", HashSet::from(["id"])),
            ("h4", HashSet::from(["id"])),
            ("h5", HashSet::from(["id"])),
            ("h6", HashSet::from(["id"])),
            ("img", HashSet::from(["alt", "src", "title"])),
            ("input", HashSet::from(["checked", "disabled", "type"])),
            ("li", HashSet::from(["id"])),
            ("ol", HashSet::from(["start"])),
            ("td", HashSet::from(["align"])),
            ("th", HashSet::from(["align"])),
        ]))
        .url_schemes(HashSet::from(["http", "https", "mailto"]))
        .set_tag_attribute_value("img", "loading", "lazy")
        .link_rel(Some("noopener"))
        .strip_comments(true)
        .attribute_filter(filter);
    builder
});

fn filter<'v>(element: &str, attribute: &str, value: &'v str) -> Option<Cow<'v, str>> {
    let kept = match (element, attribute) {
        (_, "id") => ID_PREFIXES.iter().any(|prefix| value.starts_with(prefix)),
        ("code", "class") => value
            .strip_prefix("language-")
            .is_some_and(|name| name.len() <= 40 && !name.is_empty() && name.bytes().all(is_name)),
        ("input", "type") => value == "checkbox",
        ("td" | "th", "align") => matches!(value, "left" | "center" | "right"),
        ("img", "src") => !value.starts_with("mailto:"),
        _ => true,
    };
    kept.then_some(Cow::Borrowed(value))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+' | b'#' | b'.')
}

/// Whether a line opens more quotes and lists than somebody would write. Each is an element within the last.
fn is_too_deep(markdown: &str) -> bool {
    let marks = |line: &str| {
        let opening = |byte: &u8| {
            matches!(byte, b'>' | b'-' | b'*' | b'+' | b' ' | b'\t' | b'.' | b')')
                || byte.is_ascii_digit()
        };
        let lead = line.bytes().take_while(opening);
        lead.filter(|byte| !byte.is_ascii_whitespace()).count()
    };
    let is_rule = |line: &str| {
        let mut marks = line.bytes().filter(|byte| !byte.is_ascii_whitespace());
        marks
            .next()
            .is_some_and(|first| marks.all(|other| other == first))
    };
    markdown.lines().any(|line| {
        marks(line) > MAX_DEPTH && (!is_rule(line) || line.trim_start().starts_with('>'))
    })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Words of sanitized HTML, in which each `<` opens a tag.
fn words(html: &str) -> usize {
    let mut text = String::with_capacity(html.len());
    let mut is_tag = false;
    for letter in html.chars() {
        match letter {
            '<' => is_tag = true,
            '>' if is_tag => {
                is_tag = false;
                text.push(' ');
            }
            _ if is_tag => {}
            _ => text.push(letter),
        }
    }
    // Chinese and Japanese have no spaces: two of their letters are about a word.
    let dense = text
        .chars()
        .filter(|letter| matches!(letter, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}'))
        .count();
    text.split_whitespace()
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .count()
        + dense / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_html() {
        let rendered = render(
            "# A title\n\nOne *two* ~~three~~ [four](https://example.com/?a=1&b=2 \"t\")[^n].\n\n| a | b |\n|:-:|---|\n| 1 | 2 |\n\n\
             - [x] done\n\n```rust\nfn main() {}\n```\n\n![alt](https://example.com/i.png)\n\n[^n]: note\n",
        );
        for part in [
            r#"<h1 id="post-a-title">A title</h1>"#,
            "<em>two</em> <del>three</del>",
            r#"<a href="https://example.com/?a=1&amp;b=2" title="t" rel="noopener">four</a>"#,
            r#"<th align="center">a</th>"#,
            r#"type="checkbox""#,
            r#"<code class="language-rust">fn main() {}"#,
            r#"<img src="https://example.com/i.png" alt="alt" loading="lazy">"#,
            r##"href="#fn-n""##,
            r#"id="fn-n""#,
        ] {
            assert!(rendered.html.contains(part), "{part} in {}", rendered.html);
        }
        assert_eq!(render("one two *three*").words, 3);
        assert_eq!(render("").words, 0);
    }

    /// What must not come out, whatever goes in.
    const FORBIDDEN: [&str; 16] = [
        "<script",
        "<iframe",
        "<object",
        "<embed",
        "<svg",
        "<math",
        "<style",
        "<form",
        "<base",
        "<meta",
        "<link",
        "javascript:",
        "vbscript:",
        "data:",
        "srcdoc",
        "expression(",
    ];

    #[test]
    fn no_attempt_at_script_comes_through() {
        for attempt in [
            "<script>alert(1)</script>",
            "<ScRiPt src=//evil.example></sCrIpT>",
            "<img src=x onerror=alert(1)>",
            "<svg onload=alert(1)>",
            "<svg><style><img src=x onerror=alert(1)></style></svg>",
            "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
            "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
            "<iframe srcdoc=\"<script>alert(1)</script>\"></iframe>",
            "<a href=\"javascript:alert(1)\">x</a>",
            "<form action=javascript:alert(1)><input type=submit>",
            "<base href=//evil.example>",
            "<meta http-equiv=refresh content=\"0;url=javascript:alert(1)\">",
            "<object data=javascript:alert(1)>",
            "<details open ontoggle=alert(1)>",
            "<div style=\"width:expression(alert(1))\">",
            "<!--><img src=x onerror=alert(1)>-->",
            "<template><script>alert(1)</script></template>",
            "[x](javascript:alert(1))",
            "[x](JaVaScRiPt:alert(1))",
            "[x](java&#10;script:alert(1))",
            "[x](&#x6A;avascript:alert(1))",
            "[x](<javascript:alert(1)>)",
            "[x](vbscript:msgbox(1))",
            "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
            "[x](\u{1}javascript:alert(1))",
            "[x]( javascript:alert(1))",
            "[x][r]\n\n[r]: javascript:alert(1)",
            "![x](javascript:alert(1))",
            "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+)",
            "![x](https://e.example/\"onerror=\"alert(1))",
            "![\" onerror=\"alert(1)](https://e.example/)",
            "[x](https://e.example/ \"a\\\" onmouseover=alert(1) \\\"\")",
            "<javascript:alert(1)>",
            "`<script>alert(1)</script>`<script>",
            "```\"><script>alert(1)</script>\nx\n```",
            "``` <img/src=x/onerror=alert(1)>\nx\n```",
            "# <img src=x onerror=alert(1)>",
            "[^<script>]: x\n\nx[^<script>]",
            "|<script>alert(1)</script>|\n|-|\n|<img onerror=alert(1) src=x>|",
            "- [x] <input type=image src=x onerror=alert(1)>",
            "http://e.example/\"onmouseover=\"alert(1)",
        ] {
            let html = render(attempt).html;
            // What is shown as text has no tags.
            let tags: String = html
                .split('<')
                .skip(1)
                .filter_map(|rest| rest.split_once('>'))
                .map(|(tag, _)| format!("<{tag}>"))
                .collect();
            let tags = tags.to_lowercase();
            // Values are quoted, and may say anything but an address that runs.
            let names: String = tags.split('"').step_by(2).collect();
            assert!(!names.contains(" on"), "{attempt:?} became {html:?}");
            for forbidden in FORBIDDEN {
                assert!(
                    !tags.contains(forbidden),
                    "{attempt:?} became {html:?}: {forbidden:?}"
                );
            }
        }
    }

    #[test]
    fn no_id_names_an_element_of_the_page() {
        let html =
            render("# location\n\n# <a id=\"x\">\n\n[^getElementById]: x\n\ny[^getElementById]")
                .html;
        for (place, _) in html.match_indices(" id=\"") {
            let id = &html[place + 5..];
            assert!(
                ID_PREFIXES.iter().any(|prefix| id.starts_with(prefix)),
                "{html}"
            );
        }
        assert!(!html.contains("name="));
    }

    #[test]
    fn texts_that_are_made_to_grow_end_soon_and_small() {
        let long = |unit: &str| unit.repeat((256 << 10) / unit.len());
        for hostile in [
            long(">"),
            long("> "),
            long("- "),
            long("1. "),
            long("* > "),
            long("["),
            long("![["),
            long("*a_ "),
            long("`"),
            long("<"),
            long("[a](<"),
            long("|"),
            long("|a\n"),
            long("a\n\n"),
            long("&"),
            long("~"),
            long("[^1]"),
            long("\u{0}"),
            format!(
                "{}\n{}\n{}",
                "|a".repeat(2_000),
                "|-".repeat(2_000),
                "|\n".repeat(100_000)
            ),
            format!("{}{}", "> - ".repeat(60), long("\n> - ")),
        ] {
            let start = std::time::Instant::now();
            let rendered = render(&hostile);
            assert!(rendered.html.len() <= MAX_HTML, "{:?}", &hostile[..20]);
            assert!(
                start.elapsed().as_secs() < 20,
                "{:?} took {:?}",
                &hostile[..20],
                start.elapsed()
            );
        }
        assert!(
            render("> quoted\n>\n> - one\n>   - two")
                .html
                .contains("<blockquote>")
        );
        assert!(render(&"-".repeat(300)).html.contains("<hr>"));
    }
}

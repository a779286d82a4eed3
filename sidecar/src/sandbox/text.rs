//! What is known of a text: its words without markup, its language, and its fingerprint.

use std::collections::HashMap;

use dom_query::Document;
use whatlang::Lang;

/// Characters of a text that are kept.
pub const MAX_TEXT: usize = 10_000;
/// A text with fewer words has no fingerprint: two short ones are alike by chance.
const MIN_WORDS: usize = 24;
/// Bytes of markup from which a text is taken; the rest is left out.
const MAX_FRAGMENT: usize = 256 << 10;

/// Without control characters, which no text of the database may have, and with single blanks.
pub(super) fn squeeze(text: &str, most: usize) -> String {
    let mut squeezed = String::with_capacity(text.len().min(4 * most));
    let mut left = most;
    for word in text.split(|it: char| it.is_whitespace() || it.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !squeezed.is_empty() && left > 0 {
            squeezed.push(' ');
            left -= 1;
        }
        for letter in word.chars().take(left) {
            squeezed.push(letter);
            left -= 1;
        }
        if left == 0 {
            break;
        }
    }
    squeezed.truncate(squeezed.trim_end().len());
    squeezed
}

/// The text of a piece of HTML. Feeds mix HTML and plain text without saying which: both come out as text.
pub(super) fn of_html(html: &str, most: usize) -> String {
    if !html.contains(['<', '&']) {
        return squeeze(html, most);
    }
    let document = Document::fragment(head(html, MAX_FRAGMENT));
    document
        .select("script, style, noscript, template, iframe")
        .remove();
    squeeze(&document.formatted_text(), most)
}

/// The first bytes of a text, cut between two characters.
fn head(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// The language that a text is in; if that cannot be told, the one that it is said to be in.
pub(super) fn language(text: &str, said: Option<&str>) -> Option<String> {
    let told = whatlang::detect(head(text, 4_096)).filter(|it| it.is_reliable());
    let told = told.and_then(|it| tag(it.lang()));
    told.map(str::to_owned).or_else(|| {
        let said = said?.trim().split(['-', '_']).next()?.to_ascii_lowercase();
        let is_tag = matches!(said.len(), 2 | 3) && said.bytes().all(|it| it.is_ascii_lowercase());
        is_tag.then_some(said)
    })
}

/// ISO 639-1, for the languages that have such a name.
fn tag(language: Lang) -> Option<&'static str> {
    Some(match language {
        Lang::Afr => "af",
        Lang::Ara => "ar",
        Lang::Bel => "be",
        Lang::Ben => "bn",
        Lang::Bul => "bg",
        Lang::Cat => "ca",
        Lang::Ces => "cs",
        Lang::Cmn => "zh",
        Lang::Cym => "cy",
        Lang::Dan => "da",
        Lang::Deu => "de",
        Lang::Ell => "el",
        Lang::Eng => "en",
        Lang::Est => "et",
        Lang::Fin => "fi",
        Lang::Fra => "fr",
        Lang::Heb => "he",
        Lang::Hin => "hi",
        Lang::Hrv => "hr",
        Lang::Hun => "hu",
        Lang::Ind => "id",
        Lang::Ita => "it",
        Lang::Jpn => "ja",
        Lang::Kor => "ko",
        Lang::Lav => "lv",
        Lang::Lit => "lt",
        Lang::Mkd => "mk",
        Lang::Nld => "nl",
        Lang::Nob => "nb",
        Lang::Pes => "fa",
        Lang::Pol => "pl",
        Lang::Por => "pt",
        Lang::Ron => "ro",
        Lang::Rus => "ru",
        Lang::Slk => "sk",
        Lang::Slv => "sl",
        Lang::Spa => "es",
        Lang::Srp => "sr",
        Lang::Swe => "sv",
        Lang::Tha => "th",
        Lang::Tur => "tr",
        Lang::Ukr => "uk",
        Lang::Urd => "ur",
        Lang::Vie => "vi",
        _ => return None,
    })
}

/// Charikar's simhash: texts that differ in few words have fingerprints that differ in few bits. None for a short text. It is
/// stored, so a change of it makes what is known useless.
pub(super) fn simhash(text: &str) -> Option<i64> {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower
        .split(|it: char| !it.is_alphanumeric())
        .filter(|it| !it.is_empty())
        .collect();
    if words.len() < MIN_WORDS {
        return None;
    }
    let mut features: HashMap<u64, i64> = HashMap::new();
    for pair in words.windows(2) {
        for feature in [hash(&pair[..1]), hash(pair)] {
            *features.entry(feature).or_default() += 1;
        }
    }
    let mut sums = [0_i64; 64];
    for (feature, count) in features {
        // A word that is repeated without end counts no more than a few.
        let weight = count.min(8);
        for (bit, sum) in sums.iter_mut().enumerate() {
            *sum += if feature >> bit & 1 == 1 {
                weight
            } else {
                -weight
            };
        }
    }
    let bits = sums.iter().enumerate();
    let fingerprint = bits.fold(0_u64, |all, (bit, sum)| all | u64::from(*sum > 0) << bit);
    Some(fingerprint as i64)
}

/// FNV-1a, with its bits mixed as SplitMix64 does: the upper ones of a short word would hardly differ otherwise.
fn hash(words: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in words.iter().flat_map(|word| word.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORY: &str = "The database project announced on Tuesday that its next major release will bring asynchronous reads, \
        which in early tests made sequential scans of cold tables about twice as fast on cloud disks. The release also lets an \
        index be used when its leading column is not part of the condition, keeps statistics of the planner across an upgrade, \
        and adds virtual generated columns. Maintainers ask users to try the beta with their own workloads and to report what \
        becomes slower, since the new reads change how much memory a query holds while it waits for the disk. A final release \
        is planned for autumn, after at least one release candidate has been out for two weeks without a serious fault.";

    fn distance(one: &str, other: &str) -> u32 {
        (simhash(one).unwrap() ^ simhash(other).unwrap()).count_ones()
    }

    const OTHER: &str = "Coastal towns prepare for a storm that forecasters expect to arrive on Friday night, with gusts above a \
        hundred kilometres an hour. Ferries are cancelled, schools close at noon, and the port has asked crews to move \
        their boats inland. Engineers check the dikes that were raised after the flood two winters ago, and volunteers \
        fill bags with sand. The weather service will decide on Thursday whether to raise its warning to the highest level.";

    #[test]
    fn copies_with_small_changes_are_near_and_other_stories_are_not() {
        let page = format!("{STORY} {OTHER}");
        for copy in [
            format!("{page} (Agencies)"),
            page.replace("Tuesday", "Wednesday"),
            page.replace(", ", " - ").to_uppercase(),
        ] {
            assert!(distance(&page, &copy) <= 6, "{}", distance(&page, &copy));
        }
        assert!(distance(STORY, OTHER) > 12, "{}", distance(STORY, OTHER));
        assert_eq!(simhash("too short to say"), None);
        assert!(simhash(&"spam ".repeat(100_000)).is_some());
    }

    #[test]
    fn a_fingerprint_is_always_the_same() {
        // It is compared with those that are stored.
        let words: Vec<String> = (0..30).map(|n| format!("word{n}")).collect();
        assert_eq!(simhash(&words.join(" ")), simhash(&words.join(",\n")));
        assert_eq!(hash(&["abc"]), hash(&["abc"]));
        assert_ne!(hash(&["a", "bc"]), hash(&["ab", "c"]));
    }

    #[test]
    fn markup_scripts_and_control_characters_are_no_text() {
        for (html, text) in [
            (
                "plain\u{0}  text\n\tof two\u{7f} lines",
                "plain text of two lines",
            ),
            (
                "<p>One &amp; <b>two</b></p><script>alert(1)</script><p>three</p>",
                "One & two three",
            ),
            ("AT&T", "AT&T"),
            ("<style>p{}</style>", ""),
            ("1 < 2", "1 < 2"),
        ] {
            assert_eq!(of_html(html, 100), text, "{html}");
        }
        assert_eq!(squeeze("ab cd", 3), "ab");
        assert_eq!(squeeze("äöü", 2), "äö");
    }

    #[test]
    fn a_language_is_told_from_the_text_and_else_believed() {
        assert_eq!(language(STORY, Some("nl")).as_deref(), Some("en"));
        let dutch = "De gemeente heeft besloten dat de nieuwe brug over het kanaal volgend jaar wordt gebouwd, ondanks de \
            bezwaren van bewoners die vrezen dat het verkeer in hun straat zal toenemen.";
        assert_eq!(language(dutch, None).as_deref(), Some("nl"));
        assert_eq!(language("ok", Some("pt-BR")).as_deref(), Some("pt"));
        assert_eq!(language("ok", Some("<script>")), None);
        assert_eq!(language("", None), None);
    }
}

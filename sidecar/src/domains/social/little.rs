//! LinkedIn's "little" text format. A reserved character that is not escaped ends the post there, with status 201. Hashtags and
//! addresses stay as they are.

const RESERVED: &str = "\\|{}@[]()<>#*_~";

/// A text that LinkedIn shows as it is written.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut before = None;
    while let Some(next) = rest.chars().next() {
        let kept = match is_start(before) {
            true => kept_at(rest),
            false => 0,
        };
        if kept > 0 {
            escaped.push_str(&rest[..kept]);
            before = rest[..kept].chars().next_back();
            rest = &rest[kept..];
            continue;
        }
        if RESERVED.contains(next) {
            escaped.push('\\');
        }
        escaped.push(next);
        before = Some(next);
        rest = &rest[next.len_utf8()..];
    }
    escaped
}

fn is_start(before: Option<char>) -> bool {
    before.is_none_or(|it| !it.is_alphanumeric() && it != '_' && it != '#')
}

/// How many bytes of a hashtag or an address begin here.
fn kept_at(rest: &str) -> usize {
    if let Some(tag) = rest.strip_prefix('#') {
        let end = tag
            .find(|it: char| !it.is_alphanumeric())
            .unwrap_or(tag.len());
        let tag = &tag[..end];
        return match tag.chars().any(char::is_alphabetic) {
            true => 1 + tag.len(),
            false => 0,
        };
    }
    let is_address = rest.starts_with("https://") || rest.starts_with("http://");
    if !is_address {
        return 0;
    }
    let ends = |it: char| it.is_whitespace() || "\\|{}[]()<>\"".contains(it);
    rest.find(ends).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_characters_are_escaped_and_hashtags_and_addresses_are_not() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("a (b) [c] {d} <e>", r"a \(b\) \[c\] \{d\} \<e\>"),
            (r"\ | @ * _ ~ #", r"\\ \| \@ \* \_ \~ \#"),
            ("me@example.com", r"me\@example.com"),
            ("say #hello world", "say #hello world"),
            ("#a_b", r"#a\_b"),
            ("issue #1", r"issue \#1"),
            ("a#b", r"a\#b"),
            ("##x", r"\#\#x"),
            (
                "see https://e.example/a_b~c?d=*#f_g now_",
                r"see https://e.example/a_b~c?d=*#f_g now\_",
            ),
            ("(https://e.example/a_b)", r"\(https://e.example/a_b\)"),
            ("日本_語 #日本", r"日本\_語 #日本"),
        ] {
            assert_eq!(escaped(text), expected, "{text}");
        }
    }
}

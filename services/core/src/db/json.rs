//! JSON that Postgres can store.

use std::borrow::Cow;

/// Postgres stores no NUL character and no half of a surrogate pair (an emoji that was cut in two). U+FFFD replaces both, so that
/// a name in it cannot lose an event. Everything else stays as it was written.
pub fn storable(body: &str) -> Cow<'_, str> {
    if !body.contains("\\u") {
        return Cow::Borrowed(body);
    }
    let mut stored = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        stored.push_str(before);
        let length = match (unit(escape), escape.get(6..).and_then(unit)) {
            // Another escape, "\\\\" above all: its second character begins none.
            (None, _) => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0 | 0xd800..=0xdfff), _) => {
                stored.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            (Some(_), _) => 6,
        };
        stored.push_str(&escape[..length]);
        rest = &escape[length..];
    }
    stored.push_str(rest);
    Cow::Owned(stored)
}

/// The UTF-16 unit that an escape at the beginning of the text stands for.
fn unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_stored_is_replaced_and_nothing_else() {
        for (body, stored) in [
            (r#"{"a":"b"}"#, r#"{"a":"b"}"#),
            (r#"["x\u0000y"]"#, r#"["x\ufffdy"]"#),
            (r#"{"a\u0000":1}"#, r#"{"a\ufffd":1}"#),
            // The escaped backslash of a text that only looks like it.
            (r#"["x\\u0000"]"#, r#"["x\\u0000"]"#),
            (r#"["\\\u0000"]"#, r#"["\\\ufffd"]"#),
            (r#"["\ud83d\ude00 \u00e9"]"#, r#"["\ud83d\ude00 \u00e9"]"#),
            (r#"["\ud83d x"]"#, r#"["\ufffd x"]"#),
            (r#"["\ude00"]"#, r#"["\ufffd"]"#),
            (r#"["\uD83D\uD83D\uDE00"]"#, r#"["\ufffd\uD83D\uDE00"]"#),
            (r#"["\ud83d\u0000"]"#, r#"["\ufffd\ufffd"]"#),
            (r#"["\u0041"#, r#"["\u0041"#),
            (r#"["\ud8"#, r#"["\ud8"#),
            ("[\"\\é\\", "[\"\\é\\"),
        ] {
            assert_eq!(storable(body), stored);
        }
    }
}

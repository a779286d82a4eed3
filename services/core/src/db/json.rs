//! JSON that Postgres can store.

use std::borrow::Cow;

use serde_json::Value;

/// As `private.json_fits()` has it.
const MAX_EXPONENT: i32 = 399;

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

/// Whether JSON has a number such as 1e131071: ten bytes as jsonb, and 131,072 as the text that each size check and answer makes of it.
pub fn has_long_number(body: &str) -> bool {
    // Most bodies have nothing that looks like one, and are not parsed for it.
    let mut rest = body;
    while let Some(at) = rest.find(['e', 'E']) {
        rest = &rest[at + 1..];
        let digits = rest.trim_start_matches(['+', '-']).bytes();
        if digits.take_while(u8::is_ascii_digit).count() > 2 {
            return serde_json::from_str(body).is_ok_and(|value| any_long(&value));
        }
    }
    false
}

fn any_long(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            let number = number.to_string();
            let exponent = number.split_once(['e', 'E']).map(|(_, it)| it.parse());
            exponent.is_some_and(|it: Result<i32, _>| {
                !it.is_ok_and(|it| (-MAX_EXPONENT..=MAX_EXPONENT).contains(&it))
            })
        }
        Value::Array(values) => values.iter().any(any_long),
        Value::Object(members) => members.values().any(any_long),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
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

    #[test]
    fn a_number_is_long_by_its_exponent() {
        for long in [
            "1e131071",
            r#"{"a": [{"b": -1.5E+4000}]}"#,
            "[0e-16383]",
            "1e99999999999",
            r#"["e", 1e400]"#,
        ] {
            assert!(has_long_number(long), "{long}");
        }
        for short in [
            "1e399",
            "-1.5e-308",
            r#""1e131071""#,
            r#"{"1e131071": "e"}"#,
            "e1000",
            "",
        ] {
            assert!(!has_long_number(short), "{short}");
        }
    }
}

//! A subject and a meter: what a limit applies to and what a counter counts.

#[derive(Clone, Copy)]
pub struct MeterKey<'a> {
    pub subject: &'a [u8; 16],
    pub meter: &'a str,
}

/// The same rule as the check of `kijko.limits` (policy/limits.sql).
pub fn is_meter(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.'))
}

#[cfg(test)]
mod unit {
    use super::is_meter;

    #[test]
    fn a_meter_is_a_word_of_at_most_63_bytes() {
        for good in ["x", "llm_tokens", "own.things2", &"x".repeat(63)] {
            assert!(is_meter(good), "{good}");
        }
        for bad in ["", "X", "1x", "_x", ".x", "a-b", "é", &"x".repeat(64)] {
            assert!(!is_meter(bad), "{bad}");
        }
    }
}

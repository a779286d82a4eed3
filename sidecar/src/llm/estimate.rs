//! Estimates the tokens of a text before a vendor counts them. The reservation of a call depends on it, so it errs on the
//! high side; the vendor's count is charged.

/// So many letters of a word are counted as a token, although most words of up to twice as many are one.
const LETTERS: usize = 4;

/// So many digits are counted as a token.
const DIGITS: usize = 3;

/// For roles, separators and the like, which every request has.
const ENVELOPE: u64 = 16;

/// Tokens of a request with this prompt and these parameters; a JSON schema among them is part of what the model reads.
pub fn request_tokens(
    prompt: &str,
    parameters: &serde_json::Map<String, serde_json::Value>,
) -> u64 {
    let schema = ["response_format", "output_config"]
        .iter()
        .filter_map(|name| parameters.get(*name))
        .map(|value| tokens(&value.to_string()))
        .sum::<u64>();
    tokens(prompt) + schema + ENVELOPE
}

/// A quarter of the bytes, or more where tokens are shorter: words of one letter, signs, digits, and scripts whose
/// letters are tokens of their own.
pub(super) fn tokens(text: &str) -> u64 {
    let mut tokens = 0;
    let mut run = Run::default();
    for letter in text.chars() {
        let kind = Kind::of(letter);
        if kind != run.kind {
            tokens += std::mem::take(&mut run).tokens();
            run.kind = kind;
        }
        run.length += 1;
    }
    let counted = tokens + run.tokens();
    tokens_of_bytes(text.len()).max(counted as u64)
}

/// Tokens of a text of which only the length is known, and the least that is estimated for any other.
pub fn tokens_of_bytes(bytes: usize) -> u64 {
    bytes.div_ceil(4) as u64
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Blank,
    Letter,
    Digit,
    Other,
}

impl Kind {
    fn of(letter: char) -> Self {
        match letter {
            ' ' | '\n' | '\t' | '\r' => Self::Blank,
            'a'..='z' | 'A'..='Z' => Self::Letter,
            '0'..='9' => Self::Digit,
            _ => Self::Other,
        }
    }
}

/// Characters of one kind in a row.
#[derive(Default)]
struct Run {
    kind: Kind,
    length: usize,
}

impl Run {
    fn tokens(self) -> usize {
        match self.kind {
            // A single blank belongs to the word after it; several are tokens of their own.
            Kind::Blank => self.length.saturating_sub(1).div_ceil(LETTERS),
            Kind::Letter => self.length.div_ceil(LETTERS),
            Kind::Digit => self.length.div_ceil(DIGITS),
            Kind::Other => self.length,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_quarter_of_the_bytes_or_more() {
        for (text, least) in [
            ("", 0),
            ("hello", 2),
            ("a a a a a a", 6),
            ("!?!?", 4),
            ("123456789", 3),
            ("\u{65e5}\u{672c}\u{8a9e}", 3),
            ("            ", 3),
        ] {
            assert_eq!(tokens(text), least, "{text:?}");
        }
        let prose = "The quick brown fox jumps over the lazy dog. ".repeat(100);
        let counted = tokens(&prose);
        assert!(counted >= prose.len() as u64 / 4 && counted < prose.len() as u64 / 2);
    }

    #[test]
    fn words_of_one_letter_are_all_counted() {
        assert!(tokens(&"a ".repeat(120_000)) >= 120_000);
    }

    #[test]
    fn a_schema_is_part_of_what_is_read() {
        let format = json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"title": "x".repeat(4_000)}}}});
        assert!(request_tokens("hi", format.as_object().unwrap()) > 1_000);
    }
}

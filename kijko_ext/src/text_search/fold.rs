//! Case folding that keeps every byte at its place.

/// The small letter of a letter, if its UTF-8 is as long; else the letter itself. So offsets in a folded text are offsets in
/// the text.
pub fn fold_char(letter: char) -> char {
    if letter.is_ascii() {
        return letter.to_ascii_lowercase();
    }
    let mut small = letter.to_lowercase();
    match (small.next(), small.next()) {
        (Some(folded), None) if folded.len_utf8() == letter.len_utf8() => folded,
        _ => letter,
    }
}

pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.chars().map(fold_char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_letters_of_one_length() {
        assert_eq!(fold("Straße ÉTÉ ΣΑΣ"), "straße été σασ");
    }

    #[test]
    fn keeps_letters_whose_small_letter_is_longer_or_shorter() {
        // A Kelvin sign, and a capital i with a dot.
        assert_eq!(fold("\u{212a}\u{130}"), "\u{212a}\u{130}");
    }
}

//! Keys of an n-gram index. A trigram has 24 bits and a key 32: the seed, an organization's id, chooses where the trigrams of
//! that organization lie among the keys. So the entries of one organization are read without those of the others, and a GIN
//! index needs no column for the organization. Keys of two organizations may be equal; a search compares the organization too.

use super::fold::{fold, fold_char};

/// Not in any text: Postgres stores no zero byte.
const WORD_START: u8 = 0;

pub fn of_text(text: &str, seed: &[u8; 16]) -> Vec<i32> {
    let folded = fold(text);
    keys(
        folded
            .as_bytes()
            .windows(3)
            .map(|w| [w[0], w[1], w[2]])
            .map(number),
        seed,
    )
}

pub fn of_name(name: &str, seed: &[u8; 16]) -> Vec<i32> {
    let folded = fold(name);
    let bytes = folded.as_bytes();
    let starts = word_starts(name).into_iter().map(|at| {
        number([
            WORD_START,
            bytes[at],
            bytes.get(at + 1).copied().unwrap_or(WORD_START),
        ])
    });
    keys(
        bytes
            .windows(3)
            .map(|w| [w[0], w[1], w[2]])
            .map(number)
            .chain(starts),
        seed,
    )
}

/// Where the words of an identifier begin, as byte offsets: after what is no letter or digit, at a capital behind a small letter
/// or a digit (findUser), and at the last of several capitals before a small letter (HTTPServer).
pub fn word_starts(name: &str) -> Vec<usize> {
    let letters: Vec<(usize, char)> = name.char_indices().collect();
    let mut starts = Vec::new();
    for (n, &(at, letter)) in letters.iter().enumerate() {
        if !letter.is_alphanumeric() {
            continue;
        }
        let begins = match n.checked_sub(1).map(|before| letters[before].1) {
            None => true,
            Some(before) if !before.is_alphanumeric() => true,
            Some(before) => {
                letter.is_uppercase()
                    && (!before.is_uppercase()
                        || letters
                            .get(n + 1)
                            .is_some_and(|(_, next)| next.is_lowercase()))
            }
        };
        if begins && fold_char(letter).len_utf8() == letter.len_utf8() {
            starts.push(at);
        }
    }
    starts
}

fn number(gram: [u8; 3]) -> u32 {
    u32::from(gram[0]) << 16 | u32::from(gram[1]) << 8 | u32::from(gram[2])
}

fn keys(numbers: impl Iterator<Item = u32>, seed: &[u8; 16]) -> Vec<i32> {
    let mut distinct: Vec<u32> = numbers.collect();
    distinct.sort_unstable();
    distinct.dedup();
    let offset = offset(seed);
    let mut keys: Vec<i32> = distinct
        .into_iter()
        .map(|gram| key(gram, offset).cast_signed())
        .collect();
    keys.sort_unstable();
    keys
}

fn offset(seed: &[u8; 16]) -> u32 {
    seed.chunks_exact(4)
        .map(|part| u32::from_be_bytes([part[0], part[1], part[2], part[3]]))
        .fold(0, |sum, part| key(sum ^ part, 0x9e37_79b9))
}

/// A bijection for each offset, so that two trigrams of one organization never have the same key.
fn key(gram: u32, offset: u32) -> u32 {
    let mut key = gram.wrapping_add(offset);
    key = (key ^ (key >> 16)).wrapping_mul(0x7feb_352d);
    key = (key ^ (key >> 15)).wrapping_mul(0x846c_a68b);
    key ^ (key >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; 16] = [7; 16];

    fn contains(keys: &[i32], wanted: &[i32]) -> bool {
        wanted.iter().all(|key| keys.binary_search(key).is_ok())
    }

    #[test]
    fn a_text_has_the_keys_of_its_parts() {
        let keys = of_text("fn parse(x: &str) -> &Path { \u{dc}ber }", &SEED);
        for part in ["PARSE(", ") -> &", "fn p", "\u{fc}BER"] {
            assert!(contains(&keys, &of_text(part, &SEED)), "{part}");
        }
        assert!(!contains(&keys, &of_text("parser", &SEED)));
        assert!(keys.is_sorted());
        assert!(of_text("ab", &SEED).is_empty());
    }

    #[test]
    fn keys_of_organizations_differ() {
        let ours = of_text("a text of some length", &SEED);
        let theirs = of_text("a text of some length", &[8; 16]);
        assert!(ours.iter().all(|key| theirs.binary_search(key).is_err()));
    }

    #[test]
    fn all_trigrams_of_ascii_have_keys_of_their_own() {
        let mut keys: Vec<u32> = (0..0x80_8080_u32)
            .map(|gram| key(gram, offset(&SEED)))
            .collect();
        keys.sort_unstable();
        let count = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn words_begin_at_capitals_and_behind_marks() {
        let words = |name: &str| {
            word_starts(name)
                .into_iter()
                .map(|at| name[at..].chars().next().unwrap())
                .collect::<String>()
        };
        assert_eq!(words("findUserById"), "fUBI");
        assert_eq!(words("HTTPServer2Go"), "HSG");
        assert_eq!(words("__init_subclass__"), "is");
        assert_eq!(words("größeÄndern"), "gÄ");
        assert_eq!(words("名前_を"), "名を");
        assert_eq!(words(""), "");
    }

    #[test]
    fn a_word_of_a_name_is_told_from_a_part_of_a_word() {
        let keys = of_name("findUserById", &SEED);
        assert!(contains(&keys, &of_name("user", &SEED)));
        assert!(contains(&keys, &of_name("by", &SEED)));
        assert!(!contains(&keys, &of_name("ser", &SEED)));
        assert!(contains(&keys, &of_text("ser", &SEED)));
    }
}

//! The format of an API key: `kjk_live_`, 32 random base62 characters, and 6 base62 characters of the CRC-32 (IEEE) of all
//! that precedes. The checksum tells a typo from an unknown key, and lets secret scanners verify what they find. Pure.

use aws_lc_rs::digest;

const PREFIX: &str = "kjk_live_";
const RANDOM: usize = 32;
const CHECKSUM: usize = 6;
const LENGTH: usize = PREFIX.len() + RANDOM + CHECKSUM;
/// How much of a key identifies it in lists: 36 of its 190 random bits.
const VISIBLE: usize = PREFIX.len() + 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

pub type Hash = [u8; 32];

/// Why a text is no API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Form,
    Checksum,
}

/// A new key. `random` fills its argument with random bytes.
pub fn generate(mut random: impl FnMut(&mut [u8])) -> String {
    let mut key = String::with_capacity(LENGTH);
    key.push_str(PREFIX);
    let mut bytes = [0; RANDOM];
    while key.len() < PREFIX.len() + RANDOM {
        random(&mut bytes);
        // Bytes from 248 on would make some digits more likely than others.
        let digits = bytes.iter().filter(|byte| **byte < 248);
        let missing = PREFIX.len() + RANDOM - key.len();
        key.extend(digits.take(missing).map(|byte| digit(u32::from(*byte))));
    }
    let checksum = checksum(&key);
    key.push_str(&checksum);
    key
}

/// The part of a key that lists show.
pub fn visible_prefix(key: &str) -> &str {
    &key[..VISIBLE]
}

/// What is stored of a key. The key is random, so a plain hash is as good as a slow one.
pub fn hash(key: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
    hash
}

pub fn check(text: &str) -> Result<(), Malformed> {
    let digits = text.strip_prefix(PREFIX).ok_or(Malformed::Form)?;
    if digits.len() != RANDOM + CHECKSUM || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return Err(Malformed::Form);
    }
    let (key, found) = text.split_at(LENGTH - CHECKSUM);
    match checksum(key) == found {
        true => Ok(()),
        false => Err(Malformed::Checksum),
    }
}

fn checksum(key: &str) -> String {
    let sum = crc32fast::hash(key.as_bytes());
    let place = |at: usize| digit(sum / 62_u32.pow((CHECKSUM - 1 - at) as u32));
    (0..CHECKSUM).map(place).collect()
}

fn digit(value: u32) -> char {
    DIGITS[value as usize % DIGITS.len()].into()
}

#[cfg(test)]
mod unit {
    use super::*;

    // Independent of this code: Python's zlib.crc32 and hashlib.sha256.
    const KEY: &str = "kjk_live_0123456789ABCDEFGHIJKLMNOPQRSTUV0ScoqP";

    #[test]
    fn the_checksum_is_the_crc_32_of_what_precedes() {
        assert_eq!(check(KEY), Ok(()));
        assert_eq!(checksum("").as_str(), "000000");
        assert_eq!(checksum("123456789").as_str(), "3jZRME"); // the check value of CRC-32, cbf43926
    }

    #[test]
    fn what_is_stored_is_its_sha_256() {
        let hash = hash(KEY);
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "82763d2497bc2156b4bad51e1e7142bc84114fadbc3ce1fcaba8ddc3f251a0b6"
        );
    }

    #[test]
    fn every_single_typo_is_found() {
        for at in PREFIX.len()..LENGTH {
            for other in DIGITS {
                let mut bytes = KEY.as_bytes().to_vec();
                if bytes[at] != *other {
                    bytes[at] = *other;
                    let text = String::from_utf8(bytes).unwrap();
                    assert_eq!(check(&text), Err(Malformed::Checksum), "{text}");
                }
            }
        }
    }

    #[test]
    fn anything_else_is_no_key() {
        for text in [
            "",
            "kjk_live_",
            "kjk_test_0123456789ABCDEFGHIJKLMNOPQRSTUV000000",
            &KEY[1..],
            &KEY[..LENGTH - 1],
            &format!("{KEY}0"),
            &format!(" {KEY}"),
            &format!("{KEY}\n"),
            &KEY.replace('V', "_"),
            &KEY.replace('V', "\u{e9}"),
            &format!("{KEY},{KEY}"),
        ] {
            assert_eq!(check(text), Err(Malformed::Form), "{text}");
        }
    }

    #[test]
    fn a_generated_key_is_one_and_uses_every_digit_alike() {
        let mut state = 1_u32;
        let mut counts = [0; 62];
        for _ in 0..1_000 {
            let key = generate(|bytes| {
                for byte in bytes {
                    // Numerical Recipes' generator. Its high bits are good enough.
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *byte = (state >> 24) as u8;
                }
            });
            assert_eq!(check(&key), Ok(()));
            assert_eq!(visible_prefix(&key), &key[..15]);
            for byte in key[PREFIX.len()..LENGTH - CHECKSUM].bytes() {
                counts[DIGITS.iter().position(|digit| *digit == byte).unwrap()] += 1;
            }
        }
        // 516 of each. If bytes from 248 on counted, eight digits would come 625 times.
        let alike = |count: &i32| (430..=600).contains(count);
        assert!(counts.iter().all(alike), "{counts:?}");
    }
}

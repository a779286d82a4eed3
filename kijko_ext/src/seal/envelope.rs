//! The format of sealed text, `kjs1.<key id>.<base64url>`. Free of Postgres.
//!
//! The last part is nonce (12 bytes), ciphertext and tag (16 bytes). The plaintext is padded to one of a few lengths with a byte
//! 0x80 and zeros, so that the sealed text reveals only that length. Version, key id and context are authenticated.

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::keys::{ID_LENGTH, Key, Keys};

pub const MAX_PLAINTEXT: usize = 64 * 1024;
pub const MAX_CONTEXT: usize = 1024;

const VERSION: &str = "kjs1";
/// The version, a dot, the id of the key, and a dot.
const HEAD_LENGTH: usize = VERSION.len() + 1 + ID_LENGTH + 1;
const TAG_LENGTH: usize = 16;
const MIN_PADDED: usize = 64;
const STEP: usize = 1024;
const MIN_BYTES: usize = NONCE_LEN + MIN_PADDED + TAG_LENGTH;
const MAX_BYTES: usize = NONCE_LEN + MAX_PLAINTEXT + STEP + TAG_LENGTH;
const END_OF_PLAINTEXT: u8 = 0x80;

/// None if the cipher fails, which it does not on lengths such as these.
pub fn seal(key: &Key, nonce: [u8; NONCE_LEN], plaintext: &[u8], context: &[u8]) -> Option<String> {
    let padded = padded_length(plaintext.len());
    // Never grows, so no copy of the plaintext is left behind; the cipher writes over the one in it.
    let mut bytes = Zeroizing::new(Vec::with_capacity(NONCE_LEN + padded + TAG_LENGTH));
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(plaintext);
    bytes.push(END_OF_PLAINTEXT);
    bytes.resize(NONCE_LEN + padded, 0);
    let tag = key
        .cipher
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            associated_data(&key.id, context),
            &mut bytes[NONCE_LEN..],
        )
        .ok()?;
    bytes.extend_from_slice(tag.as_ref());
    let mut sealed = format!("{VERSION}.{}.", key.id);
    URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut sealed);
    Some(sealed)
}

/// The plaintext. None for any other text, context, or set of keys than it was sealed with, whatever the difference is.
pub fn unseal(keys: &Keys, sealed: &str, context: &[u8]) -> Option<Zeroizing<String>> {
    let id = key_id(sealed)?;
    let key = keys.find(id)?;
    let mut bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(&sealed[HEAD_LENGTH..]).ok()?);
    let nonce = Nonce::try_assume_unique_for_key(&bytes[..NONCE_LEN]).ok()?;
    let padded = key
        .cipher
        .open_in_place(nonce, associated_data(id, context), &mut bytes[NONCE_LEN..])
        .ok()?;
    let end = padded.iter().rposition(|byte| *byte != 0)?;
    if padded[end] != END_OF_PLAINTEXT {
        return None;
    }
    let plaintext = std::str::from_utf8(&padded[..end]).ok()?;
    Some(Zeroizing::new(plaintext.to_owned()))
}

/// The id of the key that a text of this format names. None for any other text.
pub fn key_id(sealed: &str) -> Option<&str> {
    const MIN_LENGTH: usize = HEAD_LENGTH + (MIN_BYTES * 4).div_ceil(3);
    const MAX_LENGTH: usize = HEAD_LENGTH + (MAX_BYTES * 4).div_ceil(3);
    if !(MIN_LENGTH..=MAX_LENGTH).contains(&sealed.len()) {
        return None;
    }
    let (id, body) = sealed
        .strip_prefix(VERSION)?
        .strip_prefix('.')?
        .split_once('.')?;
    let is_id = id.len() == ID_LENGTH
        && id
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_body = body
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    (is_id && is_body).then_some(id)
}

/// The next step of length with room for the byte that ends the plaintext: 64, 128, 256, 512, then each KiB.
fn padded_length(length: usize) -> usize {
    let needed = length + 1;
    if needed <= STEP {
        needed.next_power_of_two().max(MIN_PADDED)
    } else {
        needed.next_multiple_of(STEP)
    }
}

/// No part contains a NUL, so no two triples have the same bytes.
fn associated_data(id: &str, context: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([VERSION.as_bytes(), id.as_bytes(), context].join(&0))
}

#[cfg(test)]
mod unit {
    use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey};

    use super::super::keys::unit::{COUNTING, line};
    use super::*;

    fn keys(lines: &[&str]) -> Keys {
        Keys::parse(lines.join("\n").as_bytes()).unwrap()
    }

    fn sealed(keys: &Keys, plaintext: &str, context: &str) -> String {
        seal(
            keys.first(),
            [7; NONCE_LEN],
            plaintext.as_bytes(),
            context.as_bytes(),
        )
        .unwrap()
    }

    fn opened(keys: &Keys, sealed: &str, context: &str) -> Option<String> {
        unseal(keys, sealed, context.as_bytes()).map(|text| text.to_string())
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    /// RFC 8452, appendix C.2.
    #[test]
    fn the_cipher_is_that_of_rfc_8452() {
        let mut key = [0; 32];
        let mut nonce = [0; NONCE_LEN];
        (key[0], nonce[0]) = (1, 3);
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &key).unwrap());
        for (plaintext, associated, expected) in [
            (
                "0100000000000000",
                "",
                "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28",
            ),
            (
                "0200000000000000",
                "01",
                "1de22967237a813291213f267e3b452f02d01ae33e4ec854",
            ),
        ] {
            let mut text = hex(plaintext);
            let nonce = Nonce::assume_unique_for_key(nonce);
            cipher
                .seal_in_place_append_tag(nonce, Aad::from(hex(associated)), &mut text)
                .unwrap();
            assert_eq!(text, hex(expected));
        }
    }

    /// Texts that another implementation made (Python's `cryptography`), so that neither format nor cipher changes unnoticed.
    #[test]
    fn the_format_is_fixed() {
        let keys = keys(&[COUNTING]);
        let nonce: Vec<u8> = (100..112).collect();
        for (plaintext, context, expected) in [
            (
                "gehëim",
                "secrets/x",
                "kjs1.41428f809d93edc8.ZGVmZ2hpamtsbW5vYUCQe5t9q99kXDQ297-uW3Z6YSHzqu4_cCrHxU7cAtcmm9rmM9u1nTcgaAG_RfniMV4JpKkM74WY5iQ0qatDNLpJROD8IxBBmjyAfzYc_ss",
            ),
            (
                "",
                "c",
                "kjs1.41428f809d93edc8.ZGVmZ2hpamtsbW5vUb0ewKKh2--jncK-ZMejhbJWtbawLxY4P8MyozPkvcapBNH5Vt5B1hZFaXBx8tZP7P25EnYAFaAd8VnWaxoy-lj8p-iVGibKY3NfoTfWpDg",
            ),
        ] {
            let nonce = nonce.clone().try_into().unwrap();
            let made = seal(
                keys.first(),
                nonce,
                plaintext.as_bytes(),
                context.as_bytes(),
            );
            assert_eq!(made.as_deref(), Some(expected));
            assert_eq!(opened(&keys, expected, context).as_deref(), Some(plaintext));
        }
    }

    #[test]
    fn every_length_comes_back_and_only_its_step_shows() {
        let keys = keys(&[COUNTING]);
        let mut lengths = std::collections::BTreeSet::new();
        for length in (0..3000).chain([MAX_PLAINTEXT - 1, MAX_PLAINTEXT]) {
            // Ends like the padding.
            let plaintext = format!("{}{}", "\u{80}".repeat(length / 2), "x".repeat(length % 2));
            let text = sealed(&keys, &plaintext, "c");
            assert_eq!(opened(&keys, &text, "c"), Some(plaintext), "{length}");
            assert_eq!(key_id(&text), Some("41428f809d93edc8"), "{length}");
            lengths.insert(text.len());
        }
        assert_eq!(lengths.len(), 9); // 64 to 1024 in five steps, then 2, 3, 64 and 65 KiB
        let length = |length| sealed(&keys, &"x".repeat(length), "c").len();
        assert_eq!(length(0), length(63));
        assert_ne!(length(63), length(64));
        assert_eq!(length(1024), length(2047));
        assert_ne!(length(2047), length(2048));
    }

    #[test]
    fn another_context_key_or_text_does_not_open() {
        let (own, foreign) = (keys(&[COUNTING]), line(1));
        let text = sealed(&own, "secret", "a/b");
        assert!(opened(&own, &text, "a/b").is_some());
        for context in ["a/c", "a/b ", "A/B", "", "a", "b", "a/b/"] {
            assert!(opened(&own, &text, context).is_none(), "{context}");
        }
        assert!(opened(&keys(&[&foreign]), &text, "a/b").is_none());
        assert!(opened(&keys(&[&foreign, COUNTING]), &text, "a/b").is_some());
        // The id of another key that is there.
        let both = keys(&[COUNTING, &foreign]);
        let renamed = text.replace("41428f809d93edc8", foreign.split_once(' ').unwrap().0);
        assert!(opened(&both, &renamed, "a/b").is_none());
        for bad in [
            String::new(),
            "secret".to_owned(),
            text.replace("kjs1", "kjs2"),
            text.replace("kjs1.", "kjs1"),
            text.to_uppercase(),
            format!("{text}="),
            format!("{text}A"),
            format!(" {text}"),
            format!("{text}\n"),
            text.replacen('.', "é", 1),
            "kjs1..".to_owned() + &"A".repeat(200),
            "x".repeat(1_000_000),
        ] {
            assert!(opened(&own, &bad, "a/b").is_none(), "{bad:.40}");
        }
    }

    #[test]
    fn no_bit_of_a_text_can_be_flipped_and_no_part_cut_off() {
        let keys = keys(&[COUNTING]);
        let text = sealed(&keys, "secret", "c");
        for end in 0..text.len() {
            assert!(opened(&keys, &text[..end], "c").is_none(), "{end}");
        }
        let body = URL_SAFE_NO_PAD.decode(&text[HEAD_LENGTH..]).unwrap();
        for bit in 0..body.len() * 8 {
            let mut flipped = body.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = text[..HEAD_LENGTH].to_owned() + &URL_SAFE_NO_PAD.encode(flipped);
            assert!(opened(&keys, &flipped, "c").is_none(), "{bit}");
        }
        // Each character stands for itself: the unused bits of the last one are zero.
        for at in 0..text.len() {
            for other in "AQgwx_-.k0".chars() {
                let mut changed = text.clone();
                changed.replace_range(at..=at, &other.to_string());
                if changed != text {
                    assert!(opened(&keys, &changed, "c").is_none(), "{at} {other}");
                }
            }
        }
    }

    #[test]
    fn only_a_text_of_the_format_names_a_key() {
        let keys = keys(&[COUNTING]);
        let text = sealed(&keys, "x", "c");
        assert_eq!(key_id(&text), Some("41428f809d93edc8"));
        for bad in [
            "",
            "x",
            "kjs1.41428f809d93edc8.AAAA",
            &text.to_uppercase(),
            &text.replace('.', "_"),
            &text.replace("41428f80", "41428F80"),
            &format!("{text} "),
            &"é".repeat(100),
        ] {
            assert_eq!(key_id(bad), None, "{bad}");
        }
    }
}

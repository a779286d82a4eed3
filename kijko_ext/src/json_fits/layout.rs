//! How Postgres stores jsonb and its numbers (jsonb.h, numeric.c), as far as the length of their text depends on it. Tables hold
//! values in this layout, so it is the same in all versions.

/// No number has more digits before its point, or behind it.
const MAX_DIGITS: usize = 400;

const COUNT: u32 = 0x0fff_ffff;
const IS_SCALAR: u32 = 0x1000_0000;
const IS_OBJECT: u32 = 0x2000_0000;

const LENGTH: u32 = 0x0fff_ffff;
const TYPE: u32 = 0x7000_0000;
const HAS_OFFSET: u32 = 0x8000_0000;
const STRING: u32 = 0x0000_0000;
const NUMBER: u32 = 0x1000_0000;
const FALSE: u32 = 0x2000_0000;
const TRUE: u32 = 0x3000_0000;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;

/// Digits of a number are kept in groups of four.
const GROUP: usize = 4;

/// The bytes of a value's text as `jsonb_out` writes it. `None` if there are more than `most`, or a number is too long.
pub fn text_bytes(stored: &[u8], most: usize) -> Option<usize> {
    let mut bytes = 0;
    // Not by recursion: values may be nested by the thousands.
    let mut containers = vec![stored];
    while let Some(container) = containers.pop() {
        let header = word(container, 0)?;
        let count = (header & COUNT) as usize;
        let (entries, punctuation) = match header {
            _ if header & IS_SCALAR != 0 => (count, 0),
            _ if header & IS_OBJECT != 0 => (2 * count, 2 + ": ".len() * count + separators(count)),
            _ => (count, 2 + separators(count)),
        };
        bytes += punctuation;
        // An object's keys come first, then its values: the order makes no difference to the length.
        let data = container.get(4 * (entries + 1)..)?;
        let mut start = 0;
        for number in 0..entries {
            let entry = word(container, 4 * (number + 1))?;
            let length = (entry & LENGTH) as usize;
            let end = if entry & HAS_OFFSET == 0 {
                start + length
            } else {
                length
            };
            // Numbers and containers are aligned.
            let aligned = start.next_multiple_of(4);
            bytes += match entry & TYPE {
                STRING => string_bytes(data.get(start..end)?),
                NUMBER => number_bytes(data.get(aligned..end)?)?,
                FALSE => "false".len(),
                TRUE => "true".len(),
                NULL => "null".len(),
                CONTAINER => {
                    containers.push(data.get(aligned..end)?);
                    0
                }
                _ => return None,
            };
            if bytes > most {
                return None;
            }
            start = end;
        }
    }
    (bytes <= most).then_some(bytes)
}

fn separators(count: usize) -> usize {
    ", ".len() * count.saturating_sub(1)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let half = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(half.try_into().ok()?))
}

/// With its quotes, as `escape_json` writes it.
fn string_bytes(string: &[u8]) -> usize {
    let escaped = string.iter().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => "\\u0000".len(),
        _ => 1,
    });
    2 + escaped.sum::<usize>()
}

/// A `numeric` with its header of four bytes. `None` if it is too long.
fn number_bytes(numeric: &[u8]) -> Option<usize> {
    let header = half(numeric, 4)?;
    let (is_negative, behind, weight, digits) = match header & 0xc000 {
        // The short form: sign, digits behind the point and weight share the header.
        0x8000 => {
            let weight = i16::from((header & 0x003f) as u8);
            let weight = weight - if header & 0x0040 == 0 { 0 } else { 0x40 };
            let behind = usize::from((header & 0x1f80) >> 7);
            (header & 0x2000 != 0, behind, weight, 6)
        }
        // Not a number, or infinite: neither is JSON.
        0xc000 => return None,
        sign => {
            let weight = half(numeric, 6)?.cast_signed();
            (sign != 0, usize::from(header & 0x3fff), weight, 8)
        }
    };
    // The first group stands for 10,000 to the power of the weight, and has no leading zeros. Zero has no group.
    let before = match (usize::try_from(weight), half(numeric, digits)) {
        (Ok(weight), Some(first)) => {
            GROUP * weight
                + first
                    .checked_ilog10()
                    .map_or(1, |digits| digits as usize + 1)
        }
        _ => 1,
    };
    let point = usize::from(behind > 0);
    (before <= MAX_DIGITS && behind <= MAX_DIGITS)
        .then_some(usize::from(is_negative) + before + point + behind)
}

#[cfg(test)]
mod unit {
    use super::*;

    fn number(header: &[u16], groups: &[u16]) -> Vec<u8> {
        let halves = header.iter().chain(groups).flat_map(|it| it.to_ne_bytes());
        [0; 4].into_iter().chain(halves).collect()
    }

    #[test]
    fn numbers_have_the_length_of_their_text() {
        let short =
            |sign: u16, behind: u16, weight: u16| 0x8000 | sign << 13 | behind << 7 | weight;
        for (text, header, groups) in [
            ("0", short(0, 0, 0), &[][..]),
            ("7", short(0, 0, 0), &[7]),
            ("-1234", short(1, 0, 0), &[1234]),
            ("12345.50", short(0, 2, 1), &[1, 2345, 5000]),
            ("0.001", short(0, 3, 0x7f), &[10]),
            ("1000000", short(0, 0, 1), &[100]),
        ] {
            assert_eq!(
                number_bytes(&number(&[header], groups)),
                Some(text.len()),
                "{text}"
            );
        }
        let long = |behind: u16, weight: u16| number(&[behind, weight], &[1]);
        assert_eq!(number_bytes(&long(0, 99)), Some(397));
        assert_eq!(number_bytes(&long(0, 100)), None, "401 digits");
        assert_eq!(number_bytes(&long(400, 0)), Some(402));
        assert_eq!(number_bytes(&long(401, 0)), None);
        assert_eq!(number_bytes(&number(&[0xc000, 0], &[])), None);
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(
            string_bytes("é\"\\\n\u{1}\u{7f}".as_bytes()),
            2 + 2 + 2 + 2 + 2 + 6 + 1
        );
    }

    #[test]
    fn what_is_no_jsonb_fits_nowhere() {
        let object = (IS_OBJECT | 1).to_ne_bytes();
        let entry = |kind: u32, length: u32| (kind | length).to_ne_bytes();
        let value = [object, entry(STRING, 1), entry(TRUE, 0), *b"a\0\0\0"].concat();
        assert_eq!(text_bytes(&value, 100), Some(r#"{"a": true}"#.len()));
        assert_eq!(text_bytes(&value, 10), None);
        for length in 0..13 {
            assert_eq!(text_bytes(&value[..length], 100), None, "{length}");
        }
        let unknown = [object, entry(STRING, 1), entry(0x6000_0000, 0), *b"a\0\0\0"].concat();
        assert_eq!(text_bytes(&unknown, 100), None);
    }
}

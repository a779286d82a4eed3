//! `kijko.clock_offset` as it is written. Pure.

use thiserror::Error;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Far enough for any demonstration, and no sum of it with a timestamp can overflow.
const MAX_OFFSET: i64 = 36_525 * DAY;

#[derive(Debug, Error, PartialEq)]
pub enum OffsetError {
    #[error("\"{0}\" is not a number with a unit (s, min, h, d, w) or a time (hh:mm[:ss])")]
    Term(String),
    #[error("months and years have no fixed length; use days")]
    Calendar,
    #[error("the offset must stay within 100 years")]
    TooFar,
}

/// Reads an offset such as `90`, `1 hour`, `2 days 03:00`, `-1d`, `1h 30min`; a sign holds for its own term, and a
/// day has 24 hours. Empty means none.
pub fn parse(text: &str) -> Result<i64, OffsetError> {
    let mut total: i64 = 0;
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let micros = if word.contains(':') {
            parse_time(word)?
        } else {
            let (number, attached) = split_number(word)?;
            let unit = if !attached.is_empty() {
                attached
            } else {
                match words.peek() {
                    Some(next) if next.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                        words.next().unwrap_or("")
                    }
                    _ => "s",
                }
            };
            (number * unit_micros(unit)? as f64).round() as i64 // saturates, and then is too far
        };
        total = total.checked_add(micros).ok_or(OffsetError::TooFar)?;
    }
    if total.abs() > MAX_OFFSET {
        Err(OffsetError::TooFar)
    } else {
        Ok(total)
    }
}

fn split_number(word: &str) -> Result<(f64, &str), OffsetError> {
    let wrong = || OffsetError::Term(word.to_owned());
    let end = word
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(word.len());
    let (digits, unit) = word.split_at(end);
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    if number.is_finite() {
        Ok((number, unit))
    } else {
        Err(wrong())
    }
}

fn parse_time(word: &str) -> Result<i64, OffsetError> {
    let wrong = || OffsetError::Term(word.to_owned());
    let (sign, rest) = match word.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, word.strip_prefix('+').unwrap_or(word)),
    };
    let parts: Vec<&str> = rest.split(':').collect();
    let (hours, minutes, seconds) = match parts[..] {
        [h, m] => (h, m, "0"),
        [h, m, s] => (h, m, s),
        _ => return Err(wrong()),
    };
    let digits = |s: &str| {
        s.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| s.parse::<i64>().ok())
            .flatten()
    };
    let hours = digits(hours).filter(|h| *h <= 876_600).ok_or_else(wrong)?;
    let minutes = digits(minutes).filter(|m| *m < 60).ok_or_else(wrong)?;
    let seconds: f64 = seconds
        .parse()
        .ok()
        .filter(|s| (0.0..60.0).contains(s))
        .ok_or_else(wrong)?;
    Ok(sign * ((hours * 3_600 + minutes * 60) * SECOND + (seconds * SECOND as f64).round() as i64))
}

fn unit_micros(unit: &str) -> Result<i64, OffsetError> {
    match unit.to_ascii_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => Ok(SECOND / 1_000),
        "s" | "sec" | "secs" | "second" | "seconds" => Ok(SECOND),
        "m" | "min" | "mins" | "minute" | "minutes" => Ok(60 * SECOND),
        "h" | "hour" | "hours" => Ok(3_600 * SECOND),
        "d" | "day" | "days" => Ok(DAY),
        "w" | "week" | "weeks" => Ok(7 * DAY),
        "mon" | "mons" | "month" | "months" | "y" | "year" | "years" => Err(OffsetError::Calendar),
        _ => Err(OffsetError::Term(unit.to_owned())),
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn offsets_in_every_form() {
        for (text, seconds) in [
            ("", 0),
            ("0", 0),
            ("90", 90),
            ("-90", -90),
            ("1 hour", 3_600),
            ("1h 30min", 5_400),
            ("2 days 03:00", 2 * 86_400 + 10_800),
            ("-1d", -86_400),
            ("-1 day", -86_400),
            ("1 week", 604_800),
            ("1 day -01:00", 82_800),
            ("00:00:30", 30),
            ("1.5 h", 5_400),
        ] {
            assert_eq!(parse(text), Ok(seconds * SECOND), "{text}");
        }
        assert_eq!(parse("1.5"), Ok(1_500_000));
    }

    #[test]
    fn what_is_not_an_offset_is_refused() {
        for text in [
            "soon",
            "1 fortnight",
            "1:2:3:4",
            "10:75",
            "--1",
            "1e999",
            "nan",
            "1:-5",
            ":",
        ] {
            assert!(
                matches!(parse(text), Err(OffsetError::Term(_))),
                "{text}: {:?}",
                parse(text)
            );
        }
        assert_eq!(parse("1 month"), Err(OffsetError::Calendar));
        assert_eq!(parse("2 years"), Err(OffsetError::Calendar));
        assert_eq!(parse("40000 days"), Err(OffsetError::TooFar));
    }
}

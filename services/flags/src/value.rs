//! Values of definitions, as far as the engine's grammar takes them.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

pub(crate) const MAX_VALUE_BYTES: usize = 500;
pub(crate) const MAX_NAME_BYTES: usize = 100;

pub(crate) fn is_percentage(text: &str) -> bool {
    text.len() <= 3
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse::<u8>().is_ok_and(|percentage| percentage <= 100)
}

/// The engine writes it into a rule, between quotes.
pub(crate) fn is_context_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.contains(['"', '\\'])
}

/// The engine escapes quotes and not backslashes.
pub(crate) fn is_quotable(text: &str) -> bool {
    text.len() <= MAX_VALUE_BYTES && !text.contains("\\\"") && !text.ends_with('\\')
}

/// The engine does not escape it.
pub(crate) fn is_plain(text: &str) -> bool {
    text.len() <= MAX_VALUE_BYTES && !text.contains(['"', '\\'])
}

/// Of the engine's grammar, which knows no infinity.
pub(crate) fn is_number(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    let digits = text.trim_start_matches(['+', '-']);
    text.len() <= 50
        && text.chars().all(is_plain)
        && digits.starts_with(|c: char| c.is_ascii_digit())
        && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Of the engine's grammar, with a `T` and at most milliseconds.
pub(crate) fn is_time(text: &str) -> bool {
    let is_plain = |(place, c): (usize, char)| match place {
        4 | 7 => c == '-',
        10 => c == 'T',
        13 | 16 => c == ':',
        0..19 => c.is_ascii_digit(),
        _ => true,
    };
    let rest = text.get(19..).unwrap_or("?");
    let zone = rest
        .strip_prefix('.')
        .map_or(Some(rest), |rest| rest.get(3..));
    let zone_is_plain =
        zone.is_some_and(|zone| zone == "Z" || (zone.len() == 6 && zone.starts_with(['+', '-'])));
    text.char_indices().all(is_plain) && zone_is_plain && text.parse::<DateTime<Utc>>().is_ok()
}

pub(crate) fn is_network(text: &str) -> bool {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| {
        bits.len() <= 3
            && bits.bytes().all(|byte| byte.is_ascii_digit())
            && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
    })
}

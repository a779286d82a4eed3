//! Ids of traces and spans, and W3C's `traceparent`.

use std::fmt;

use axum::http::HeaderMap;
use uuid::Uuid;

/// A trace. Never all zero, which stands for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// A span within its trace. Never all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// The span of another process that a span belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// Its trace.
    pub trace: TraceId,
    /// The span itself.
    pub span: SpanId,
}

impl TraceId {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random::<u128>().max(1).to_be_bytes())
    }

    /// The trace of something that has an id of its own, such as a job whose attempts belong together.
    pub fn of(id: Uuid) -> Self {
        match id.is_nil() {
            true => Self::random(),
            false => Self(id.into_bytes()),
        }
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }
}

/// 32 digits, as in `traceparent`.
impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// 16 digits, as in `traceparent`.
impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// As the header of a request that belongs to this span.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-01", self.trace, self.span)
    }
}

impl SpanId {
    /// Reads 16 digits.
    pub fn parse(text: &str) -> Option<Self> {
        let id = u64::try_from(hex(text, 16)?).ok()?;
        (id != 0).then(|| Self(id.to_be_bytes()))
    }

    /// A new one.
    pub fn random() -> Self {
        Self(rand::random::<u64>().max(1).to_be_bytes())
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl TraceParent {
    /// The header of a request.
    pub const HEADER: &'static str = "traceparent";

    /// That of a request, if it is valid.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(Self::HEADER)?.to_str().ok()?)
    }

    /// Reads the header. What is not valid is ignored, as W3C asks: the trace then begins here.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // A later version may add parts.
        if hex(version, 2)? == 0xff || (version == "00" && parts.next().is_some()) {
            return None;
        }
        hex(flags, 2)?;
        let trace = hex(trace, 32).filter(|id| *id != 0)?;
        let span = hex(span, 16)
            .and_then(|id| u64::try_from(id).ok())
            .filter(|id| *id != 0)?;
        Some(Self {
            trace: TraceId(trace.to_be_bytes()),
            span: SpanId(span.to_be_bytes()),
        })
    }
}

/// A number of exactly so many digits, in lower case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == digits && text.bytes().all(is_hex))
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_valid_header_names_trace_and_span() {
        for header in [
            format!("00-{TRACE}-{SPAN}-01"),
            format!(" 00-{TRACE}-{SPAN}-00 "),
            format!("cc-{TRACE}-{SPAN}-01-what-the-future-brings"),
        ] {
            let parent = TraceParent::parse(&header).unwrap();
            assert_eq!(parent.trace.to_string(), TRACE);
            assert_eq!(parent.span.bytes(), 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
            assert_eq!(parent.to_string(), format!("00-{TRACE}-{SPAN}-01"));
            assert_eq!(SpanId::parse(SPAN), Some(parent.span));
        }
    }

    #[test]
    fn what_is_not_valid_is_ignored() {
        let zero = "0".repeat(32);
        for header in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{zero}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zero[..16]),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{}é-{SPAN}-01", &TRACE[..30]),
            format!("00-+{}-{SPAN}-01", &TRACE[..31]),
        ] {
            assert_eq!(TraceParent::parse(&header), None, "{header}");
        }
    }

    #[test]
    fn an_id_of_a_thing_is_its_trace() {
        let id = Uuid::from_u128(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(TraceId::of(id).to_string(), TRACE);
        assert_ne!(TraceId::of(Uuid::nil()).bytes(), [0; 16]);
    }
}

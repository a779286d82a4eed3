//! Git's frames: four hexadecimal digits of length, themselves included, then the data.

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use reqwest::Response;

use super::FetchError;

/// Bytes of one frame's data.
const MAX_DATA: usize = 65_516;
/// Bytes of an answer in each second, within each time that a server may be silent: a server that sends a byte now and then would hold
/// a place of the indexer.
const MIN_RATE: u64 = 1_024;

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// With data.
    Data(Bytes),
    /// `0000`.
    Flush,
    /// `0001`.
    Delimiter,
    /// `0002`.
    ResponseEnd,
    /// The answer has ended between two frames.
    End,
}

/// The frames of an answer, read as they come.
pub struct Lines {
    response: Response,
    buffer: BytesMut,
    left: u64,
    limit: u64,
    idle: Duration,
    /// Since when the bytes that have come are counted, and how many have.
    window: (Instant, u64),
}

impl Lines {
    /// Of an answer that may have so many bytes, from a server that may be silent for so long.
    pub fn new(response: Response, limit: u64, idle: Duration) -> Self {
        Self {
            response,
            buffer: BytesMut::new(),
            left: limit,
            limit,
            idle,
            window: (Instant::now(), 0),
        }
    }

    /// By bytes and not by frames: one frame may take a server hours.
    fn keep_pace(&mut self, come: u64) -> Result<(), FetchError> {
        self.window.1 += come;
        if self.window.0.elapsed() >= self.idle {
            if self.window.1 < self.idle.as_secs() * MIN_RATE {
                return Err(FetchError::TooSlow(MIN_RATE));
            }
            self.window = (Instant::now(), 0);
        }
        Ok(())
    }

    /// The next frame.
    pub async fn next(&mut self) -> Result<Line, FetchError> {
        loop {
            if let Some(line) = parse(&mut self.buffer)? {
                return Ok(line);
            }
            match self.response.chunk().await? {
                Some(chunk) => {
                    let left = self.left.checked_sub(chunk.len() as u64);
                    self.left = left.ok_or(FetchError::TooLarge(self.limit))?;
                    self.keep_pace(chunk.len() as u64)?;
                    self.buffer.extend_from_slice(&chunk);
                }
                None if self.buffer.is_empty() => return Ok(Line::End),
                None => return Err(FetchError::Broken("the answer breaks off".to_owned())),
            }
        }
    }
}

/// Takes one frame; none if it is not whole yet.
fn parse(buffer: &mut BytesMut) -> Result<Option<Line>, FetchError> {
    const BAD: FetchError = FetchError::Protocol("a frame has no length");
    let Some(digits) = buffer.get(..4) else {
        return Ok(None);
    };
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(BAD);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| BAD)?;
    let length = usize::from_str_radix(digits, 16).map_err(|_| BAD)?;
    let line = match length {
        0 => Line::Flush,
        1 => Line::Delimiter,
        2 => Line::ResponseEnd,
        3 => return Err(BAD),
        length if length - 4 > MAX_DATA => return Err(BAD),
        length if buffer.len() < length => return Ok(None),
        length => {
            buffer.advance(4);
            return Ok(Some(Line::Data(buffer.split_to(length - 4).freeze())));
        }
    };
    buffer.advance(4);
    Ok(Some(line))
}

/// Writes one frame with data.
pub fn write_line(request: &mut Vec<u8>, data: &str) -> Result<(), FetchError> {
    if data.len() > MAX_DATA || data.trim_end_matches('\n').contains(['\n', '\0']) {
        return Err(FetchError::Address("a name has a line break".to_owned()));
    }
    request.extend_from_slice(format!("{:04x}{data}", data.len() + 4).as_bytes());
    Ok(())
}

/// Writes the frame between the parts of a request.
pub fn write_delimiter(request: &mut Vec<u8>) {
    request.extend_from_slice(b"0001");
}

/// Writes the frame at the end of a request.
pub fn write_flush(request: &mut Vec<u8>) {
    request.extend_from_slice(b"0000");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_when_they_are_whole() {
        let mut buffer = BytesMut::from(&b"0006a\n0000"[..]);
        assert_eq!(
            parse(&mut buffer).unwrap(),
            Some(Line::Data(Bytes::from_static(b"a\n")))
        );
        assert_eq!(parse(&mut buffer).unwrap(), Some(Line::Flush));
        assert_eq!(parse(&mut buffer).unwrap(), None);
        let mut buffer = BytesMut::from(&b"0008ab"[..]);
        assert_eq!(parse(&mut buffer).unwrap(), None);
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        for frame in [&b"0003"[..], b"fff5", b"+005a", b"zzzz", b"<htm"] {
            assert!(parse(&mut BytesMut::from(frame)).is_err(), "{frame:?}");
        }
    }

    #[test]
    fn a_line_break_cannot_add_a_command() {
        let mut request = Vec::new();
        assert!(write_line(&mut request, "want a\nhave b\n").is_err());
        write_line(&mut request, "done\n").unwrap();
        assert_eq!(request, b"0009done\n");
    }
}

//! The structure of image files, PNG and JPEG: its pieces, and what they say about the picture.
//!
//! No pixel is decoded, so a file that claims to be huge costs no more than its length. That a walk reaches the end shows that the
//! file is whole.

use std::ops::Range;

/// How a PNG begins.
pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A number whose first byte is the highest.
pub(crate) fn big(file: &[u8], range: Range<usize>) -> Option<u32> {
    let digits = file.get(range)?;
    Some(
        digits
            .iter()
            .fold(0, |sum, byte| (sum << 8) | u32::from(*byte)),
    )
}

/// Width and height of a PNG.
pub(crate) fn png_sides(file: &[u8]) -> Option<(u32, u32)> {
    (file.get(8..16)? == b"\0\0\0\x0dIHDR").then_some(())?;
    Some((big(file, 16..20)?, big(file, 20..24)?))
}

/// Visits the chunks of a PNG: the type, and the whole chunk. `None` if the file ends before the last one.
pub(crate) fn visit_chunks<'a>(
    file: &'a [u8],
    mut visit: impl FnMut(&'a [u8], &'a [u8]),
) -> Option<()> {
    let mut at = PNG.len();
    loop {
        let length = big(file, at..at + 4)? as usize;
        // Length, type, content and checksum.
        let end = at.checked_add(length)?.checked_add(12)?;
        let chunk = file.get(at..end)?;
        let kind = &chunk[4..8];
        visit(kind, chunk);
        if kind == b"IEND" {
            return Some(());
        }
        at = end;
    }
}

/// A segment of a JPEG.
pub(crate) struct Segment<'a> {
    pub(crate) marker: u8,
    /// With marker and length.
    pub(crate) bytes: &'a [u8],
    /// What follows a start of scan; empty after all others.
    pub(crate) scan: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Without marker and length.
    pub(crate) fn content(&self) -> &'a [u8] {
        &self.bytes[4..]
    }

    /// Whether it is the header of a frame.
    pub(crate) fn is_frame(&self) -> bool {
        matches!(self.marker, 0xc0..=0xcf) && !matches!(self.marker, 0xc4 | 0xc8 | 0xcc)
    }

    /// Width and height of a frame.
    pub(crate) fn sides(&self) -> Option<(u32, u32)> {
        Some((big(self.bytes, 7..9)?, big(self.bytes, 5..7)?))
    }
}

/// Visits the segments of a JPEG. `None` if a visit says so, or the file ends before the end of the image.
pub(crate) fn visit_segments<'a>(
    file: &'a [u8],
    mut visit: impl FnMut(&Segment<'a>) -> Option<()>,
) -> Option<()> {
    let mut at = 2;
    loop {
        (*file.get(at)? == 0xff).then_some(())?;
        let marker = *file.get(at + 1)?;
        match marker {
            // Fill bytes may come before a marker.
            0xff => {
                at += 1;
                continue;
            }
            // Markers without a segment.
            0x01 | 0xd0..=0xd8 => {
                at += 2;
                continue;
            }
            0xd9 => return Some(()),
            _ => {}
        }
        let length = big(file, at + 2..at + 4)? as usize;
        let end = at.checked_add(2)?.checked_add(length)?;
        let bytes = file.get(at..end).filter(|it| it.len() >= 4)?;
        let scan = match marker {
            0xda => &file[end..end + scan_length(&file[end..])?],
            _ => &[],
        };
        visit(&Segment {
            marker,
            bytes,
            scan,
        })?;
        at = end + scan.len();
    }
}

/// Bytes until the next marker that is none of a scan's own.
fn scan_length(rest: &[u8]) -> Option<usize> {
    let is_own = |byte: u8| byte == 0 || (0xd0..=0xd7).contains(&byte);
    let mut pairs = rest.windows(2);
    pairs.position(|pair| pair[0] == 0xff && !is_own(pair[1]))
}

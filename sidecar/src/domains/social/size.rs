//! The size of an image by the bytes of its file: JPEG, PNG and GIF.
//!
//! What a library for headers leaves out is needed here: that an upload is whole, the orientation, since a platform sees a photo as
//! it is shown, and the frames of an animation.

use std::ops::Range;

use serde::Serialize;

use crate::image_file::{PNG, big, png_sides, visit_chunks, visit_segments};

/// The longest side that PNG allows, and a column of the database holds.
const MAX_SIDE: u32 = i32::MAX as u32;

/// An image as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Size {
    pub content_type: &'static str,
    pub width: u32,
    pub height: u32,
    /// More than one for an animation.
    pub frames: u32,
}

/// Why a file has no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unreadable {
    UnknownType,
    /// It ends too early, or is damaged.
    Incomplete,
    NoSize,
}

/// Measures a file.
pub(super) fn measure(file: &[u8]) -> Result<Size, Unreadable> {
    let size = match file {
        _ if file.starts_with(PNG) => png(file),
        _ if file.starts_with(b"\xff\xd8\xff") => jpeg(file),
        _ if file.starts_with(b"GIF87a") || file.starts_with(b"GIF89a") => gif(file),
        _ => return Err(Unreadable::UnknownType),
    };
    let size = size.ok_or(Unreadable::Incomplete)?;
    let sides = 1..=MAX_SIDE;
    match sides.contains(&size.width) && sides.contains(&size.height) {
        true => Ok(size),
        false => Err(Unreadable::NoSize),
    }
}

fn little(file: &[u8], range: Range<usize>) -> Option<u32> {
    let digits = file.get(range)?;
    Some(
        digits
            .iter()
            .rfold(0, |sum, byte| (sum << 8) | u32::from(*byte)),
    )
}

fn png(file: &[u8]) -> Option<Size> {
    let (width, height) = png_sides(file)?;
    let mut has_pixels = false;
    visit_chunks(file, |kind, _| has_pixels |= kind == b"IDAT")?;
    has_pixels.then_some(Size {
        content_type: "image/png",
        width,
        height,
        frames: 1,
    })
}

fn jpeg(file: &[u8]) -> Option<Size> {
    let (mut sides, mut is_turned) = (None, None);
    visit_segments(file, |segment| {
        if segment.is_frame() && sides.is_none() {
            sides = Some(segment.sides()?);
        }
        if segment.marker == 0xe1 && is_turned.is_none() {
            let exif = segment.content().strip_prefix(b"Exif\0\0");
            is_turned = exif.map(lies_on_its_side);
        }
        Some(())
    })?;
    let (width, height) = match (sides.unwrap_or_default(), is_turned) {
        ((width, height), Some(true)) => (height, width),
        (sides, _) => sides,
    };
    Some(Size {
        content_type: "image/jpeg",
        width,
        height,
        frames: 1,
    })
}

/// Whether an orientation turns the picture by a quarter: the values 5 to 8 of the first directory.
fn lies_on_its_side(exif: &[u8]) -> bool {
    orientation(exif).is_some_and(|value| (5..=8).contains(&value))
}

fn orientation(exif: &[u8]) -> Option<u32> {
    let number = match exif.get(..4)? {
        b"II*\0" => little,
        b"MM\0*" => big,
        _ => return None,
    };
    let start = number(exif, 4..8)? as usize;
    let entries = exif.get(start..)?;
    let count = number(entries, 0..2)? as usize;
    let mut entries = entries.get(2..)?.chunks_exact(12).take(count);
    let entry = entries.find(|it| number(it, 0..2) == Some(0x0112))?;
    number(entry, 8..10)
}

fn gif(file: &[u8]) -> Option<Size> {
    let (width, height) = (little(file, 6..8)?, little(file, 8..10)?);
    let (mut at, mut frames) = (13 + colors(*file.get(10)?), 0);
    loop {
        match file.get(at) {
            // An extension.
            Some(0x21) => at = after_blocks(file, at + 2)?,
            Some(0x2c) => {
                frames += 1;
                // Place, colours, and the width of codes; then the pixels.
                at = after_blocks(file, at + 11 + colors(*file.get(at + 9)?))?;
            }
            Some(0x3b) => break,
            // Encoders leave the last byte out.
            None if at == file.len() => break,
            _ => return None,
        }
    }
    (frames > 0).then_some(Size {
        content_type: "image/gif",
        width,
        height,
        frames,
    })
}

/// Length of the table of colours that flags announce.
fn colors(flags: u8) -> usize {
    match flags & 0x80 {
        0 => 0,
        _ => 6 << (flags & 7),
    }
}

/// Where a list of blocks ends. Each begins with its length, and an empty one is the last.
fn after_blocks(file: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*file.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u32).to_be_bytes();
        [&length[..], kind, content, b"crc!"].concat()
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
        let header = [&sides[..], b"\x08\x02\0\0\0"].concat();
        [
            PNG,
            &chunk(b"IHDR", &header),
            &chunk(b"tEXt", b"IEND"),
            &chunk(b"IDAT", b"pixels"),
            &chunk(b"IEND", b""),
        ]
        .concat()
    }

    fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker], &length[..], content].concat()
    }

    fn jpeg(width: u16, height: u16, before: &[u8]) -> Vec<u8> {
        let sides = [height.to_be_bytes(), width.to_be_bytes()].concat();
        let frame = [&[8], &sides[..], &[3]].concat();
        [
            b"\xff\xd8",
            before,
            // A table is no frame.
            &segment(0xc4, b"\x01\x02\x03\x04\x05\x06\x07"),
            b"\xff\xff",
            &segment(0xc2, &frame)[1..],
            &segment(0xda, b"\x01"),
            b"\x12\xff\0\x34\xff\xd0\x56\xff\xd9",
        ]
        .concat()
    }

    fn exif(order: &[u8; 2], orientation: u16) -> Vec<u8> {
        let is_little = order == b"II";
        let short = |value: u16| match is_little {
            true => value.to_le_bytes(),
            false => value.to_be_bytes(),
        };
        let long = |value: u32| match is_little {
            true => value.to_le_bytes(),
            false => value.to_be_bytes(),
        };
        let content = [
            &b"Exif\0\0"[..],
            order,
            &short(42),
            &long(8),
            &short(2),
            // Another entry, then the orientation.
            &short(0x0100),
            &short(4),
            &long(1),
            &long(7),
            &short(0x0112),
            &short(3),
            &long(1),
            &short(orientation),
            &short(0),
            &long(0),
        ];
        segment(0xe1, &content.concat())
    }

    fn gif(width: u16, height: u16, frames: usize) -> Vec<u8> {
        let sides = [width.to_le_bytes(), height.to_le_bytes()].concat();
        let frame = b"\x21\xf9\x04\0\0\0\0\0\x2c\0\0\0\0\x01\0\x01\0\x80abcdef\x02\x02\x44\x01\0";
        let frames = frame.repeat(frames);
        let colors = [0; 12];
        [
            b"GIF89a",
            &sides[..],
            b"\x81\0\0",
            &colors,
            &frames,
            b"\x3b",
        ]
        .concat()
    }

    fn size(content_type: &'static str, width: u32, height: u32, frames: u32) -> Size {
        Size {
            content_type,
            width,
            height,
            frames,
        }
    }

    #[test]
    fn each_type_has_its_size() {
        for (file, wanted) in [
            (png(1_024, 512), size("image/png", 1_024, 512, 1)),
            (jpeg(1_024, 512, b""), size("image/jpeg", 1_024, 512, 1)),
            (gif(320, 200, 1), size("image/gif", 320, 200, 1)),
            (gif(65_535, 1, 351), size("image/gif", 65_535, 1, 351)),
        ] {
            assert_eq!(measure(&file), Ok(wanted));
        }
        // What comes after the end does not count, as a second picture of a camera.
        let twice = [jpeg(10, 20, b""), jpeg(30, 40, b"")].concat();
        assert_eq!(measure(&twice), Ok(size("image/jpeg", 10, 20, 1)));
        let mut open = gif(3, 4, 2);
        open.pop();
        assert_eq!(measure(&open), Ok(size("image/gif", 3, 4, 2)));
    }

    #[test]
    fn a_photo_has_the_size_that_it_is_shown_in() {
        for order in [b"II", b"MM"] {
            for orientation in 0..=9 {
                let photo = jpeg(400, 300, &exif(order, orientation));
                let (width, height) = match orientation {
                    5..=8 => (300, 400),
                    _ => (400, 300),
                };
                let wanted = size("image/jpeg", width, height, 1);
                assert_eq!(measure(&photo), Ok(wanted), "{orientation}");
            }
        }
        // Neither another application's data nor a directory that lies outside turns it.
        let outside = b"Exif\0\0II*\0\xff\xff\xff\xff";
        let many = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12";
        for data in [&b"http://ns.adobe.com/xap/1.0/\0"[..], outside, many] {
            let photo = jpeg(400, 300, &segment(0xe1, data));
            assert_eq!(measure(&photo), Ok(size("image/jpeg", 400, 300, 1)));
        }
    }

    #[test]
    fn what_ends_in_the_middle_is_no_image() {
        let files = [png(7, 5), jpeg(7, 5, &exif(b"MM", 6)), gif(7, 5, 1)];
        for whole in files {
            // A GIF may lack its last byte.
            let shortest = whole.len() - usize::from(whole.starts_with(b"GIF"));
            for length in 0..shortest {
                assert!(measure(&whole[..length]).is_err(), "{length}");
            }
        }
        let no_frames = gif(7, 5, 0);
        assert_eq!(measure(&no_frames), Err(Unreadable::Incomplete));
        let no_pixels = [PNG, &chunk(b"IHDR", &[1; 13]), &chunk(b"IEND", b"")].concat();
        assert_eq!(measure(&no_pixels), Err(Unreadable::Incomplete));
    }

    #[test]
    fn what_a_file_claims_costs_nothing() {
        for (width, height) in [(0, 0), (0, 5), (5, 0), (u32::MAX, 1), (1, 1 << 31)] {
            assert_eq!(measure(&png(width, height)), Err(Unreadable::NoSize));
        }
        let bomb = png(MAX_SIDE, MAX_SIDE);
        assert_eq!(measure(&bomb), Ok(size("image/png", MAX_SIDE, MAX_SIDE, 1)));
        let largest = jpeg(65_535, 65_535, b"");
        assert_eq!(measure(&largest), Ok(size("image/jpeg", 65_535, 65_535, 1)));
        for file in [jpeg(0, 0, b""), gif(0, 0, 1), b"\xff\xd8\xff\xd9".to_vec()] {
            assert_eq!(measure(&file), Err(Unreadable::NoSize));
        }
        // A piece that claims more than there is.
        let mut endless = png(7, 5);
        endless[33..37].copy_from_slice(&[0xff; 4]);
        assert_eq!(measure(&endless), Err(Unreadable::Incomplete));
        let no_length = b"\xff\xd8\xff\xe0\0\0\xff\xe0\0\0";
        assert_eq!(measure(no_length), Err(Unreadable::Incomplete));
        for other in [
            &b""[..],
            b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
            b"RIFF\0\0\0\0WEBPVP8 ",
            b"%PDF-1.7",
            b"<html>",
            b"BM",
        ] {
            assert_eq!(measure(other), Err(Unreadable::UnknownType));
        }
    }
}

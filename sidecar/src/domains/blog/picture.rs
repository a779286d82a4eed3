//! Image files without their metadata: where and how a picture was made, by whom, and with which prompt.
//!
//! Chunks of PNG and segments of JPEG are kept by a list of those that a picture needs, and so is nothing that comes after its end.
//! The pixels are not read: copying marked pieces needs no decoder, which would have to be trusted with a vendor's bytes.

use crate::image_file::{PNG, png_sides, visit_chunks, visit_segments};

/// What PNG needs to be shown, with the right colours and size.
const CHUNKS: [&[u8]; 13] = [
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT",
    b"bKGD", b"pHYs", b"cICP",
];
/// A side of a picture.
const MAX_SIDE: u32 = 16_384;

/// A picture without metadata.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub content_type: &'static str,
    pub width: u32,
    pub height: u32,
    pub bytes: Vec<u8>,
}

/// Strips a file; `None` if it is no PNG or JPEG, or ends in the middle.
pub(super) fn strip(file: &[u8]) -> Option<Picture> {
    let picture = match file {
        _ if file.starts_with(PNG) => png(file),
        [0xff, 0xd8, ..] => jpeg(file),
        _ => None,
    };
    let sides = 1..=MAX_SIDE;
    picture.filter(|it| sides.contains(&it.width) && sides.contains(&it.height))
}

fn png(file: &[u8]) -> Option<Picture> {
    let (width, height) = png_sides(file)?;
    let mut bytes = PNG.to_vec();
    visit_chunks(file, |kind, chunk| {
        if CHUNKS.contains(&kind) {
            bytes.extend_from_slice(chunk);
        }
    })?;
    Some(Picture {
        content_type: "image/png",
        width,
        height,
        bytes,
    })
}

fn jpeg(file: &[u8]) -> Option<Picture> {
    let (mut bytes, mut sides) = (vec![0xff, 0xd8], None);
    visit_segments(file, |segment| {
        if segment.is_frame() && sides.is_none() {
            sides = Some(segment.sides()?);
        }
        if is_kept(segment.marker, segment.content()) {
            bytes.extend_from_slice(segment.bytes);
        }
        bytes.extend_from_slice(segment.scan);
        Some(())
    })?;
    bytes.extend_from_slice(&[0xff, 0xd9]);
    let (width, height) = sides?;
    Some(Picture {
        content_type: "image/jpeg",
        width,
        height,
        bytes,
    })
}

/// Frames, tables and scans; of the segments of applications JFIF, the colour profile, and Adobe's, which says what the colours are.
fn is_kept(marker: u8, content: &[u8]) -> bool {
    match marker {
        0xc0..=0xcf | 0xda..=0xdd => true,
        0xe0 => content.starts_with(b"JFIF\0"),
        0xe2 => content.starts_with(b"ICC_PROFILE\0"),
        0xee => content.starts_with(b"Adobe"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u32).to_be_bytes();
        [&length[..], kind, content, b"crc!"].concat()
    }

    fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker], &length[..], content].concat()
    }

    /// What it has, and what is taken out of it.
    type Pieces = (Vec<u8>, Vec<u8>);

    fn png() -> Pieces {
        let header = chunk(b"IHDR", b"\0\0\x04\0\0\0\x02\0\x08\x02\0\0\0");
        let wanted = [
            PNG,
            &header,
            &chunk(b"IDAT", b"pixels"),
            &chunk(b"IEND", b""),
        ]
        .concat();
        let file = [
            PNG,
            &header,
            &chunk(b"tEXt", b"prompt\0secret"),
            &chunk(b"eXIf", b"secret"),
            &chunk(b"caBX", b"secret"),
            &chunk(b"IDAT", b"pixels"),
            &chunk(b"tIME", b"secret"),
            &chunk(b"IEND", b""),
            b"secret",
        ];
        (file.concat(), wanted)
    }

    fn jpeg() -> Pieces {
        let jfif = segment(0xe0, b"JFIF\0\x01\x01");
        let frame = segment(0xc2, b"\x08\x02\0\x04\0\x03");
        let scan = [
            segment(0xda, b"\x01"),
            b"\x12\xff\0\x34\xff\xd0\x56".to_vec(),
        ]
        .concat();
        let table = segment(0xc4, b"\xff\xd9");
        let end = vec![0xff, 0xd9];
        let start = vec![0xff, 0xd8];
        let parts = [&start, &jfif, &frame, &scan, &table, &scan, &end];
        let wanted = parts.map(Vec::as_slice).concat();
        let exif = segment(0xe1, b"Exif\0\0secret");
        let comment = segment(0xfe, b"secret");
        let other = segment(0xe2, b"MPF\0secret");
        let trailer = b"\xff\xd8secret".to_vec();
        let parts = [
            &start, &jfif, &exif, &other, &frame, &scan, &comment, &table, &exif, &scan, &end,
            &trailer,
        ];
        (parts.map(Vec::as_slice).concat(), wanted)
    }

    #[test]
    fn only_the_picture_is_left() {
        for ((file, wanted), content_type) in [(png(), "image/png"), (jpeg(), "image/jpeg")] {
            let picture = strip(&file).unwrap();
            assert_eq!(
                (picture.content_type, picture.width, picture.height),
                (content_type, 1_024, 512)
            );
            assert_eq!(picture.bytes, wanted, "{content_type}");
            let text = String::from_utf8_lossy(&picture.bytes).into_owned();
            assert!(!text.contains("secret"));
            assert_eq!(strip(&picture.bytes).unwrap(), picture);
        }
    }

    #[test]
    fn what_ends_in_the_middle_is_no_picture() {
        for (_, whole) in [png(), jpeg()] {
            for length in 0..whole.len() {
                assert_eq!(strip(&whole[..length]), None, "{length}");
            }
        }
        for file in [&b"RIFF\0\0\0\0WEBP"[..], b"<svg/>", b"\xff\xd8\xff\xe1\0\0"] {
            assert_eq!(strip(file), None);
        }
        let huge = chunk(b"IHDR", b"\xff\xff\xff\xff\0\0\0\x01\x08\x02\0\0\0");
        assert_eq!(strip(&[PNG, &huge, &chunk(b"IEND", b"")].concat()), None);
    }
}

//! QR codes, which authenticator apps read their seeds from.

use pgrx::prelude::*;
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};

/// Longer texts than an authenticator's address are refused: the work grows with the length.
const MAX_BYTES: usize = 1024;

/// The text as a QR code in SVG; null when it is too long.
#[pg_extern(immutable, parallel_safe)]
fn qr_svg(text: &str) -> Option<String> {
    render(text)
}

fn render(text: &str) -> Option<String> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    Some(code.render::<svg::Color>().min_dimensions(200, 200).build())
}

#[cfg(test)]
mod render_tests {
    use super::*;

    #[test]
    fn an_address_becomes_an_svg_without_script_or_text_of_it() {
        let svg = render("otpauth://totp/a:b?secret=ABC&x=<script>").expect("it is short");
        assert!(svg.contains("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("script") && !svg.contains("otpauth"));
    }

    #[test]
    fn a_text_that_is_too_long_has_none() {
        assert!(render(&"x".repeat(MAX_BYTES)).is_some());
        assert!(render(&"x".repeat(MAX_BYTES + 1)).is_none());
    }
}

//! Masks what no line of a log may have: keys, tokens, credentials and addresses of people.
//!
//! What is logged is chosen field by field, so nothing of this should ever reach a line. This is the net below: every line of
//! every service passes through it, also one of a library.

use std::{borrow::Cow, io, sync::LazyLock};

use regex::Regex;
use tracing_subscriber::fmt::MakeWriter;

/// What stands instead.
const MASK: &str = "***";

/// No pattern matches a quote or a backslash, so a masked line of JSON is JSON.
static SECRETS: LazyLock<Regex> = LazyLock::new(|| {
    let patterns = [
        // user:password@ of an address
        r"[a-z][a-z0-9+.-]*://[^\s/@\x22\\]+@",
        // headers, and parameters of addresses
        r"\b(?:bearer|basic)\s+[a-z0-9._~+/=-]{8,}",
        r"[?&](?:key|api_?key|access_token|refresh_token|token|token_hash|code|connection_code|ticket|sig|signature|password)=[^\s&#\x22\\]+",
        // signed tokens
        r"\beyj[a-z0-9_-]{8,}(?:\.[a-z0-9_-]*){0,2}",
        // keys by their prefix: ours, and those of vendors
        r"\b(?:kjk|kji|whsec|whsk|sk|pk|rk|ghp|gho|ghr|ghs|ghu|github_pat|glpat|xox[abp])[-_][a-z0-9_-]{16,}",
        // addresses of people
        r"\b[a-z0-9._%+-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)+\b",
    ];
    Regex::new(&format!("(?i){}", patterns.join("|"))).expect("the pattern is valid")
});

/// The text without them.
pub fn mask(text: &str) -> Cow<'_, str> {
    SECRETS.replace_all(text, MASK)
}

/// A log that masks each line. The formatter writes a line by one call.
pub(super) struct Masked<W>(pub(super) W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Masked<W> {
    type Writer = MaskedWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        MaskedWriter(self.0.make_writer())
    }
}

pub(super) struct MaskedWriter<W>(W);

impl<W: io::Write> io::Write for MaskedWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0
            .write_all(mask(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_addresses_are_masked() {
        for (text, secret) in [
            ("key kjk_live_0123456789abcdefghijABCDEFGHIJ", "0123456789"),
            ("invited by kji_0123456789abcdefghij", "0123456789"),
            (
                "signed with whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "MfKQ9",
            ),
            ("Authorization: Bearer abcdefgh12345678", "abcdefgh1234"),
            (
                "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
                "eyJzdWI",
            ),
            ("postgres://kijko:hunter2@127.0.0.1/postgres", "hunter2"),
            ("GET /webhooks/x?token=abc123&n=1", "abc123"),
            ("mail to ada.l+x@example.co.uk was refused", "ada.l"),
            (r#"{"error":"no such user Ada@Example.com"}"#, "Example"),
        ] {
            let masked = mask(text);
            assert!(
                !masked.contains(secret) && masked.contains(MASK),
                "{masked}"
            );
        }
    }

    #[test]
    fn what_finds_a_line_stays() {
        for text in [
            r#"{"request_id":"0b1f9a1c-8f4e-4a53-9c1f-6d2b8f0f7a11","org_id":"91ac0d7e-8f4e-4a53-9c1f-6d2b8f0f7a11"}"#,
            "connected to postgres://127.0.0.1:5432/postgres in 12 ms",
            "kind execution, model openai/gpt-4o, token count 12",
            "sk is short, pk_id, kijko_jobs_total",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    #[test]
    fn a_masked_line_of_json_is_json() {
        let line = serde_json::json!({"a": "Bearer abcdefghijkl", "b": "x@y.example \"quoted\" \\", "c": "?code=1\n"}).to_string();
        let masked: serde_json::Value = serde_json::from_str(&mask(&line)).unwrap();
        assert_eq!(masked["b"], "*** \"quoted\" \\");
        assert_eq!(masked["a"], MASK);
    }
}

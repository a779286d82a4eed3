//! The header `Stripe-Signature`: `t=<seconds>,v1=<hex>[,v1=<hex>…]`, an HMAC-SHA256 of `<t>.<body>`.
//!
//! It uses aws-lc-rs, which TLS brings already and which verifies in constant time. The crates that verify Stripe's signatures
//! come with a whole client and its types.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use kijko_core::secret::Secret;

/// How far the sender's clock and ours may be apart, either way. Stripe's own libraries take five minutes.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// Stripe sends one signature for each active secret of an endpoint, so more are never needed.
const MAX_SIGNATURES: usize = 16;

/// Why a delivery is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No header.
    #[error("the header Stripe-Signature is missing")]
    Missing,
    /// Not `t=…,v1=…`.
    #[error("the header Stripe-Signature is malformed")]
    Malformed,
    /// No signature fits any secret.
    #[error("the signature fits none of the endpoint's secrets")]
    Mismatch,
    /// Authentic, but from another time: a replay, or a clock that is wrong.
    #[error("the signature's timestamp is more than {} seconds away from this server's clock", TOLERANCE.as_secs())]
    OutOfTime,
}

impl Rejection {
    /// The label's value in the metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "signature_missing",
            Self::Malformed => "signature_malformed",
            Self::Mismatch => "signature_mismatch",
            Self::OutOfTime => "timestamp",
        }
    }
}

/// Accepts the body if one of the signatures was made with one of the secrets, now. The order of either does not matter.
pub fn verify(
    header: Option<&str>,
    body: &[u8],
    secrets: &[Secret],
    now: SystemTime,
) -> Result<(), Rejection> {
    let header = parse(header.ok_or(Rejection::Missing)?).ok_or(Rejection::Malformed)?;
    let signed = [header.timestamp.as_bytes(), b".", body].concat();
    let authentic = secrets.iter().any(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        header
            .signatures
            .iter()
            .any(|signature| hmac::verify(&key, &signed, signature).is_ok())
    });
    // The clock is looked at last: only an authentic sender learns about it.
    if !authentic {
        Err(Rejection::Mismatch)
    } else if is_current(header.seconds, now) {
        Ok(())
    } else {
        Err(Rejection::OutOfTime)
    }
}

struct Header<'a> {
    /// As it was sent, since that is what was signed.
    timestamp: &'a str,
    seconds: u64,
    signatures: Vec<[u8; 32]>,
}

/// Other schemes (`v0` in test mode) are ignored, so that a downgrade to them is impossible.
fn parse(header: &str) -> Option<Header<'_>> {
    let (mut timestamp, mut signatures) = (None, Vec::new());
    for part in header.split(',') {
        match part.trim().split_once('=')? {
            ("t", value) if timestamp.is_none() => timestamp = Some(value),
            ("t", _) => return None,
            // A signature that is not 64 hex digits cannot fit.
            ("v1", value) => signatures.extend(unhex(value)),
            _ => {}
        }
        if signatures.len() > MAX_SIGNATURES {
            return None;
        }
    }
    let timestamp = timestamp?;
    let digits = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = timestamp.parse().ok().filter(|_| digits)?;
    Some(Header {
        timestamp,
        seconds,
        signatures,
    })
}

/// The 32 bytes of 64 hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(bytes)
}

pub(crate) fn is_current(seconds: u64, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    now.abs_diff(seconds) <= TOLERANCE.as_secs()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"evt_1"}"#;
    const NOW: u64 = 1_800_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn secrets(names: &[&str]) -> Vec<Secret> {
        names.iter().map(|name| Secret::new(*name)).collect()
    }

    fn v1(secret: &str, timestamp: &str, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, &[timestamp.as_bytes(), b".", body].concat());
        tag.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The header of a delivery that is signed at this time.
    pub(in super::super) fn sign(secret: &str, timestamp: u64, body: &[u8]) -> String {
        let timestamp = timestamp.to_string();
        format!("t={timestamp},v1={}", v1(secret, &timestamp, body))
    }

    fn header(secret: &str, timestamp: u64) -> String {
        sign(secret, timestamp, BODY)
    }

    fn check(header: &str, names: &[&str], now: u64) -> Result<(), Rejection> {
        verify(Some(header), BODY, &secrets(names), at(now))
    }

    /// Made with Python's hmac module, so that signing and verifying cannot agree on the same mistake.
    #[test]
    fn a_signature_made_elsewhere_fits() {
        let header =
            "t=1800000000,v1=45705be2a45ab5acdd1395cc695e9e7073125385ec24194921c401dff44176f8";
        assert_eq!(check(header, &["whsec_test"], NOW), Ok(()));
    }

    #[test]
    fn any_of_several_secrets_fits_in_any_order() {
        let header = header("whsec_new", NOW);
        assert_eq!(check(&header, &["whsec_old", "whsec_new"], NOW), Ok(()));
        assert_eq!(check(&header, &["whsec_new", "whsec_old"], NOW), Ok(()));
        assert_eq!(
            check(&header, &["whsec_old"], NOW),
            Err(Rejection::Mismatch)
        );
        assert_eq!(check(&header, &[], NOW), Err(Rejection::Mismatch));
    }

    #[test]
    fn any_of_several_signatures_fits_and_other_schemes_do_not_count() {
        let good = v1("whsec_a", "1800000000", BODY);
        let bad = v1("whsec_b", "1800000000", BODY);
        for header in [
            format!("t={NOW},v1={bad},v1={good}"),
            format!("v1={good},v1={bad},t={NOW}"),
            format!("t={NOW}, v1={good}, v0={bad}"),
        ] {
            assert_eq!(check(&header, &["whsec_a"], NOW), Ok(()), "{header}");
        }
        let downgraded = format!("t={NOW},v0={good}");
        assert_eq!(
            check(&downgraded, &["whsec_a"], NOW),
            Err(Rejection::Mismatch)
        );
    }

    #[test]
    fn clocks_may_differ_by_the_tolerance_either_way_and_no_more() {
        let header = header("whsec_a", NOW);
        for (now, expected) in [
            (NOW - 300, Ok(())),
            (NOW + 300, Ok(())),
            (NOW - 301, Err(Rejection::OutOfTime)),
            (NOW + 301, Err(Rejection::OutOfTime)),
        ] {
            assert_eq!(check(&header, &["whsec_a"], now), expected, "{now}");
        }
    }

    /// A sender without the secret must not learn this server's clock offset.
    #[test]
    fn a_forged_signature_is_refused_as_forged_however_old_it_is() {
        let header = header("whsec_forged", NOW);
        for now in [NOW, NOW - 301, NOW + 301, 0] {
            let refused = check(&header, &["whsec_a"], now);
            assert_eq!(refused, Err(Rejection::Mismatch), "{now}");
        }
    }

    #[test]
    fn a_changed_body_or_timestamp_does_not_fit() {
        let good = header("whsec_a", NOW);
        let changed = verify(Some(&good), b"{}", &secrets(&["whsec_a"]), at(NOW));
        assert_eq!(changed, Err(Rejection::Mismatch));
        let moved = good.replace("t=1800000000", "t=1800000001");
        assert_eq!(check(&moved, &["whsec_a"], NOW), Err(Rejection::Mismatch));
    }

    #[test]
    fn a_timestamp_is_signed_as_it_was_written() {
        let header = format!("t=01800000000,v1={}", v1("whsec_a", "01800000000", BODY));
        assert_eq!(check(&header, &["whsec_a"], NOW), Ok(()));
    }

    #[test]
    fn headers_that_make_no_sense_are_malformed() {
        let signature = v1("whsec_a", "1800000000", BODY);
        let many = format!("t={NOW}{}", format!(",v1={signature}").repeat(17));
        for header in [
            "",
            "nonsense",
            "t=",
            "t=abc,v1=00",
            "t=-1,v1=00",
            "t=+1,v1=00",
            "v1=00",
            "t=1,t=2,v1=00",
            "t=99999999999999999999,v1=00",
            &many,
        ] {
            assert_eq!(
                check(header, &["whsec_a"], NOW),
                Err(Rejection::Malformed),
                "{header}"
            );
        }
        assert_eq!(
            verify(None, BODY, &secrets(&["whsec_a"]), at(NOW)),
            Err(Rejection::Missing)
        );
        for header in [
            format!("t={NOW}"),
            format!("t={NOW},v1=zz"),
            format!("t={NOW},v1={}", "z".repeat(64)),
        ] {
            assert_eq!(
                check(&header, &["whsec_a"], NOW),
                Err(Rejection::Mismatch),
                "{header}"
            );
        }
    }
}

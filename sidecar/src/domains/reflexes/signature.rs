//! How a request to a reflex proves who sent it.
//!
//! Every comparison takes constant time. The clock is looked at last: only an authentic sender learns about it.

use std::time::SystemTime;

use aws_lc_rs::hmac;
use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use kijko_core::secret::Secret;

use crate::stripe_signature::{self as stripe, is_current, unhex};

/// A sender signs once for each active secret, so more are never needed.
const MAX_SIGNATURES: usize = 16;

/// One of the reflex's five ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verification {
    /// `webhook-id`, `webhook-timestamp` and `webhook-signature`, as standardwebhooks.com says.
    StandardWebhooks,
    /// `X-Hub-Signature-256: sha256=<hex>`.
    Github,
    /// `Stripe-Signature: t=<seconds>,v1=<hex>`.
    Stripe,
    /// An HMAC-SHA256 of the body in this header, in hex or base64.
    Hmac { header: String },
    /// `Authorization: Bearer <secret>`.
    Bearer,
}

impl Verification {
    /// By the reflex's columns; `None` for a name that this build does not know.
    pub(super) fn new(name: &str, header: String) -> Option<Self> {
        Some(match name {
            "standard_webhooks" => Self::StandardWebhooks,
            "github" => Self::Github,
            "stripe" => Self::Stripe,
            "hmac" => Self::Hmac { header },
            "bearer" => Self::Bearer,
            _ => return None,
        })
    }
}

/// Why a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejection {
    /// Nothing proves the sender, or there is no such reflex.
    Mismatch,
    /// Authentic, but from another time: a replay, or a clock that is wrong.
    OutOfTime,
}

impl Rejection {
    /// The label's value in the metrics.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Mismatch => "signature",
            Self::OutOfTime => "timestamp",
        }
    }
}

/// Accepts the request if one of the secrets has made its signature, now.
pub(super) fn verify(
    verification: &Verification,
    headers: &HeaderMap,
    body: &[u8],
    secrets: &[Secret],
    now: SystemTime,
) -> Result<(), Rejection> {
    match verification {
        Verification::StandardWebhooks => standard_webhooks(headers, body, secrets, now),
        Verification::Stripe => {
            stripe::verify(text(headers, "stripe-signature"), body, secrets, now).map_err(
                |rejection| match rejection {
                    stripe::Rejection::OutOfTime => Rejection::OutOfTime,
                    _ => Rejection::Mismatch,
                },
            )
        }
        Verification::Github => of_body(text(headers, "x-hub-signature-256"), body, secrets),
        Verification::Hmac { header } => of_body(text(headers, header), body, secrets),
        Verification::Bearer => bearer(headers, secrets),
    }
}

/// What a request to an unknown reflex costs, so that the answer does not come sooner.
pub(super) fn decoy(body: &[u8]) -> Rejection {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"decoy");
    let _ = hmac::verify(&key, body, &[0; 32]);
    Rejection::Mismatch
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn fits(secret: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::verify(&key, signed, signature).is_ok()
}

fn standard_webhooks(
    headers: &HeaderMap,
    body: &[u8],
    secrets: &[Secret],
    now: SystemTime,
) -> Result<(), Rejection> {
    let part = |name| text(headers, name).ok_or(Rejection::Mismatch);
    let (id, timestamp, signatures) = (
        part("webhook-id")?,
        part("webhook-timestamp")?,
        part("webhook-signature")?,
    );
    let signatures: Vec<Vec<u8>> = signatures
        .split(' ')
        .take(MAX_SIGNATURES)
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .collect();
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let authentic = secrets.iter().any(|secret| {
        let secret = secret.expose();
        let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
        STANDARD.decode(encoded).is_ok_and(|key| {
            signatures
                .iter()
                .any(|signature| fits(&key, &signed, signature))
        })
    });
    if !authentic {
        return Err(Rejection::Mismatch);
    }
    let digits = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    match timestamp.parse().ok().filter(|_| digits) {
        Some(seconds) if is_current(seconds, now) => Ok(()),
        _ => Err(Rejection::OutOfTime),
    }
}

/// An HMAC of the body alone: hex or base64, after `sha256=` if the sender writes that.
fn of_body(header: Option<&str>, body: &[u8], secrets: &[Secret]) -> Result<(), Rejection> {
    let signature = header.ok_or(Rejection::Mismatch)?.trim();
    let signature = signature.strip_prefix("sha256=").unwrap_or(signature);
    let signature = match unhex(signature) {
        Some(bytes) => bytes.to_vec(),
        None => STANDARD
            .decode(signature)
            .map_err(|_| Rejection::Mismatch)?,
    };
    let authentic = secrets
        .iter()
        .any(|secret| fits(secret.expose().as_bytes(), body, &signature));
    authentic.then_some(()).ok_or(Rejection::Mismatch)
}

/// Both are hashed under one key before they are compared, so that neither contents nor length show in the time it takes.
fn bearer(headers: &HeaderMap, secrets: &[Secret]) -> Result<(), Rejection> {
    let header = text(headers, header::AUTHORIZATION.as_str()).ok_or(Rejection::Mismatch)?;
    let token = match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => return Err(Rejection::Mismatch),
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"compare");
    let given = hmac::sign(&key, token.as_bytes());
    let authentic = secrets
        .iter()
        .any(|secret| hmac::verify(&key, secret.expose().as_bytes(), given.as_ref()).is_ok());
    authentic.then_some(()).ok_or(Rejection::Mismatch)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const BODY: &[u8] = br#"{"type":"a"}"#;
    const NOW: u64 = 1_800_000_000;

    fn secrets() -> Vec<Secret> {
        [
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
            "former",
        ]
        .map(Secret::new)
        .to_vec()
    }

    fn tag(secret: &[u8], signed: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::sign(&key, signed).as_ref().to_vec()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn check(verification: Verification, headers: &[(&str, &str)]) -> Result<(), Rejection> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                name.parse::<header::HeaderName>().unwrap(),
                value.parse().unwrap(),
            );
        }
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        verify(&verification, &map, BODY, &secrets(), now)
    }

    fn standard(id: &str, seconds: u64, signature: &str) -> Result<(), Rejection> {
        check(
            Verification::StandardWebhooks,
            &[
                ("webhook-id", id),
                ("webhook-timestamp", &seconds.to_string()),
                ("webhook-signature", signature),
            ],
        )
    }

    fn v1(seconds: u64) -> String {
        let key: Vec<u8> = (0..32).collect();
        let signed = [format!("msg_1.{seconds}.").as_bytes(), BODY].concat();
        format!("v1,{}", STANDARD.encode(tag(&key, &signed)))
    }

    #[test]
    fn standard_webhooks_sign_id_time_and_body() {
        assert_eq!(standard("msg_1", NOW, &v1(NOW)), Ok(()));
        assert_eq!(
            standard("msg_1", NOW, &format!("v1,AAAA v2,x {}", v1(NOW))),
            Ok(())
        );
        assert_eq!(standard("msg_2", NOW, &v1(NOW)), Err(Rejection::Mismatch));
        assert_eq!(
            standard("msg_1", NOW, &v1(NOW + 1)),
            Err(Rejection::Mismatch)
        );
        assert_eq!(standard("msg_1", NOW, "v1,"), Err(Rejection::Mismatch));
        assert_eq!(
            standard("msg_1", NOW - 301, &v1(NOW - 301)),
            Err(Rejection::OutOfTime)
        );
        assert_eq!(
            standard("msg_1", NOW + 301, &v1(NOW + 301)),
            Err(Rejection::OutOfTime)
        );
        assert_eq!(
            check(Verification::StandardWebhooks, &[]),
            Err(Rejection::Mismatch)
        );
    }

    #[test]
    fn an_old_forgery_is_a_forgery() {
        assert_eq!(standard("msg_2", 1, &v1(1)), Err(Rejection::Mismatch));
    }

    #[test]
    fn github_signs_the_body_by_either_secret() {
        let github = |value: &str| check(Verification::Github, &[("x-hub-signature-256", value)]);
        assert_eq!(
            github(&format!("sha256={}", hex(&tag(b"former", BODY)))),
            Ok(())
        );
        assert_eq!(
            github(&format!("sha256={}", hex(&tag(b"stranger", BODY)))),
            Err(Rejection::Mismatch)
        );
        for nonsense in ["", "sha256=", "sha1=00", "é", &"0".repeat(64)] {
            let value = nonsense.replace('é', "e");
            assert_eq!(github(&value), Err(Rejection::Mismatch), "{nonsense}");
        }
    }

    #[test]
    fn a_plain_hmac_is_hex_or_base64_in_any_header() {
        let plain = |value: &str| {
            let verification = Verification::Hmac {
                header: "X-Shop-Hmac".into(),
            };
            check(verification, &[("x-shop-hmac", value)])
        };
        let tag = tag(b"former", BODY);
        assert_eq!(plain(&hex(&tag)), Ok(()));
        assert_eq!(plain(&hex(&tag).to_uppercase()), Ok(()));
        assert_eq!(plain(&STANDARD.encode(&tag)), Ok(()));
        assert_eq!(
            plain(&STANDARD.encode(&tag[..31])),
            Err(Rejection::Mismatch)
        );
    }

    #[test]
    fn a_bearer_is_the_whole_secret() {
        let bearer = |value: &str| check(Verification::Bearer, &[("authorization", value)]);
        assert_eq!(bearer("Bearer former"), Ok(()));
        assert_eq!(bearer("bearer former"), Ok(()));
        for wrong in [
            "former",
            "Basic former",
            "Bearer forme",
            "Bearer former2",
            "Bearer ",
        ] {
            assert_eq!(bearer(wrong), Err(Rejection::Mismatch), "{wrong}");
        }
    }

    #[test]
    fn without_secrets_nothing_fits() {
        let map = HeaderMap::new();
        for verification in [
            Verification::Github,
            Verification::Bearer,
            Verification::Stripe,
        ] {
            let verified = verify(&verification, &map, BODY, &[], SystemTime::now());
            assert_eq!(verified, Err(Rejection::Mismatch));
        }
    }
}

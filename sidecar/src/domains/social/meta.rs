//! What the Graph APIs of Facebook and Instagram share: their errors.

use std::time::Duration;

use super::{
    failure::{Class, Failure, Refusal, by_status, is_failure, unknown},
    http::Reply,
};

/// The account is not there any more, or not for this token.
pub(super) const ACCOUNT_MISSING: &str = "account_missing";

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Codes and subcodes by class. Facebook: https://developers.facebook.com/docs/graph-api/guides/error-handling. Instagram:
/// https://developers.facebook.com/docs/instagram-platform/instagram-graph-api/reference/error-codes
const REAUTHORIZE: [u64; 8] = [102, 190, 458, 460, 463, 467, 490, 1_404_078];
/// What is asked for is not there, or not for this token.
const MISSING: [u64; 1] = [33];
const QUOTA: [u64; 7] = [4, 17, 32, 341, 613, 1_390_008, 80_002];
const DAILY: [u64; 1] = [2_207_042];
const TRANSIENT: [u64; 7] = [
    9_007, 2_207_003, 2_207_020, 2_207_027, 2_207_032, 2_207_053, 2_207_082,
];
const DUPLICATE: [u64; 1] = [506];

/// The answer, unless it is an error.
pub(super) fn checked(reply: Reply) -> Result<Reply, Failure> {
    if reply.is_success() && reply.body["error"].is_null() {
        return Ok(reply);
    }
    // Whatever its code says, the server has failed: nobody knows how far it had got.
    if is_failure(&reply) {
        return Err(unknown(&reply));
    }
    let code = |pointer: &str| {
        reply
            .body
            .pointer(pointer)
            .and_then(serde_json::Value::as_u64)
    };
    let codes = [code("/error/error_subcode"), code("/error/code")];
    let is_of = |class: &[u64]| codes.iter().flatten().any(|it| class.contains(it));
    if is_of(&REAUTHORIZE) {
        return Err(Refusal::of(&reply, Class::Reauthorize, "token_refused").into());
    }
    if is_of(&MISSING) {
        return Err(Refusal::of(&reply, Class::Reauthorize, ACCOUNT_MISSING).into());
    }
    if is_of(&DAILY) {
        return Err(Refusal::of(&reply, Class::Quota, "platform_quota")
            .after(DAY)
            .into());
    }
    if is_of(&QUOTA) {
        return Err(Refusal::of(&reply, Class::Quota, "platform_quota")
            .after(HOUR)
            .into());
    }
    if is_of(&TRANSIENT) {
        return Err(Refusal::of(&reply, Class::Transient, "platform_busy").into());
    }
    if is_of(&DUPLICATE) {
        return Err(Refusal::of(&reply, Class::Permanent, "duplicate_content").into());
    }
    if let Some(failure) = by_status(&reply) {
        return Err(failure);
    }
    match codes[1] {
        // "An unknown error", and an answer that is none of theirs.
        Some(1 | 2) | None => Err(unknown(&reply)),
        Some(_) => Err(Refusal::of(&reply, Class::Permanent, "content_refused").into()),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;
    use serde_json::json;

    use super::*;

    fn class(status: u16, code: u64, subcode: u64) -> Option<Class> {
        let reply = Reply {
            status,
            headers: HeaderMap::new(),
            bytes: Vec::new(),
            body: json!({"error": {"message": "x", "code": code, "error_subcode": subcode}}),
        };
        match checked(reply) {
            Err(Failure::Refused(refusal)) => Some(refusal.class),
            Err(Failure::Unknown(_)) => None,
            Ok(_) => panic!("{status} {code} {subcode}"),
        }
    }

    #[test]
    fn codes_are_states() {
        for (status, code, subcode, expected) in [
            (400, 190, 0, Some(Class::Reauthorize)),
            (400, 100, 1_404_078, Some(Class::Reauthorize)),
            (401, 0, 0, Some(Class::Reauthorize)),
            (400, 100, 1_390_008, Some(Class::Quota)),
            (403, 4, 2_207_042, Some(Class::Quota)),
            (403, 4, 0, Some(Class::Quota)),
            (400, 9_007, 2_207_027, Some(Class::Transient)),
            (400, 100, 2_207_082, Some(Class::Transient)),
            (400, 100, 33, Some(Class::Reauthorize)),
            (400, 36_003, 2_207_009, Some(Class::Permanent)),
            (400, 506, 0, Some(Class::Permanent)),
            (400, 368, 1_346_003, Some(Class::Permanent)),
            // It may have been published all the same.
            (500, 1, 0, None),
            (400, 2, 0, None),
            (502, 100, 0, None),
            (500, 9_007, 2_207_032, None),
            (503, 4, 2_207_042, None),
            (500, 190, 0, None),
        ] {
            assert_eq!(
                class(status, code, subcode),
                expected,
                "{status} {code} {subcode}"
            );
        }
    }
}

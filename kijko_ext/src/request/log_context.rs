//! Whose request a line of the server's log is about: `request_id=… user_id=… org_id=… api_key_id=…`, those that are known.
//!
//! It goes into the line's DETAIL for the log alone (`detail_log`), so clients do not get it. Only ids are written, never a
//! value of the client's own: a request id with other characters than those of ids is left out. A line that is not written costs
//! nothing. Postgres may be handling an error: nothing here fails, reads a catalog, or waits for a borrowed cache.

use std::ffi::CStr;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pgrx::pg_sys;
use serde_json::{Map, Value};

use super::membership_cache;
use crate::api_key::record::ApiKey;
use crate::claims::{parse_uuid, uuid_claim};
use crate::guc::api_keys;
use crate::pg::setting;

/// The same limit as in the proxy and the services.
const MAX_REQUEST_ID: usize = 128;

/// Adds the ids to the DETAIL that only the log gets.
///
/// # Safety
/// Called by the log's hook, whose memory context is that of the error.
pub unsafe fn add(error: &mut pg_sys::ErrorData, is_trusted: bool) {
    let Ok(Some(context)) = catch_unwind(AssertUnwindSafe(|| of_request(is_trusted))) else {
        return;
    };
    // SAFETY: strings of the error's. Postgres frees detail_log as memory of its own.
    unsafe {
        let known = match error.detail_log.is_null() {
            true => error.detail,
            false => error.detail_log,
        };
        let known = match known.is_null() {
            true => &[][..],
            false => CStr::from_ptr(known).to_bytes(),
        };
        let separator = if known.is_empty() { "" } else { "\n" };
        let length = known.len() + separator.len() + context.len() + 1;
        let text = pg_sys::palloc_extended(length, pg_sys::MCXT_ALLOC_NO_OOM as i32).cast::<u8>();
        if text.is_null() {
            return;
        }
        let mut end = text;
        for part in [known, separator.as_bytes(), context.as_bytes(), b"\0"] {
            std::ptr::copy_nonoverlapping(part.as_ptr(), end, part.len());
            end = end.add(part.len());
        }
        error.detail_log = text.cast();
    }
}

/// None if no id is known. Claims count in trusted sessions only.
fn of_request(is_trusted: bool) -> Option<String> {
    let headers = object(setting::REQUEST_HEADERS.with(<[u8]>::to_vec));
    let claims = match is_trusted {
        true => object(setting::CLAIMS.with(<[u8]>::to_vec)),
        false => Map::new(),
    };
    let key = api_keys::calling_key().and_then(ApiKey::from_text);
    describe(
        &headers,
        &claims,
        key.as_ref(),
        membership_cache::last_known,
    )
}

fn object(text: Option<Vec<u8>>) -> Map<String, Value> {
    text.and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

type Uuid = [u8; 16];

fn describe(
    headers: &Map<String, Value>,
    claims: &Map<String, Value>,
    key: Option<&ApiKey>,
    admitted: impl FnOnce(&Uuid, Option<Uuid>, bool) -> Option<Uuid>,
) -> Option<String> {
    let header = |name| headers.get(name).and_then(Value::as_str);
    let request_id = header("x-request-id").filter(|id| is_id(id));
    let user = match key {
        Some(key) => key.owner,
        None => uuid_claim(claims, "sub"),
    };
    let organization = match (key, &user) {
        (Some(key), _) => Some(key.organization),
        (None, Some(user)) => {
            let named = header("x-org-id").filter(|named| !named.is_empty());
            let wanted = match named {
                Some(named) => parse_uuid(named),
                None => uuid_claim(claims, "org_id"),
            };
            let level = claims.get("aal").and_then(Value::as_str);
            admitted(user, wanted, matches!(level, Some("aal2" | "aal3")))
        }
        (None, None) => None,
    };
    let mut text = String::new();
    if let Some(id) = request_id {
        _ = write!(text, "request_id={id} ");
    }
    for (name, id) in [
        ("user_id", user),
        ("org_id", organization),
        ("api_key_id", key.map(|key| key.id)),
    ] {
        if let Some(id) = id {
            _ = write!(text, "{name}={} ", pgrx::Uuid::from_bytes(id));
        }
    }
    text.pop().map(|_| text)
}

pub(super) fn is_id(text: &str) -> bool {
    let is_of_ids =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    (1..=MAX_REQUEST_ID).contains(&text.len()) && text.bytes().all(is_of_ids)
}

#[cfg(test)]
mod unit {
    use serde_json::json;

    use super::*;
    use crate::api_key::record::Kind;

    const USER: &str = "00000000-0000-0000-0000-000000000001";
    const ORG: &str = "00000000-0000-0000-0000-000000000002";
    const KEY: &str = "00000000-0000-0000-0000-000000000003";

    fn id(text: &str) -> Uuid {
        parse_uuid(text).unwrap()
    }

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_users_line_has_the_organization_that_admitted_the_request() {
        let headers = map(json!({"x-request-id": "abc-1", "x-org-id": ORG}));
        let claims = map(json!({"sub": USER, "aal": "aal2", "email": "a@example.com"}));
        let admitted = |user: &Uuid, wanted: Option<Uuid>, second| {
            assert_eq!((*user, wanted, second), (id(USER), Some(id(ORG)), true));
            wanted
        };
        let text = format!("request_id=abc-1 user_id={USER} org_id={ORG}");
        assert_eq!(describe(&headers, &claims, None, admitted), Some(text));
        let text = format!("request_id=abc-1 user_id={USER}");
        assert_eq!(
            describe(&headers, &claims, None, |_, _, _| None),
            Some(text),
            "one that did not is not there"
        );
    }

    #[test]
    fn a_keys_line_has_the_key_and_its_organization() {
        let key = ApiKey {
            id: id(KEY),
            organization: id(ORG),
            kind: Kind::Service,
            owner: None,
            permissions: vec![],
            rate_limit: None,
        };
        let none = Map::new();
        let text = format!("org_id={ORG} api_key_id={KEY}");
        assert_eq!(
            describe(&none, &none, Some(&key), |_, _, _| None),
            Some(text)
        );
    }

    #[test]
    fn what_a_client_makes_up_is_not_there() {
        let long = "a".repeat(129);
        for request_id in ["", "a b", "a\nLOG:  forged", "é", "a=b", long.as_str()] {
            let headers = map(json!({"x-request-id": request_id, "x-org-id": "x"}));
            let claims = map(json!({"sub": "a@example.com"}));
            assert_eq!(describe(&headers, &claims, None, |_, _, _| None), None);
        }
    }
}

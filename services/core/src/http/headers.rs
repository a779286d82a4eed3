//! Header fields of a request in the form in which the database gets them.

use axum::http::{HeaderMap, header::AUTHORIZATION};
use serde_json::{Map, Value};

/// All values of a field as one list (RFC 9110, section 5.3); PostgREST 12.0.2 passes on the last one only. None if the field is absent.
/// No value is dropped: without it, the request would mean another organization or caller. U+FFFD stands for what is not UTF-8, as Caddy
/// writes it, and the database refuses a request that has one.
pub fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<_> = headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// Those of the named fields that the request has, by name.
pub fn selected(headers: &HeaderMap, names: &[&str]) -> Map<String, Value> {
    names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), joined(headers, name)?.into())))
        .collect()
}

/// The token of a request, whatever its characters: a request with a wrong token is not one without. Keys of other kinds come beside the
/// one that counts.
pub fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = String::from_utf8_lossy(headers.get(AUTHORIZATION)?.as_bytes());
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.starts_with("sb_"))
        .then(|| token.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn repeated_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        assert_eq!(joined(&headers, "x-forwarded-for"), None);
        headers.append(
            "x-forwarded-for",
            HeaderValue::from_static("1.2.3.4, 5.6.7.8"),
        );
        headers.append("x-forwarded-for", HeaderValue::from_static("9.9.9.9"));
        let expected = Some("1.2.3.4, 5.6.7.8,9.9.9.9");
        assert_eq!(joined(&headers, "x-forwarded-for").as_deref(), expected);
    }

    #[test]
    fn a_value_that_is_not_ascii_is_kept() {
        let cases: [(&[u8], &str); 3] = [
            (b"id\xc3\xa9", "id\u{e9}"),
            (b"id\xe9", "id\u{fffd}"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
        ];
        for (value, kept) in cases {
            let mut headers = HeaderMap::new();
            headers.append("x-org-id", HeaderValue::from_bytes(value).unwrap());
            assert_eq!(joined(&headers, "x-org-id").as_deref(), Some(kept));
            assert_eq!(selected(&headers, &["x-org-id"])["x-org-id"], kept);
            let token = [&b"Bearer "[..], value].concat();
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(&token).unwrap());
            assert_eq!(bearer(&headers).as_deref(), Some(kept));
        }
    }

    #[test]
    fn a_token_is_a_bearers_and_no_other_key() {
        for (value, token) in [
            ("Bearer a.b.c", Some("a.b.c")),
            ("bearer  a.b.c ", Some("a.b.c")),
            ("Bearer sb_publishable_a", None),
            ("Basic YTpi", None),
            ("Bearer", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            assert_eq!(bearer(&headers).as_deref(), token, "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn only_the_named_fields_are_selected() {
        let mut headers = HeaderMap::new();
        headers.append("origin", HeaderValue::from_static("https://app.example"));
        headers.append("cookie", HeaderValue::from_static("secret"));
        let found = Value::from(selected(&headers, &["origin", "user-agent"]));
        assert_eq!(
            found,
            serde_json::json!({ "origin": "https://app.example" })
        );
    }
}

//! What of a request is passed on. Pure, except for the body.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, header},
};
use futures_util::{StreamExt, stream};
use reqwest::Url;

/// They are about one connection (RFC 9110, section 7.6.1), and so is each that `Connection` names.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What identifies the caller here, the assertion says there. The rest is the connection's, or can be claimed by anybody:
/// `X-Forwarded-*` is the proxy's and stays.
const KEPT_HERE: [&str; 10] = [
    "authorization",
    "apikey",
    "x-api-key",
    "cookie",
    "x-org-id",
    "host",
    "content-length",
    "expect",
    "forwarded",
    "x-real-ip",
];

/// Name and the rest of a path behind `/functions/v1/`, both as they were sent.
pub(super) fn split(path: &str) -> (&str, &str) {
    let path = path.strip_prefix("/functions/v1/").unwrap_or_default();
    path.split_at(path.find('/').unwrap_or(path.len()))
}

/// The address of the function with the rest of the path and the query. `None` when the rest would lead elsewhere: a URL resolves
/// `..`, also encoded, and reads `\` as `/`.
pub(super) fn target(mut url: Url, rest: &str, query: Option<&str>) -> Option<Url> {
    let path = match url.path() {
        "/" if !rest.is_empty() => rest.to_owned(),
        base => format!("{base}{rest}"),
    };
    url.set_path(&path);
    url.set_query(query);
    (url.path() == path).then_some(url)
}

/// The headers, with the assertion in the place of the caller's own.
pub(super) fn headers(from: &HeaderMap, assertion: &str) -> Option<HeaderMap> {
    let mut kept = without_hop_by_hop(from);
    for name in KEPT_HERE {
        kept.remove(name);
    }
    let ours: Vec<_> = kept
        .keys()
        .filter(|name| name.as_str().starts_with("x-kijko-"))
        .cloned()
        .collect();
    for name in ours {
        kept.remove(name);
    }
    let mut bearer = HeaderValue::from_str(&format!("Bearer {assertion}")).ok()?;
    bearer.set_sensitive(true);
    kept.insert(header::AUTHORIZATION, bearer);
    Some(kept)
}

/// All headers but those of the connection.
pub(super) fn without_hop_by_hop(from: &HeaderMap) -> HeaderMap {
    let named = from.get_all(header::CONNECTION).iter();
    let named: Vec<HeaderName> = named
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let mut kept = from.clone();
    for name in named {
        kept.remove(name);
    }
    for name in HOP_BY_HOP {
        kept.remove(name);
    }
    kept
}

/// The length that a request's body declares.
pub(super) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Whether a request has a body.
pub(super) fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || declared_length(headers).is_some_and(|it| it > 0)
}

/// A body that is passed on as it comes. It breaks off beyond `limit` and says so; what is left of it is let go at once.
pub(super) fn body(from: Body, limit: usize) -> (reqwest::Body, Arc<AtomicBool>) {
    let too_large = Arc::new(AtomicBool::new(false));
    let over = too_large.clone();
    let parts = stream::try_unfold((from.into_data_stream(), 0), move |(mut parts, seen)| {
        let over = over.clone();
        async move {
            let Some(part) = parts.next().await else {
                return Ok(None);
            };
            let part: Bytes = part.map_err(std::io::Error::other)?;
            let seen = seen + part.len();
            if seen > limit {
                over.store(true, Ordering::Relaxed);
                return Err(std::io::Error::other("the body is too large"));
            }
            Ok(Some((part, (parts, seen))))
        }
    });
    (reqwest::Body::wrap_stream(parts), too_large)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_path_is_a_name_and_the_rest() {
        for (path, expected) in [
            ("/functions/v1/a", ("a", "")),
            ("/functions/v1/a/", ("a", "/")),
            ("/functions/v1/a/b/c", ("a", "/b/c")),
            ("/functions/v1//b", ("", "/b")),
            ("/functions/v1/a%2Fb", ("a%2Fb", "")),
        ] {
            assert_eq!(split(path), expected, "{path}");
        }
    }

    #[test]
    fn the_rest_is_appended_and_leads_nowhere_else() {
        let to = |base: &str, rest, query| {
            target(base.parse().unwrap(), rest, query).map(|url| url.to_string())
        };
        let base = "https://fn.example/a";
        assert_eq!(to(base, "", None).unwrap(), "https://fn.example/a");
        assert_eq!(
            to(base, "/b%2Fc/", Some("x=1&y=%2e")).unwrap(),
            "https://fn.example/a/b%2Fc/?x=1&y=%2e"
        );
        assert_eq!(
            to("https://fn.example", "/b", None).unwrap(),
            "https://fn.example/b"
        );
        assert_eq!(
            to("https://fn.example", "", None).unwrap(),
            "https://fn.example/"
        );
        assert_eq!(
            to(base, "//evil.example/b", None).unwrap(),
            "https://fn.example/a//evil.example/b"
        );
        assert_eq!(
            to("https://fn.example", "//evil.example", None).unwrap(),
            "https://fn.example//evil.example"
        );
        for rest in [
            "/..",
            "/../b",
            "/%2e%2e/b",
            "/.%2E",
            "/b/./c",
            "/b\\..\\c",
            "/b/../../c",
            "/\tb",
        ] {
            assert_eq!(to(base, rest, None), None, "{rest}");
        }
    }

    #[test]
    fn the_callers_credentials_stay_here() {
        let sent = headers(
            &map(&[
                ("authorization", "Bearer user"),
                ("apikey", "kjk_live_x"),
                ("x-api-key", "kjk_live_x"),
                ("cookie", "sb-127-auth-token=user"),
                ("x-org-id", "o"),
                ("x-kijko-uri", "/x"),
                ("x-kijko-outside", "user"),
                ("connection", "close, X-Hop"),
                ("x-hop", "1"),
                ("proxy-authorization", "user"),
                ("upgrade", "websocket"),
                ("te", "trailers"),
                ("host", "api.example"),
                ("content-length", "3"),
                ("x-real-ip", "10.0.0.1"),
                ("forwarded", "for=10.0.0.1"),
                ("x-forwarded-for", "1.2.3.4"),
                ("content-type", "text/plain"),
                ("x-own", "1"),
            ]),
            "assertion",
        )
        .unwrap();
        let mut lines: Vec<_> = sent
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "authorization: Bearer assertion",
                "content-type: text/plain",
                "x-forwarded-for: 1.2.3.4",
                "x-own: 1"
            ]
        );
    }

    #[test]
    fn a_request_without_a_body_gets_none() {
        assert!(!has_body(&map(&[])));
        assert!(!has_body(&map(&[("content-length", "0")])));
        assert!(has_body(&map(&[("content-length", "1")])));
        assert!(has_body(&map(&[("transfer-encoding", "chunked")])));
    }
}

//! An object as an answer: conditions, ranges, and headers that let no browser run what somebody uploaded.

use std::{
    ops::Range,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use futures_util::TryStreamExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    content_type,
    database::Object,
    error::{StorageError, internal, no_such_key},
    upload::Uploads,
};

/// Even what is shown runs nothing and belongs to no origin.
const SANDBOX: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";
const ATTRIBUTE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What a request wants of an object.
pub struct Wanted<'a> {
    /// GET or HEAD.
    pub method: &'a Method,
    /// Conditions and ranges.
    pub headers: &'a HeaderMap,
    /// `?download` and its file name.
    pub download: Option<&'a str>,
}

/// The answer; None when the bytes have gone since the row was read, and the row must be read again.
pub async fn answer(
    uploads: &Uploads,
    object: &Object,
    wanted: &Wanted<'_>,
) -> Result<Option<Response>, StorageError> {
    let size = object.size();
    let mut answer = Response::new(Body::empty());
    describe(answer.headers_mut(), object, wanted.download);
    if is_unchanged(wanted.headers, object) {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(Some(answer));
    }
    let range = match range(wanted.headers, object) {
        Some(Err(())) => {
            *answer.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            put(
                answer.headers_mut(),
                header::CONTENT_RANGE,
                &format!("bytes */{size}"),
            );
            return Ok(Some(answer));
        }
        Some(Ok(range)) => {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            put(answer.headers_mut(), header::CONTENT_RANGE, &text);
            range
        }
        None => 0..size,
    };
    let length = range.end - range.start;
    put(
        answer.headers_mut(),
        header::CONTENT_LENGTH,
        &length.to_string(),
    );
    if wanted.method == Method::HEAD {
        return Ok(Some(answer));
    }
    let version = object.blob().ok_or_else(no_such_key)?;
    let bytes = match uploads.blobs.read(version, range).await {
        Ok(bytes) => bytes,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(internal(error)),
    };
    let sent = uploads.series.clone();
    sent.downloads.inc();
    *answer.body_mut() = Body::from_stream(bytes.inspect_ok(move |part| {
        sent.sent_bytes.inc_by(part.len() as u64);
    }));
    Ok(Some(answer))
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn describe(headers: &mut HeaderMap, object: &Object, download: Option<&str>) {
    let kind = object
        .metadata("mimetype")
        .unwrap_or("application/octet-stream");
    put(headers, header::CONTENT_TYPE, kind);
    put(
        headers,
        header::CACHE_CONTROL,
        object.metadata("cacheControl").unwrap_or("no-cache"),
    );
    if let Some(tag) = object.metadata("eTag") {
        put(headers, header::ETAG, tag);
    }
    put(
        headers,
        header::LAST_MODIFIED,
        &httpdate::fmt_http_date(modified(object)),
    );
    put(headers, header::ACCEPT_RANGES, "bytes");
    put(headers, header::CONTENT_SECURITY_POLICY, SANDBOX);
    put(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(headers, HeaderName::from_static("x-robots-tag"), "none");
    match download {
        Some("") => put(headers, header::CONTENT_DISPOSITION, "attachment;"),
        Some(name) => put(headers, header::CONTENT_DISPOSITION, &attachment(name)),
        None if content_type::is_active(kind) => {
            put(headers, header::CONTENT_DISPOSITION, "attachment;")
        }
        None => {}
    }
}

fn attachment(name: &str) -> String {
    let encoded = utf8_percent_encode(name, ATTRIBUTE).to_string();
    format!("attachment; filename={encoded}; filename*=UTF-8''{encoded};")
}

fn modified(object: &Object) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(object.modified_at)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn is_unchanged(headers: &HeaderMap, object: &Object) -> bool {
    if let Some(tags) = text(headers, header::IF_NONE_MATCH) {
        return has_tag(tags, object);
    }
    let since = text(headers, header::IF_MODIFIED_SINCE)
        .and_then(|date| httpdate::parse_http_date(date).ok());
    since.is_some_and(|since| modified(object) <= since)
}

fn has_tag(tags: &str, object: &Object) -> bool {
    let own = object.metadata("eTag");
    tags.split(',').map(str::trim).any(|tag| {
        tag == "*" || own.is_some_and(|own| tag.strip_prefix("W/").unwrap_or(tag) == own)
    })
}

/// The one range that is asked for. Several at once, and what makes no sense, are answered with the whole object.
fn range(headers: &HeaderMap, object: &Object) -> Option<Result<Range<u64>, ()>> {
    let asked = text(headers, header::RANGE)?.strip_prefix("bytes=")?;
    if let Some(condition) = text(headers, header::IF_RANGE) {
        let same = match httpdate::parse_http_date(condition) {
            Ok(date) => modified(object) == date,
            Err(_) => object.metadata("eTag") == Some(condition),
        };
        if !same {
            return None;
        }
    }
    parse_range(asked, object.size())
}

fn parse_range(asked: &str, size: u64) -> Option<Result<Range<u64>, ()>> {
    let (first, last) = asked.trim().split_once('-')?;
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<u64>().ok())
            .flatten()
    };
    let (start, end) = match (first, last) {
        ("", last) => (size.saturating_sub(number(last)?), size),
        (first, "") => (number(first)?, size),
        (first, last) => (number(first)?, number(last)?.saturating_add(1)),
    };
    if !first.is_empty() && end <= start && !last.is_empty() {
        return None;
    }
    let end = end.min(size);
    Some(if start < end { Ok(start..end) } else { Err(()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (asked, range) in [
            ("0-4", Some(Ok(0..5))),
            ("5-", Some(Ok(5..10))),
            ("-3", Some(Ok(7..10))),
            ("-30", Some(Ok(0..10))),
            ("8-99", Some(Ok(8..10))),
            ("10-", Some(Err(()))),
            ("-0", Some(Err(()))),
            ("4-2", None),
            ("0-1,3-4", None),
            ("a-b", None),
            ("", None),
        ] {
            assert_eq!(parse_range(asked, 10), range, "{asked}");
        }
        assert_eq!(parse_range("0-", 0), Some(Err(())));
        assert_eq!(parse_range("0-18446744073709551615", 10), Some(Ok(0..10)));
    }

    #[test]
    fn a_name_ends_no_header() {
        assert_eq!(
            attachment("a\"; x=\r\ny"),
            "attachment; filename=a%22%3B%20x%3D%0D%0Ay; filename*=UTF-8''a%22%3B%20x%3D%0D%0Ay;"
        );
    }
}

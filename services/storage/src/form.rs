//! What comes with the bytes of an object: in headers beside a raw body, or in fields before the file of a form.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream::BoxStream};
use kijko_core::db::{has_long_number, storable};
use multer::Multipart;
use serde_json::Value;

use crate::{
    body::{self, Incoming},
    error::{StorageError, invalid_request},
};

/// A field of text.
const MAX_FIELD: usize = 64 << 10;
/// What a form has around its file: boundaries and the headers of its parts.
const ENVELOPE: u64 = 4 << 10;
const MAX_TYPE: usize = 255;
/// What comes before a form's file, all together: multer keeps headers and a preamble until they end.
const MAX_BEFORE_FILE: usize = 256 << 10;
/// Fields before a form's file. Each of them may read two pieces ahead, which stays below [`MAX_BEFORE_FILE`].
const MAX_FIELDS: usize = 16;
/// What multer gets at a time before the file.
const PIECE: usize = 4 << 10;

/// An object that is being sent.
pub struct Sent {
    /// The type, if the sender says one.
    pub kind: Option<String>,
    /// The cache control that the object gets.
    pub cache_control: String,
    /// What the sender writes about it.
    pub user_metadata: Option<Value>,
    /// Bytes at least, if the length of the body is known.
    pub at_least: Option<u64>,
    /// The bytes.
    pub bytes: BoxStream<'static, Result<Bytes, StorageError>>,
}

/// What a request sends. The bytes are read later.
pub async fn read(
    headers: &HeaderMap,
    incoming: Incoming,
    idle: Duration,
) -> Result<Sent, StorageError> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let kind = text(header::CONTENT_TYPE);
    if let Some(boundary) = kind.and_then(|kind| multer::parse_boundary(kind).ok()) {
        return from_form(boundary, incoming, idle).await;
    }
    let user_metadata = match headers.get("x-metadata").map(|value| value.to_str()) {
        None => None,
        Some(encoded) => {
            let decoded = encoded
                .ok()
                .and_then(|encoded| STANDARD.decode(encoded).ok());
            Some(metadata(&decoded.ok_or_else(|| {
                invalid_request("x-metadata is not base64")
            })?)?)
        }
    };
    Ok(Sent {
        kind: checked_type(kind)?,
        cache_control: cache_control(text(header::CACHE_CONTROL)),
        user_metadata,
        at_least: incoming.length,
        bytes: plain(incoming.into_stream(), idle),
    })
}

async fn from_form(
    boundary: String,
    incoming: Incoming,
    idle: Duration,
) -> Result<Sent, StorageError> {
    let around = ENVELOPE + 4 * boundary.len() as u64;
    let at_file = Arc::new(AtomicBool::new(false));
    let length = incoming.length;
    let parts = bounded_before_file(incoming.into_stream(), at_file.clone());
    let mut form = Multipart::new(parts, boundary);
    let (mut seen, mut cache, mut user_metadata, mut given_type) = (0, None, None, None);
    for _ in 0..=MAX_FIELDS {
        let field = tokio::time::timeout(idle, form.next_field()).await;
        let field = field.map_err(|_| invalid_request("the body was silent for too long"))?;
        let field =
            field.map_err(|error| invalid_request(format!("the form cannot be read: {error}")))?;
        let mut field = field.ok_or_else(|| invalid_request("the form has no file"))?;
        // supabase-js gives the file no name: an empty one.
        let name = field.name().unwrap_or_default().to_owned();
        if name.is_empty() || field.file_name().is_some() {
            at_file.store(true, Ordering::Relaxed);
            let of_part = field.content_type().map(ToString::to_string);
            return Ok(Sent {
                kind: checked_type(given_type.or(of_part).as_deref())?,
                cache_control: cache_control(cache.as_deref()),
                user_metadata,
                at_least: length.map(|length| length.saturating_sub(around + seen)),
                bytes: plain(field, idle),
            });
        }
        let mut value = Vec::new();
        while let Some(part) = body::next(&mut field, idle).await? {
            value.extend_from_slice(&part);
            if value.len() > MAX_FIELD {
                return Err(invalid_request(format!(
                    "the field {name} is longer than {MAX_FIELD} bytes"
                )));
            }
        }
        seen += value.len() as u64 + ENVELOPE;
        let text = || String::from_utf8_lossy(&value).into_owned();
        match &*name {
            "cacheControl" => cache = Some(text()),
            "metadata" => user_metadata = Some(metadata(&value)?),
            "contentType" => given_type = Some(text()),
            _ => {}
        }
    }
    Err(invalid_request(format!(
        "the form has more than {MAX_FIELDS} fields before its file"
    )))
}

/// The parts of a form, which fail when more than [`MAX_BEFORE_FILE`] is wanted before the file. multer takes all that is ready
/// before it looks at it, so a part is followed by a pause: what it keeps stays as small as what was wanted.
fn bounded_before_file<E>(
    parts: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    at_file: Arc<AtomicBool>,
) -> impl Stream<Item = Result<Bytes, multer::Error>> + Send + 'static
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut parts = Box::pin(parts.fuse());
    let (mut kept, mut given, mut pause) = (BytesMut::new(), 0, false);
    futures_util::stream::poll_fn(move |context| {
        if std::mem::take(&mut pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before_file = !at_file.load(Ordering::Relaxed);
        if before_file && given >= MAX_BEFORE_FILE {
            let limit = MAX_BEFORE_FILE as u64;
            return Poll::Ready(Some(Err(multer::Error::StreamSizeExceeded { limit })));
        }
        // Small parts come together, because multer searches all that it keeps for each of them.
        while kept.is_empty() || before_file && kept.len() < PIECE {
            match parts.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(part))) if kept.is_empty() && !before_file => {
                    pause = true;
                    return Poll::Ready(Some(Ok(part)));
                }
                Poll::Ready(Some(Ok(part))) => kept.extend_from_slice(&part),
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(multer::Error::StreamReadFailed(error.into()))));
                }
                Poll::Ready(None) if kept.is_empty() => return Poll::Ready(None),
                Poll::Pending if kept.is_empty() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        let size = match before_file {
            true => kept.len().min(PIECE),
            false => kept.len(),
        };
        pause = true;
        given += size;
        Poll::Ready(Some(Ok(kept.split_to(size).freeze())))
    })
}

fn plain<E>(
    parts: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    idle: Duration,
) -> BoxStream<'static, Result<Bytes, StorageError>>
where
    E: Send + 'static,
{
    let parts = Box::pin(parts);
    futures_util::stream::try_unfold(parts, move |mut parts| async move {
        Ok(body::next(&mut parts, idle)
            .await?
            .map(|part| (part, parts)))
    })
    .boxed()
}

/// JSON as Postgres can keep it.
fn metadata(bytes: &[u8]) -> Result<Value, StorageError> {
    let unreadable = || invalid_request("the metadata is not JSON");
    let text = std::str::from_utf8(bytes).map_err(|_| unreadable())?;
    if text.len() > MAX_FIELD {
        return Err(invalid_request(format!(
            "the metadata is longer than {MAX_FIELD} bytes"
        )));
    }
    if has_long_number(text) {
        return Err(invalid_request(
            "the metadata has a number of more than 400 digits",
        ));
    }
    serde_json::from_str(&storable(text)).map_err(|_| unreadable())
}

fn checked_type(kind: Option<&str>) -> Result<Option<String>, StorageError> {
    let Some(kind) = kind.map(str::trim).filter(|kind| !kind.is_empty()) else {
        return Ok(None);
    };
    let sound = kind.len() <= MAX_TYPE
        && kind.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && kind.contains('/');
    match sound {
        true => Ok(Some(kind.to_owned())),
        false => Err(crate::error::invalid_mime_type(
            &kind.chars().take(80).collect::<String>(),
        )),
    }
}

/// Upstream keeps `max-age=N`: a form sends N, a header the whole. Everything else is not cached.
fn cache_control(given: Option<&str>) -> String {
    let given = given.map(str::trim).unwrap_or_default();
    let sound = given.len() <= 100 && given.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    match given {
        "" => "no-cache".to_owned(),
        _ if !sound => "no-cache".to_owned(),
        seconds if seconds.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("max-age={seconds}")
        }
        whole => whole.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::HeaderValue};

    use super::*;

    async fn sent(
        kind: &'static str,
        body: impl Into<Body>,
    ) -> Result<(Sent, String), StorageError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let idle = Duration::from_secs(5);
        let incoming = Incoming::new(body.into(), &headers, idle);
        let mut sent = read(&headers, incoming, idle).await?;
        let mut bytes = Vec::new();
        while let Some(part) = sent.bytes.next().await {
            bytes.extend_from_slice(&part?);
        }
        Ok((sent, String::from_utf8(bytes).unwrap()))
    }

    #[tokio::test]
    async fn a_form_has_fields_and_then_a_file_without_a_name() {
        let form = "--x\r\nContent-Disposition: form-data; name=\"cacheControl\"\r\n\r\n60\r\n\
            --x\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{\"a\":\"\\u0000\"}\r\n\
            --x\r\nContent-Disposition: form-data; name=\"\"; filename=\"blob\"\r\nContent-Type: image/png\r\n\r\nbytes\r\n--x--\r\n";
        let (sent, bytes) = sent("multipart/form-data; boundary=x", form).await.unwrap();
        assert_eq!(
            (sent.cache_control.as_str(), sent.kind.as_deref(), &*bytes),
            ("max-age=60", Some("image/png"), "bytes")
        );
        assert_eq!(
            sent.user_metadata,
            Some(serde_json::json!({ "a": "\u{fffd}" }))
        );
    }

    #[test]
    fn metadata_is_json_that_stays_small() {
        assert!(metadata(br#"{"a": 1.5e30}"#).is_ok());
        for refused in [&b"{"[..], b"\xff", br#"{"a": [1e131071]}"#] {
            assert_eq!(metadata(refused).err().unwrap().code, "InvalidRequest");
        }
    }

    #[tokio::test]
    async fn a_form_without_a_file_is_refused() {
        let form = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x--\r\n";
        assert_eq!(
            sent("multipart/form-data; boundary=x", form)
                .await
                .err()
                .unwrap()
                .code,
            "InvalidRequest"
        );
        assert_eq!(
            sent("multipart/form-data; boundary=x", "--x\r\n")
                .await
                .err()
                .unwrap()
                .code,
            "InvalidRequest"
        );
    }

    /// What is read of a form that never comes to its file: its start, and then 16 MiB in parts.
    async fn read_without_a_file(start: &'static str, part: &'static [u8]) -> usize {
        use std::sync::atomic::AtomicUsize;
        let read = Arc::new(AtomicUsize::new(0));
        let counted = read.clone();
        let parts = std::iter::once(start.as_bytes())
            .chain(std::iter::repeat_n(part, (16 << 20) / part.len()))
            .map(move |part| {
                counted.fetch_add(part.len(), Ordering::Relaxed);
                Ok::<_, std::io::Error>(Bytes::from_static(part))
            });
        let body = Body::from_stream(futures_util::stream::iter(parts));
        let refused = sent("multipart/form-data; boundary=x", body).await;
        assert_eq!(refused.err().unwrap().code, "InvalidRequest");
        read.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn what_comes_before_the_file_is_bounded() {
        let field = "\r\n--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1";
        for (start, part) in [
            ("--x\r\nX: ", &[b'h'; 1 << 16] as &[u8]),
            ("--x\r\nX: ", b"h"),
            ("a preamble", &[b'p'; 1 << 16]),
            (
                "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1",
                field.as_bytes(),
            ),
            ("--x", b" "),
        ] {
            let read = read_without_a_file(start, part).await;
            assert!(read <= 2 * MAX_BEFORE_FILE, "{start:?}: {read} bytes");
        }
    }

    #[tokio::test]
    async fn a_file_that_comes_at_once_with_its_fields_is_read_whole() {
        let field = format!(
            "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{}\r\n",
            "v".repeat(1000)
        );
        let content = "\r\n--y".repeat(1 << 18);
        let form = format!(
            "{}--x\r\nContent-Disposition: form-data; name=\"\"\r\n\r\n{content}\r\n--x--\r\n",
            field.repeat(MAX_FIELDS)
        );
        for size in [7, 100, 5_000, form.len()] {
            let parts: Vec<_> = form
                .as_bytes()
                .chunks(size)
                .map(|part| Ok::<_, std::io::Error>(Bytes::copy_from_slice(part)))
                .collect();
            let body = Body::from_stream(futures_util::stream::iter(parts));
            let (_, bytes) = sent("multipart/form-data; boundary=x", body).await.unwrap();
            assert!(bytes == content, "in parts of {size} bytes");
        }
    }

    #[tokio::test]
    async fn a_raw_body_is_the_file() {
        let (sent, bytes) = sent("text/plain", "text").await.unwrap();
        assert_eq!((sent.cache_control.as_str(), &*bytes), ("no-cache", "text"));
    }
}

//! A request's body, up to a limit.

use axum::body::{Body, Bytes};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use crate::{
    db::{has_long_number, storable},
    error::Error,
    telemetry::canonical,
};

/// The whole body, or what is wrong with it. Nothing beyond `limit` is kept, or read here.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, Error> {
    let mut parts = body.into_data_stream();
    let mut kept = Vec::new();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Error::BadRequest("the body cannot be read".to_owned()))?;
        if kept.len() + part.len() > limit {
            return Err(Error::TooLarge(limit));
        }
        kept.extend_from_slice(&part);
    }
    canonical::add("request_bytes", kept.len());
    Ok(kept.into())
}

/// A body of JSON that can be stored: jsonb has no place for NUL, and writes some numbers out in full.
pub fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let refuse = |message: String| Err(Error::BadRequest(message));
    if let Ok(text) = std::str::from_utf8(body) {
        if storable(text) != text {
            return refuse("the body: \\u0000 cannot be stored".to_owned());
        } else if has_long_number(text) {
            return refuse("the body: a number has more than 400 digits".to_owned());
        }
    }
    serde_json::from_slice(body).or_else(|error| refuse(format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use futures_util::stream;

    use super::*;

    /// A body of so many parts of 1,000 bytes, and how many of them were taken.
    fn parts(n: usize) -> (Body, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let parts = stream::iter(0..n).map(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1_000]))
        });
        (Body::from_stream(parts), taken)
    }

    #[tokio::test]
    async fn a_body_that_fits_is_whole() {
        assert_eq!(read(parts(3).0, 3_000).await.unwrap().len(), 3_000);
    }

    #[tokio::test]
    async fn one_that_is_too_large_is_read_up_to_its_limit() {
        for n in [3, 500, usize::MAX] {
            let (body, taken) = parts(n);
            assert!(matches!(
                read(body, 2_999).await,
                Err(Error::TooLarge(2_999))
            ));
            assert_eq!(taken.load(Ordering::Relaxed), 3);
        }
    }

    #[tokio::test]
    async fn one_that_breaks_off_cannot_be_read() {
        let broken = Body::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other(
            "gone",
        ))]));
        assert!(matches!(
            read(broken, 1_000).await,
            Err(Error::BadRequest(_))
        ));
    }

    #[test]
    fn a_body_of_json_can_be_stored() {
        let read = |body: &str| json::<serde_json::Value>(body.as_bytes());
        for good in [r#"{"a": "b"}"#, r#""\\u0000""#, r#""\ud83d\ude00""#] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "{",
            r#""\u0000""#,
            r#"{"\u0000": 1}"#,
            r#""\ud83d""#,
            "[1e500]",
        ] {
            assert_eq!(read(bad).unwrap_err().code(), "bad_request", "{bad}");
        }
        assert!(json::<serde_json::Value>(b"\"\xff\"").is_err());
    }
}

//! A request's body, up to a limit.

use axum::body::{Body, Bytes};
use futures_util::StreamExt;

use crate::{error::Error, telemetry::canonical};

/// So much of a body that is too large is read and thrown away: a proxy that is still sending takes an answer that ends the
/// connection for a broken upstream.
pub(in crate::http) const DRAINED_BYTES: usize = 16 << 20;

/// The whole body, or what is wrong with it. Nothing beyond `limit` is kept.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, Error> {
    let mut parts = body.into_data_stream();
    let (mut kept, mut seen) = (Vec::new(), 0);
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Error::BadRequest("the body cannot be read".to_owned()))?;
        seen += part.len();
        if seen <= limit {
            kept.extend_from_slice(&part);
        } else if seen > limit.saturating_add(DRAINED_BYTES) {
            break;
        } else {
            kept = Vec::new();
        }
    }
    canonical::add("request_bytes", seen);
    if seen > limit {
        return Err(Error::TooLarge(limit));
    }
    Ok(kept.into())
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
    async fn one_that_is_too_large_is_read_to_its_end_first() {
        let (body, taken) = parts(500);
        assert!(matches!(
            read(body, 2_999).await,
            Err(Error::TooLarge(2_999))
        ));
        assert_eq!(taken.load(Ordering::Relaxed), 500);
    }

    #[tokio::test]
    async fn one_without_an_end_is_not() {
        let (body, taken) = parts(usize::MAX);
        assert!(matches!(
            read(body, 1_000).await,
            Err(Error::TooLarge(1_000))
        ));
        assert_eq!(taken.load(Ordering::Relaxed), DRAINED_BYTES / 1_000 + 2);
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
}

//! The body of a request, as it comes: it takes room for what has come, and not for what it says will come.

use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt;
use kijko_core::{error::Error, telemetry::canonical};
use tokio::time::{Instant, timeout_at};

use super::{error::ApiError, room::Room};

/// How fast a body must come.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// All of it.
    whole: Duration,
    /// Each 64 KiB.
    step: Duration,
}

pub(super) const PACE: Pace = Pace {
    whole: Duration::from_secs(60),
    step: Duration::from_secs(5),
};
const STEP_BYTES: usize = 64 << 10;

/// The whole body, or what is wrong with it.
pub(super) async fn read(
    body: Body,
    limit: usize,
    room: &mut Room,
    pace: Pace,
) -> Result<Vec<u8>, ApiError> {
    let mut parts = body.into_data_stream();
    let mut kept = Vec::new();
    let end = Instant::now() + pace.whole;
    let (mut step, mut come) = (Instant::now() + pace.step, 0);
    loop {
        let part = timeout_at(step.min(end), parts.next()).await;
        let part = part.map_err(|_| bad("the body did not come in time"))?;
        let Some(part) = part else {
            canonical::add("request_bytes", kept.len());
            return Ok(kept);
        };
        let part = part.map_err(|_| bad("the body cannot be read"))?;
        if kept.len() + part.len() > limit {
            return Err(Error::TooLarge(limit).into());
        }
        come += part.len();
        let waits = Instant::now();
        room.grow(part.len()).await?;
        kept.extend_from_slice(&part);
        if come >= STEP_BYTES {
            (step, come) = (Instant::now() + pace.step, 0);
        } else {
            // Waiting for room is not the sender's fault.
            step += waits.elapsed();
        }
    }
}

fn bad(message: &str) -> ApiError {
    Error::BadRequest(message.to_owned()).into()
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use futures_util::stream;
    use uuid::Uuid;

    use super::{super::room::Rooms, *};

    const FAST: Pace = Pace {
        whole: Duration::from_secs(3),
        step: Duration::from_secs(1),
    };

    /// So many parts of so many bytes, with a pause before each.
    fn parts(n: usize, bytes: usize, pause: Duration) -> Body {
        Body::from_stream(stream::iter(0..n).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; bytes]))
        }))
    }

    #[tokio::test]
    async fn a_body_takes_room_for_what_has_come() {
        let rooms = Rooms::new(8 << 10);
        let mut room = rooms.enter(Uuid::nil()).unwrap();
        assert_eq!(rooms.free(), 8 << 10);
        let body = parts(10, 64 << 10, Duration::from_millis(30));
        let body = read(body, 1 << 20, &mut room, FAST).await.unwrap();
        assert_eq!((body.len(), rooms.free()), (640 << 10, (8 << 10) - 640));
        let body = parts(17, 64 << 10, Duration::ZERO);
        let mut room = rooms.enter(Uuid::from_u128(1)).unwrap();
        let error = read(body, 1 << 20, &mut room, FAST).await.unwrap_err();
        assert_eq!(error.status, 413);
    }

    #[tokio::test]
    async fn one_that_drips_or_never_ends_is_refused() {
        let rooms = Rooms::new(512 << 10);
        for (parts, most) in [
            (parts(1, 1, Duration::from_secs(60)), FAST.step),
            (parts(1_000, 1, Duration::from_millis(60)), FAST.step),
            (
                parts(1_000, 64 << 10, Duration::from_millis(60)),
                FAST.whole,
            ),
        ] {
            let (start, mut room) = (Instant::now(), rooms.enter(Uuid::nil()).unwrap());
            let error = read(parts, 100 << 20, &mut room, FAST).await.unwrap_err();
            assert_eq!(error.status, 400);
            assert!((most..most + Duration::from_secs(10)).contains(&start.elapsed()));
        }
    }
}

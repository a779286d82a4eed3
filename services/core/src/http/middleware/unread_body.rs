//! What a handler leaves unread of a body is read and thrown away before its refusal is sent. A proxy that is still sending takes
//! an answer that ends the connection for a broken upstream, and the client gets 502 instead of the reason.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::Response,
};
use futures_util::{Stream, StreamExt};
use tokio::sync::oneshot;

/// So much of a body is read and thrown away.
pub(super) const DRAINED_BYTES: usize = 16 << 20;
/// Of a service that takes files: those that are a little too large are common.
const DRAINED_BYTES_OF_FILES: usize = 256 << 20;
/// A sender that is silent for so long gets its answer as it is.
const IDLE: Duration = Duration::from_secs(5);
/// A refusal comes a moment before an HTTP client, to which the body was passed on, has let it go.
const RELEASE: Duration = Duration::from_millis(50);

/// The layer. Its state is whether the service takes bodies as they come, as one of files does.
pub(in crate::http) async fn drain(
    State(streams): State<bool>,
    request: Request,
    next: Next,
) -> Response {
    if !is_sending(request.headers()) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let (give_back, given_back) = oneshot::channel();
    let body = Body::from_stream(Lent {
        parts: Some(body.into_data_stream()),
        give_back: Some(give_back),
    });
    let response = next.run(Request::from_parts(parts, body)).await;
    let status = response.status();
    if (status.is_client_error() || status.is_server_error())
        && let Ok(Ok(parts)) = tokio::time::timeout(RELEASE, given_back).await
    {
        let most = if streams {
            DRAINED_BYTES_OF_FILES
        } else {
            DRAINED_BYTES
        };
        read_rest(parts, most).await;
    }
    response
}

/// A sender that waits to be asked for the body sends none.
fn is_sending(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    let has_body = headers.contains_key(header::TRANSFER_ENCODING)
        || length.is_some_and(|length| length.as_bytes() != b"0");
    has_body && !headers.contains_key(header::EXPECT)
}

/// Reads and throws away what is left, or so much of it.
pub(super) async fn read_rest(mut parts: BodyDataStream, most: usize) {
    let mut seen = 0;
    while let Ok(Some(Ok(part))) = tokio::time::timeout(IDLE, parts.next()).await {
        seen += part.len();
        if seen > most {
            return;
        }
    }
}

/// A body that comes back when its reader drops it before its end.
struct Lent {
    parts: Option<BodyDataStream>,
    give_back: Option<oneshot::Sender<BodyDataStream>>,
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(parts) = &mut self.parts else {
            return Poll::Ready(None);
        };
        let next = parts.poll_next_unpin(context);
        if matches!(next, Poll::Ready(None | Some(Err(_)))) {
            self.parts = None;
        }
        next
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(parts), Some(give_back)) = (self.parts.take(), self.give_back.take()) {
            // Nobody waits for it when the answer is no refusal.
            let _ = give_back.send(parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{
        Router,
        http::StatusCode,
        middleware,
        response::{IntoResponse, Response},
        routing::post,
    };
    use futures_util::stream;
    use tower::ServiceExt;

    use super::*;
    use crate::http::extract::body;

    const PART: usize = 1_000;

    fn app(streams: bool) -> Router {
        Router::new()
            .route("/unread", post(async || StatusCode::UNAUTHORIZED))
            .route("/accepted", post(async || StatusCode::ACCEPTED))
            .route(
                "/half",
                post(async |body: Body| {
                    body.into_data_stream().next().await;
                    StatusCode::BAD_REQUEST
                }),
            )
            .route(
                "/kept",
                post(async |body: Body| {
                    // As an HTTP client does that is still passing it on.
                    tokio::spawn(async move {
                        let mut parts = body.into_data_stream();
                        parts.next().await;
                        std::future::pending::<()>().await;
                    });
                    StatusCode::BAD_GATEWAY
                }),
            )
            .route("/whole", post(whole))
            .layer(middleware::from_fn_with_state(streams, drain))
    }

    async fn whole(body: Body) -> Response {
        match body::read(body, 2_999).await {
            Ok(whole) => whole.into_response(),
            Err(error) => error.into_response(),
        }
    }

    /// How many of the parts were taken when the answer came.
    async fn taken(path: &str, parts: usize, header: (&str, &str)) -> (u16, usize) {
        taken_of(app(false), path, parts, header).await
    }

    async fn taken_of(app: Router, path: &str, parts: usize, header: (&str, &str)) -> (u16, usize) {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let body = stream::iter(0..parts).map(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; PART]))
        });
        let request = Request::post(path).header(header.0, header.1);
        let request = request.body(Body::from_stream(body)).unwrap();
        let status = app.oneshot(request).await.unwrap().status();
        (status.as_u16(), taken.load(Ordering::Relaxed))
    }

    const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");

    #[tokio::test]
    async fn a_refusal_reads_what_its_handler_left() {
        assert_eq!(taken("/unread", 40, CHUNKED).await, (401, 40));
        assert_eq!(
            taken("/unread", 40, ("content-length", "40000")).await,
            (401, 40)
        );
        assert_eq!(taken("/half", 40, CHUNKED).await, (400, 40));
        assert_eq!(taken("/whole", 500, CHUNKED).await, (413, 500));
    }

    #[tokio::test]
    async fn not_without_an_end() {
        for (streams, most) in [(false, DRAINED_BYTES), (true, DRAINED_BYTES_OF_FILES)] {
            let (_, parts) = taken_of(app(streams), "/unread", usize::MAX, CHUNKED).await;
            assert_eq!(parts, most / PART + 1);
        }
        let (status, parts) = taken("/whole", usize::MAX, CHUNKED).await;
        assert_eq!((status, parts), (413, 3 + DRAINED_BYTES / PART + 1));
    }

    #[tokio::test]
    async fn nothing_is_read_of_what_others_read_or_nobody_sends() {
        assert_eq!(taken("/accepted", 40, CHUNKED).await, (202, 0));
        assert_eq!(taken("/kept", 40, CHUNKED).await, (502, 1));
        assert_eq!(
            taken("/unread", 40, ("expect", "100-continue")).await,
            (401, 0)
        );
    }

    #[tokio::test]
    async fn a_silent_sender_has_its_answer() {
        let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let request = Request::post("/unread").header(CHUNKED.0, CHUNKED.1);
        let answer = app(false).oneshot(request.body(body).unwrap()).await;
        assert_eq!(answer.unwrap().status(), 401);
    }
}

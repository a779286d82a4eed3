//! A guarded HTTP client for addresses that are not ours. Connecting, the whole call and silence within an answer have time
//! limits; an answer has a limit of bytes, whatever its status; redirects are not followed, since they could carry a key and a
//! body elsewhere; nothing is decompressed, since a compressed answer would be bounded by what it is on the wire and not by
//! what it becomes.

use std::time::Duration;

use axum::body::Bytes;
use reqwest::{
    IntoUrl, Method,
    header::{HeaderMap, RETRY_AFTER},
    redirect::Policy,
};
pub use reqwest::{RequestBuilder, StatusCode, Url, header};

use crate::{db::with_causes, service::Service};

/// The limits of each call.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the whole call may take, the answer's end included.
    pub total_timeout: Duration,
    /// How long the other side may be silent within its answer.
    pub idle_timeout: Duration,
    /// Bytes of an answer's body.
    pub max_bytes: usize,
}

/// Why there is no answer, or no more of one. The texts are for the log; they name no address.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OutboundError {
    /// The client cannot be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Setup(String),
    /// No connection, or not in time: nothing was sent.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// The connection ended before an answer began; the other side may have the request.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The whole call took too long.
    #[error("no answer in time: {0}")]
    TimedOut(String),
    /// Silence within the answer.
    #[error("silent for {0:?} within its answer")]
    Silent(Duration),
    /// The answer broke off.
    #[error("the answer broke off: {0}")]
    Broken(String),
    /// The answer is too large.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// The client.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    limits: Limits,
}

/// An answer whose body is read as it comes.
#[derive(Debug)]
pub struct Answer {
    response: reqwest::Response,
    limits: Limits,
    seen: usize,
}

impl Client {
    /// A client with these limits.
    pub fn new(service: Service, limits: Limits) -> Result<Self, OutboundError> {
        let http = reqwest::Client::builder()
            .connect_timeout(limits.connect_timeout)
            .timeout(limits.total_timeout)
            .redirect(Policy::none())
            // Whatever other crates switch on.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .http1_only()
            .user_agent(format!("{}/{}", service.name, service.version))
            .build()
            .map_err(|error| OutboundError::Setup(with_causes(&error)))?;
        Ok(Self { http, limits })
    }

    /// A client that was set up elsewhere, such as one that reaches public addresses only. Its calls are limited by their own
    /// `timeout`; of the limits, those of answers hold.
    pub fn of(http: reqwest::Client, limits: Limits) -> Self {
        Self { http, limits }
    }

    /// The same client with other limits of answers. Its calls have a `timeout` of their own.
    pub fn with(&self, limits: Limits) -> Self {
        Self::of(self.http.clone(), limits)
    }

    /// A POST, to be completed and given to [`Client::send`].
    pub fn post(&self, url: Url) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// As [`Client::post`], with another method.
    pub fn request(&self, method: Method, url: impl IntoUrl) -> RequestBuilder {
        self.http.request(method, url)
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer, OutboundError> {
        let response = request.send().await.map_err(transport)?;
        Ok(Answer {
            response,
            limits: self.limits,
            seen: 0,
        })
    }
}

impl Answer {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next part of the body; `None` at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, OutboundError> {
        let idle = self.limits.idle_timeout;
        let part = match tokio::time::timeout(idle, self.response.chunk()).await {
            Err(_) => return Err(OutboundError::Silent(idle)),
            Ok(part) => part.map_err(transport)?,
        };
        self.seen += part.as_ref().map_or(0, Bytes::len);
        if self.seen > self.limits.max_bytes {
            return Err(OutboundError::TooLarge(self.limits.max_bytes));
        }
        Ok(part)
    }

    /// The whole body.
    pub async fn bytes(mut self) -> Result<Vec<u8>, OutboundError> {
        let mut whole = Vec::new();
        while let Some(part) = self.next().await? {
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    }
}

/// How long an answer asks to wait, when it says so in whole seconds.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn transport(error: reqwest::Error) -> OutboundError {
    let error = error.without_url();
    let cause = with_causes(&error);
    if error.is_connect() {
        OutboundError::Unreachable(cause)
    } else if error.is_timeout() {
        OutboundError::TimedOut(cause)
    } else if error.is_body() || error.is_decode() {
        OutboundError::Broken(cause)
    } else {
        OutboundError::NoAnswer(cause)
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::Body,
        http::header,
        response::{IntoResponse, Redirect},
        routing::post,
    };
    use futures_util::{StreamExt, stream};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMITS: Limits = Limits {
        connect_timeout: Duration::from_secs(5),
        total_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_millis(300),
        max_bytes: 1_000,
    };

    /// An answer that never ends.
    fn endless(part: &'static [u8], pause: Duration) -> Body {
        let parts = stream::repeat(()).then(move |()| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::io::Error>(Bytes::from_static(part))
        });
        Body::from_stream(parts)
    }

    async fn call(path: &str) -> Result<(u16, Vec<u8>), OutboundError> {
        let routes = Router::new()
            .route("/small", post(|| async { "x".repeat(1_000) }))
            .route("/large", post(|| async { "x".repeat(1_001) }))
            .route(
                "/endless",
                post(|| async { endless(b"xxxxxxxx", Duration::ZERO) }),
            )
            .route(
                "/drip",
                post(|| async { endless(b"x", Duration::from_millis(50)) }),
            )
            .route(
                "/silent",
                post(|| async { endless(b"x", Duration::from_secs(60)) }),
            )
            .route("/away", post(|| async { Redirect::temporary("/small") }))
            .route(
                "/packed",
                post(|| async {
                    ([(header::CONTENT_ENCODING, "gzip")], "not gzip").into_response()
                }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, routes).into_future());
        ask(&url).await
    }

    async fn ask(url: &str) -> Result<(u16, Vec<u8>), OutboundError> {
        let client = Client::new(Service::TEST, LIMITS)?;
        let answer = client.send(client.post(url.parse().unwrap())).await?;
        Ok((answer.status().as_u16(), answer.bytes().await?))
    }

    #[tokio::test]
    async fn an_answer_within_the_limits_is_whole() {
        assert_eq!(call("/small").await.unwrap(), (200, vec![b'x'; 1_000]));
    }

    #[tokio::test]
    async fn a_larger_answer_is_refused_whether_it_ends_or_not() {
        for path in ["/large", "/endless"] {
            let error = call(path).await.unwrap_err();
            assert!(matches!(error, OutboundError::TooLarge(1_000)), "{error}");
        }
    }

    #[tokio::test]
    async fn silence_and_endless_dripping_end() {
        let error = call("/silent").await.unwrap_err();
        assert!(matches!(error, OutboundError::Silent(_)), "{error}");
        let error = call("/drip").await.unwrap_err();
        assert!(matches!(error, OutboundError::TimedOut(_)), "{error}");
    }

    #[tokio::test]
    async fn redirects_are_not_followed_and_nothing_is_unpacked() {
        assert_eq!(call("/away").await.unwrap().0, 307);
        assert_eq!(call("/packed").await.unwrap().1, b"not gzip");
    }

    /// A server that begins an answer and then says the same without end. What the client makes of it, and how many bytes it took.
    async fn hear(first: &str, then: &str) -> (OutboundError, usize) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (first, then) = (first.to_owned(), then.repeat(4_096 / then.len()));
        let talking = tokio::spawn(async move {
            let (mut server, _) = listener.accept().await.unwrap();
            let _ = server.read(&mut [0; 4_096]).await;
            let _ = server.write_all(first.as_bytes()).await;
            let mut taken = 0;
            while server.write_all(then.as_bytes()).await.is_ok() {
                taken += then.len();
            }
            taken
        });
        let error = ask(&url).await.unwrap_err();
        (error, talking.await.unwrap())
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_left() {
        const HEAD: &str = "HTTP/1.1 200 OK\r\n";
        const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        for (first, next, then) in [
            ("HTTP/1.1 200 ", "", "x"),
            (HEAD, "name: ", "x"),
            (HEAD, "", "name: value\r\n"),
            (CHUNKED, "1;", "x"),
            (CHUNKED, "", "1;name=value\r\nx\r\n"),
            (CHUNKED, "0\r\n", "name: value\r\n"),
        ] {
            let (error, taken) = hear(&format!("{first}{next}"), then).await;
            let what = format!("{next}{then}: {error}, {taken} bytes");
            assert!(!matches!(error, OutboundError::TimedOut(_)), "{what}");
            // Most of it is in the buffers of the connection.
            assert!(taken < 32 << 20, "{what}");
        }
        // What takes no memory ends with the time of the call.
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        let (error, _) = hear(interim, interim).await;
        assert!(matches!(error, OutboundError::TimedOut(_)), "{error}");
    }

    #[tokio::test]
    async fn an_unreachable_address_is_not_named() {
        let error = ask("http://127.0.0.1:1/secret?key=hidden")
            .await
            .unwrap_err();
        assert!(matches!(error, OutboundError::Unreachable(_)), "{error}");
        assert!(!error.to_string().contains("secret") && !error.to_string().contains("hidden"));
    }
}

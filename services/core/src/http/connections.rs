//! Connections of clients. One that takes nothing of an answer for too long is closed: nothing else would end it, and it holds what the
//! answer comes from, a file or a call to another service, and what waits to be sent.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::Sleep,
};

/// How long a client may take nothing of what waits for it, as in other servers. Who pauses a download for longer asks for the rest
/// of it (`Range`).
pub const UNREAD: Duration = Duration::from_secs(60);

/// Accepts connections.
#[derive(Debug)]
pub struct Connections {
    listener: TcpListener,
    unread: Duration,
}

impl Connections {
    /// Whose clients may take nothing for so long.
    pub fn new(listener: TcpListener, unread: Duration) -> Self {
        Self { listener, unread }
    }
}

impl Listener for Connections {
    type Io = Connection<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection::new(stream, self.unread), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// What a connection has received, for a protocol whose library does not show the parts of a message before it is whole. A handler
/// finds it as `Extension<ConnectInfo<Received>>`.
#[derive(Debug, Clone, Default)]
pub struct Received(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    whole: AtomicU64,
    more: Notify,
}

/// Bytes of a message that is not whole from which on it counts as a [large](Received::large) one.
const LARGE: u64 = 16 << 10;

impl Received {
    fn add(&self, bytes: usize) {
        let bytes = self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if bytes - self.0.whole.load(Ordering::Relaxed).min(bytes) > LARGE {
            self.0.more.notify_one();
        }
    }

    /// A message is whole: nothing that was received until now belongs to the next one.
    pub fn end_message(&self) {
        let bytes = self.0.bytes.load(Ordering::Relaxed);
        self.0.whole.store(bytes, Ordering::Relaxed);
    }

    /// So many bytes were no part of a message: they do not count.
    pub fn exclude(&self, bytes: usize) {
        self.0.whole.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Waits until many bytes of a message are there that is not whole.
    pub async fn large(&self) {
        let unfinished = || {
            let whole = self.0.whole.load(Ordering::Relaxed);
            self.0.bytes.load(Ordering::Relaxed).saturating_sub(whole)
        };
        while unfinished() <= LARGE {
            self.0.more.notified().await;
        }
    }
}

impl Connected<IncomingStream<'_, Connections>> for Received {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        stream.io().received.clone()
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    received: Received,
    unread: Duration,
    /// The end of the time, while the client takes nothing.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Connection<S> {
    fn new(stream: S, unread: Duration) -> Self {
        Self {
            stream,
            received: Received::default(),
            unread,
            end: None,
        }
    }

    fn bounded<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.end = None;
            return written;
        }
        let end = || Box::pin(tokio::time::sleep(self.unread));
        ready!(self.end.get_or_insert_with(end).as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.received.add(buffer.filled().len() - before);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.bounded(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::IntoFuture,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use axum::{
        Router,
        body::{Body, Bytes},
        routing::get,
    };
    use futures_util::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Says when an answer has been dropped.
    struct Held(Arc<AtomicBool>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Asks a server for an answer without an end, whose clients may take nothing for so long.
    async fn ask(unread: Duration) -> (TcpStream, Arc<AtomicBool>) {
        let dropped = Arc::new(AtomicBool::new(false));
        let seen = dropped.clone();
        let endless = move || {
            let held = Held(seen.clone());
            let parts = stream::repeat_with(move || {
                let _ = &held;
                Ok::<_, io::Error>(Bytes::from_static(&[b'x'; 65_536]))
            });
            async { Body::from_stream(parts) }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/", get(endless));
        let connections = Connections::new(listener, unread);
        tokio::spawn(axum::serve(connections, routes).into_future());
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
        client.write_all(request).await.unwrap();
        (client, dropped)
    }

    #[tokio::test]
    async fn a_client_that_never_reads_is_let_go() {
        let (client, dropped) = ask(Duration::from_millis(300)).await;
        let let_go = async {
            while !dropped.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), let_go)
            .await
            .expect("the answer is given up");
        drop(client);
    }

    #[tokio::test]
    async fn a_message_that_is_not_whole_counts_as_large_from_some_bytes_on() {
        let received = Received::default();
        let is_large = async || {
            let large = tokio::time::timeout(Duration::from_millis(20), received.large());
            large.await.is_ok()
        };
        received.add(16 << 10);
        assert!(!is_large().await);
        received.add(1);
        assert!(is_large().await && is_large().await);
        received.end_message();
        assert!(!is_large().await);
        received.add(16 << 10);
        received.end_message();
        received.add(16 << 10);
        assert!(!is_large().await);
    }

    #[tokio::test]
    async fn one_that_reads_gets_its_answer() {
        let (mut client, dropped) = ask(Duration::from_secs(60)).await;
        let mut bytes = vec![0; 4 << 20];
        client.read_exact(&mut bytes).await.unwrap();
        assert!(!dropped.load(Ordering::Relaxed));
    }
}

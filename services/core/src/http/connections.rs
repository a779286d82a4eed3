//! Connections of clients. One that takes nothing of an answer for too long is closed: nothing else would end it, and it holds what the
//! answer comes from, a file or a call to another service, and what waits to be sent.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
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

/// One connection.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    unread: Duration,
    /// The end of the time, while the client takes nothing.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Connection<S> {
    fn new(stream: S, unread: Duration) -> Self {
        Self {
            stream,
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
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
    async fn one_that_reads_gets_its_answer() {
        let (mut client, dropped) = ask(Duration::from_secs(60)).await;
        let mut bytes = vec![0; 4 << 20];
        client.read_exact(&mut bytes).await.unwrap();
        assert!(!dropped.load(Ordering::Relaxed));
    }
}

//! Connections to the mail server. What it says is bounded in bytes: lettre reads a line to its end before it looks how long it is, and
//! a server that ends none would fill the memory.
//!
//! Of a connection that is to become encrypted by STARTTLS, lettre reads answers through a buffer and keeps the buffer when the
//! connection is encrypted. Somebody between us and the server could send answers right behind the one to STARTTLS: they would be
//! believed as if they had come encrypted, up to "the mail is accepted". So until encryption begins a read gives one byte. The buffer
//! then holds nothing beyond the line that was asked for, and what came too early meets the TLS handshake, which fails.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::io::{AsyncRead as _, AsyncWrite as _};
#[expect(deprecated, reason = "the only way to TLS over a stream of ours")]
use lettre::transport::smtp::client::AsyncNetworkStream;
use lettre::transport::smtp::client::{AsyncTokioStream, TlsParameters};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The first byte of a TLS handshake, which is no letter of a command.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a server may say before encryption: many times a greeting and a list of what it offers.
const MAX_PLAIN_BYTES: usize = 16_384;

/// What a server may say to one mail, encryption and certificates included.
const MAX_BYTES: usize = 262_144;

/// A TCP connection of one mail.
#[derive(Debug)]
pub(super) struct ServerStream {
    tcp: TcpStream,
    /// Until it is encrypted.
    byte_by_byte: bool,
    bytes: usize,
    most: usize,
}

impl ServerStream {
    /// One that stays as it is, or is encrypted from its first byte.
    pub(super) async fn connect(host: &str, port: u16) -> io::Result<Self> {
        let tcp = TcpStream::connect((host, port)).await?;
        Ok(Self {
            tcp,
            byte_by_byte: false,
            bytes: 0,
            most: MAX_BYTES,
        })
    }

    /// One that is to be encrypted by STARTTLS.
    pub(super) fn before_starttls(self) -> Self {
        Self {
            byte_by_byte: true,
            most: MAX_PLAIN_BYTES,
            ..self
        }
    }
}

impl AsyncTokioStream for ServerStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if self.bytes >= self.most {
            return Poll::Ready(Err(io::Error::other("the mail server says too much")));
        }
        let before = buffer.filled().len();
        if self.byte_by_byte {
            let mut byte = [0; 1];
            let mut one = ReadBuf::new(&mut byte);
            ready!(Pin::new(&mut self.tcp).poll_read(context, &mut one))?;
            buffer.put_slice(one.filled());
        } else {
            ready!(Pin::new(&mut self.tcp).poll_read(context, buffer))?;
        }
        self.bytes += buffer.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.byte_by_byte && bytes.first() == Some(&TLS_HANDSHAKE) {
            self.byte_by_byte = false;
            self.most = MAX_BYTES;
        }
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

/// The same, encrypted from its first byte.
#[derive(Debug)]
#[expect(deprecated, reason = "the only way to TLS over a stream of ours")]
pub(super) struct WrappedStream(AsyncNetworkStream);

#[expect(deprecated, reason = "the only way to TLS over a stream of ours")]
impl WrappedStream {
    pub(super) async fn wrap(
        stream: ServerStream,
        tls: TlsParameters,
    ) -> Result<Self, lettre::transport::smtp::Error> {
        let mut stream = AsyncNetworkStream::use_existing_tokio1(Box::new(stream));
        stream.upgrade_tls(tls).await?;
        Ok(Self(stream))
    }
}

impl AsyncTokioStream for WrappedStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }
}

impl AsyncRead for WrappedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.0).poll_read(context, buffer.initialize_unfilled());
        buffer.advance(ready!(read)?);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WrappedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn a_read_gives_one_byte_until_encryption_begins() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = ServerStream::connect("127.0.0.1", port).await.unwrap();
        let mut stream = stream.before_starttls();
        let (mut server, _) = listener.accept().await.unwrap();
        server
            .write_all(b"220 a\r\n250 too early\r\n")
            .await
            .unwrap();
        let mut buffer = [0; 64];
        for expected in b"220 a\r\n" {
            assert_eq!(stream.read(&mut buffer).await.unwrap(), 1);
            assert_eq!(buffer[0], *expected);
        }
        stream.write_all(&[TLS_HANDSHAKE, 3, 1]).await.unwrap();
        let read = stream.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..read], b"250 too early\r\n");
    }

    #[tokio::test]
    async fn a_server_that_talks_without_end_is_cut_off() {
        for (is_plain, most) in [(true, MAX_PLAIN_BYTES), (false, MAX_BYTES)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut stream = ServerStream::connect("127.0.0.1", port).await.unwrap();
            if is_plain {
                stream = stream.before_starttls();
            }
            let (mut server, _) = listener.accept().await.unwrap();
            tokio::spawn(async move { while server.write_all(&[b'x'; 4096]).await.is_ok() {} });
            let mut text = Vec::new();
            assert!(stream.read_to_end(&mut text).await.is_err());
            assert!((most..2 * most).contains(&text.len()), "{}", text.len());
        }
    }
}

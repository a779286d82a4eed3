//! A connection that is to become encrypted by STARTTLS.
//!
//! lettre reads answers through a buffer and keeps the buffer when the connection is encrypted. Somebody between us and the server
//! could send answers right behind the one to STARTTLS: they would be believed as if they had come encrypted, up to "the mail is
//! accepted". So until encryption begins a read gives one byte. The buffer then holds nothing beyond the line that was asked for, and
//! what came too early meets the TLS handshake, which fails.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// The first byte of a TLS handshake, which is no letter of a command.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a server may say before encryption: many times a greeting and a list of what it offers.
const MAX_PLAIN_BYTES: usize = 16_384;

/// A TCP connection, read byte by byte until it is encrypted.
#[derive(Debug)]
pub(super) struct StartTlsStream {
    tcp: TcpStream,
    encrypted: bool,
    plain_bytes: usize,
}

impl StartTlsStream {
    pub(super) async fn connect(host: &str, port: u16) -> io::Result<Self> {
        let tcp = TcpStream::connect((host, port)).await?;
        Ok(Self {
            tcp,
            encrypted: false,
            plain_bytes: 0,
        })
    }
}

impl AsyncTokioStream for StartTlsStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }
}

impl AsyncRead for StartTlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.encrypted || buffer.remaining() == 0 {
            return Pin::new(&mut self.tcp).poll_read(context, buffer);
        }
        if self.plain_bytes == MAX_PLAIN_BYTES {
            return Poll::Ready(Err(io::Error::other("too much before encryption")));
        }
        let mut byte = [0; 1];
        let mut one = ReadBuf::new(&mut byte);
        ready!(Pin::new(&mut self.tcp).poll_read(context, &mut one))?;
        buffer.put_slice(one.filled());
        self.plain_bytes += one.filled().len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StartTlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.encrypted |= bytes.first() == Some(&TLS_HANDSHAKE);
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
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
        let mut stream = StartTlsStream::connect("127.0.0.1", port).await.unwrap();
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut stream = StartTlsStream::connect("127.0.0.1", port).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        tokio::spawn(async move { while server.write_all(&[b'x'; 4096]).await.is_ok() {} });
        let mut text = Vec::new();
        assert!(stream.read_to_end(&mut text).await.is_err());
        assert_eq!(text.len(), MAX_PLAIN_BYTES);
    }
}

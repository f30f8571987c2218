//! A stream of tokio with the interface that the server's loop reads and writes.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use arcp_host::server::Socket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream of bytes in both directions: a TCP stream, an upgraded request, two joined pipes, an in-memory duplex.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + 'static> ByteStream for T {}

/// A stream whose reads and writes never wait: they store the waker instead.
pub(crate) struct Polled {
    stream: Pin<Box<dyn ByteStream>>,
    waker: Waker,
}

impl Polled {
    pub(crate) fn new(stream: Pin<Box<dyn ByteStream>>, waker: Waker) -> Polled {
        Polled { stream, waker }
    }

    fn poll<T>(
        &mut self,
        poll: impl FnOnce(Pin<&mut dyn ByteStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        match poll(self.stream.as_mut(), &mut Context::from_waker(&self.waker)) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Read for Polled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        self.poll(|stream, cx| stream.poll_read(cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl Write for Polled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.poll(|stream, cx| stream.poll_write(cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.poll(|stream, cx| stream.poll_flush(cx))
    }
}

impl Socket for Polled {
    fn shut_down(&mut self) -> io::Result<()> {
        self.poll(|stream, cx| stream.poll_shutdown(cx))
    }
}

//! The stdin of `arcp serve --stdio`, which ends when the parent process closes it or a signal comes.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::flag;
use signal_hook::low_level::pipe;
use tokio::io::{AsyncRead, ReadBuf, Stdin};

use crate::drain;

/// Stdin that also ends at the first signal: agents then have as long as when the parent closes it, and none of their
/// programs is left behind. A second signal ends this program at once.
pub struct Parent {
    /// Readable once a signal has come.
    told: UnixStream,
}

impl Parent {
    /// Handles the signals from now on.
    pub fn new() -> io::Result<Parent> {
        let (told, tell) = UnixStream::pair()?;
        let again = Arc::new(AtomicBool::new(false));
        for signal in drain::signals() {
            flag::register_conditional_default(signal, again.clone())?;
            flag::register(signal, again.clone())?;
            pipe::register(signal, tell.try_clone()?)?;
        }
        Ok(Parent { told })
    }

    /// Reads through tokio instead.
    pub fn into_async(self) -> io::Result<AsyncParent> {
        self.told.set_nonblocking(true)?;
        Ok(AsyncParent { stdin: tokio::io::stdin(), told: tokio::net::UnixStream::from_std(self.told)? })
    }
}

impl Read for Parent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stdin = rustix::stdio::stdin();
        let mut ready = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&self.told, PollFlags::IN)];
        poll(&mut ready, None)?;
        if ready[1].revents().is_empty() { Ok(rustix::io::read(stdin, buffer)?) } else { Ok(0) }
    }
}

/// A [`Parent`] that is read through tokio.
pub struct AsyncParent {
    stdin: Stdin,
    told: tokio::net::UnixStream,
}

impl AsyncRead for AsyncParent {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.told.poll_read_ready(cx) {
            Poll::Ready(told) => Poll::Ready(told),
            Poll::Pending => Pin::new(&mut self.stdin).poll_read(cx, buffer),
        }
    }
}

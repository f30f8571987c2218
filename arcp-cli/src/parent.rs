//! The stdin of `arcp serve --stdio`, which ends when the parent process closes it or a signal comes.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};
use std::time::Duration;

use arcp_host::server_log::log;
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::SIGTERM;
use signal_hook::flag;
use signal_hook::low_level::{emulate_default_handler, pipe};
use tokio::io::{AsyncRead, ReadBuf, Stdin};

use crate::drain;

/// How long the parent and agents may take after the first signal: half a minute for the last answers, five seconds for
/// agents, and a little more.
const LONGEST_END: Duration = Duration::from_secs(40);

/// Stdin that also ends at the first signal: agents then have as long as when the parent closes it, and none of their
/// programs is left behind. A second signal ends this program at once, and so does [`LONGEST_END`]: reading is paused while
/// the store fails or the parent takes no answers, and the end of stdin is not seen then.
pub struct Parent {
    /// Readable once a signal has come.
    told: UnixStream,
}

impl Parent {
    /// Handles the signals from now on.
    pub fn new() -> io::Result<Parent> {
        let (told, tell) = UnixStream::pair()?;
        let (late, tell_late) = UnixStream::pair()?;
        let again = Arc::new(AtomicBool::new(false));
        for signal in drain::signals() {
            flag::register_conditional_default(signal, again.clone())?;
            flag::register(signal, again.clone())?;
            pipe::register(signal, tell.try_clone()?)?;
            pipe::register(signal, tell_late.try_clone()?)?;
        }
        std::thread::Builder::new().name("signals".to_string()).spawn(move || end_late(&late))?;
        Ok(Parent { told })
    }

    /// Reads through tokio instead.
    pub fn into_async(self) -> io::Result<AsyncParent> {
        self.told.set_nonblocking(true)?;
        Ok(AsyncParent { stdin: tokio::io::stdin(), told: tokio::net::UnixStream::from_std(self.told)? })
    }
}

/// Ends this program some time after the first signal.
fn end_late(mut told: &UnixStream) {
    if told.read_exact(&mut [0]).is_ok() {
        std::thread::sleep(LONGEST_END);
        log(format_args!(
            "arcp: stopping at once: {} have passed since the signal",
            humantime::format_duration(LONGEST_END)
        ));
        let _ = emulate_default_handler(SIGTERM);
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

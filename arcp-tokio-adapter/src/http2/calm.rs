//! A bound for frames of HTTP/2 that do nothing for any session.
//!
//! A `PING` or `SETTINGS` costs its sender little, and must be answered. Other frames are read and ignored:
//! `PRIORITY`, `WINDOW_UPDATE`, a `DATA` that is empty or only padding, `RST_STREAM` for an ended stream, and frames
//! of unknown types. The protocol bounds none of them. They are counted here, below HTTP/2 and above TLS. A connection
//! has a credit for such frames; the credit grows with time, and with the data that the connection sends or receives.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The length of what a client sends before its first frame.
const PREFACE_BYTES: usize = 24;
const HEADER_BYTES: usize = 9;
/// How long it takes until an exhausted credit is full again.
const REFILL: Duration = Duration::from_secs(10);
/// The credit for a frame of data in either direction. The receiver enlarges two windows for it, and may send a `PING`
/// to measure the path.
const WITH_DATA: u32 = 4;

/// Frame types.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// The flag of a `DATA` with padding, and the most padding, with its length byte.
const PADDED: u8 = 8;
const PADDING: usize = 256;

/// Whether a connection has exceeded its credit.
#[derive(Clone, Debug, Default)]
pub(super) struct Spent(Arc<AtomicBool>);

impl Spent {
    /// Whether the credit was exceeded.
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The bytes of a connection. It is not read any further once its credit is exceeded.
#[derive(Debug)]
pub(super) struct Counted<T> {
    io: T,
    /// The full credit, and what is left of it.
    most: u32,
    left: u32,
    since: Instant,
    spent: Spent,
    heard: Frames,
    said: Frames,
}

impl<T> Counted<T> {
    /// A connection with this much credit.
    pub(super) fn new(io: T, most: u32) -> Counted<T> {
        let (heard, said) = (Frames { preface: PREFACE_BYTES, ..Frames::default() }, Frames::default());
        Counted { io, most, left: most, since: Instant::now(), spent: Spent::default(), heard, said }
    }

    /// A flag that says whether the credit was exceeded.
    pub(super) fn spent(&self) -> Spent {
        self.spent.clone()
    }

    fn hear(&mut self, bytes: &[u8]) {
        let passed = self.since.elapsed().min(REFILL);
        let back = u64::from(self.most) * passed.as_millis() as u64 / REFILL.as_millis() as u64;
        if back > 0 {
            self.since = Instant::now();
            self.left = self.left.saturating_add(u32::try_from(back).unwrap_or(u32::MAX)).min(self.most);
        }
        let (most, mut left, mut is_spent) = (self.most, self.left, false);
        self.heard.pass(bytes, |kind, is_empty| match kind {
            DATA if !is_empty => left = left.saturating_add(WITH_DATA).min(most),
            // Bounded by the number of streams and the size of headers.
            HEADERS | CONTINUATION => {}
            _ => {
                is_spent |= left == 0;
                left = left.saturating_sub(1);
            }
        });
        self.left = left;
        if is_spent {
            self.spent.0.store(true, Ordering::Relaxed);
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        let (most, mut left) = (self.most, self.left);
        self.said.pass(bytes, |kind, is_empty| {
            if kind == DATA && !is_empty {
                left = left.saturating_add(WITH_DATA).min(most);
            }
        });
        self.left = left;
    }
}

/// The position within the frames of one direction.
#[derive(Debug, Default)]
struct Frames {
    /// Bytes left of the preface.
    preface: usize,
    header: [u8; HEADER_BYTES],
    known: usize,
    /// Bytes left of the payload of the last frame whose header was read.
    payload: usize,
}

impl Frames {
    /// Calls `began` for each frame that begins, with its type and whether it carries no data: it is empty, or may be
    /// only padding.
    fn pass(&mut self, mut bytes: &[u8], mut began: impl FnMut(u8, bool)) {
        while !bytes.is_empty() {
            let skipped = (self.preface + self.payload).min(bytes.len());
            if skipped > 0 {
                bytes = &bytes[skipped..];
                let of_preface = skipped.min(self.preface);
                self.preface -= of_preface;
                self.payload -= skipped - of_preface;
                continue;
            }
            let taken = (HEADER_BYTES - self.known).min(bytes.len());
            self.header[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
            (self.known, bytes) = (self.known + taken, &bytes[taken..]);
            if self.known == HEADER_BYTES {
                let [a, b, c, kind, flags, ..] = self.header;
                self.known = 0;
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                let padding = if kind == DATA && flags & PADDED > 0 { PADDING } else { 0 };
                began(kind, self.payload <= padding);
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.spent.is_so() {
            // The poller checks the flag next.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        let came = buffer.filled().get(before..).unwrap_or_default();
        self.hear(came);
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(n)) = &written {
            self.say(bytes.get(..*n).unwrap_or_default());
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        if let Poll::Ready(Ok(n)) = &written {
            let mut left = *n;
            for part in parts {
                let said = left.min(part.len());
                self.say(part.get(..said).unwrap_or_default());
                left -= said;
            }
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, bytes: usize) -> Vec<u8> {
        let length = u32::try_from(bytes).expect("short").to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, 0, 0, 0, 0, 1];
        frame.extend(vec![kind; bytes]);
        frame
    }

    #[test]
    fn frames_are_told_apart_however_their_bytes_come() {
        let mut bytes = vec![0; PREFACE_BYTES];
        for (kind, size) in [(4, 0), (6, 8), (0, 70_000), (0, 0), (2, 5)] {
            bytes.extend(frame(kind, size));
        }
        for piece in [1, 7, 24, 100_000] {
            let mut frames = Frames { preface: PREFACE_BYTES, ..Frames::default() };
            let mut found = Vec::new();
            bytes.chunks(piece).for_each(|chunk| frames.pass(chunk, |kind, is_empty| found.push((kind, is_empty))));
            assert_eq!(found, [(4, true), (6, false), (0, false), (0, true), (2, false)], "{piece}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_sent_comes_back_with_time_and_with_data() {
        let mut counted = Counted::new((), 10);
        counted.hear(&[0; PREFACE_BYTES]);
        (0..10).for_each(|_| counted.hear(&frame(6, 8)));
        assert!(!counted.spent().is_so());
        counted.hear(&frame(DATA, 100));
        counted.say(&frame(DATA, 100));
        (0..8).for_each(|_| counted.hear(&frame(8, 4)));
        assert!(!counted.spent().is_so(), "with data both ways");
        tokio::time::advance(REFILL / 2).await;
        (0..5).for_each(|_| counted.hear(&frame(DATA, 0)));
        assert!(!counted.spent().is_so(), "with time");
        // Padding is no data, and `RST_STREAM` for an ended stream ends nothing.
        let padded = |bytes: usize| {
            let mut frame = frame(DATA, bytes);
            frame[4] = PADDED;
            frame
        };
        (0..4).for_each(|_| counted.hear(&padded(300)));
        [padded(1), padded(200), frame(3, 4), frame(7, 8)].iter().for_each(|bytes| counted.hear(bytes));
        assert_eq!((counted.left, counted.spent().is_so()), (6, false));
        counted.left = 0;
        // Answers to the peer's frames add no credit.
        counted.say(&frame(6, 8));
        counted.hear(&frame(4, 0));
        assert!(counted.spent().is_so());
    }
}

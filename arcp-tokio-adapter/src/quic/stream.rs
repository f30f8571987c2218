//! The bidirectional stream of a session with the unidirectional streams beside it, each of which carries one binary
//! message. A [`PLACE`] in the session's stream marks the position of a message among the frames. A message that comes
//! before its mark waits unread, and frames after a mark wait for the message.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arcp_host::framing::{Beside, PLACE};
use arcp_proto::id::WireId;
use arcp_proto::limits::Limits;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::GOODBYE;

/// The most streams for binary messages that are open at once, in each direction.
pub(super) const STREAMS: u32 = 4;
/// Frames have priority: a message is of no use without the frame that it belongs to.
const AFTER_FRAMES: i32 = -1;
/// The longest header of a binary message: the length of an id, the id, a sequence.
const HEADER: usize = 2 + WireId::MAX + 8;
/// The most bytes of a message that are read at once.
const PIECE: usize = 16 << 10;
/// How long a client waits for a message.
const PATIENCE: Duration = Duration::from_secs(10);
/// Added to the wait, so that the core's own deadline comes first.
const GRACE: Duration = Duration::from_secs(1);

type Doing<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// A stream whose mark has not come yet, and the deadline for the mark.
type Unclaimed = (RecvStream, Pin<Box<Sleep>>);

/// The binary messages beside a session, and their bounds.
pub(crate) struct Sidecars {
    beside: Beside,
    /// The longest message in bytes.
    most: usize,
    patience: Duration,
    /// The bound of unread bytes for each stream, until the peer has a session and may open streams.
    window: Option<u32>,
}

impl Sidecars {
    pub(crate) fn of_client(beside: Beside, most: usize) -> Sidecars {
        Sidecars { beside, most: most + HEADER, patience: PATIENCE + GRACE, window: None }
    }

    pub(super) fn of_server(beside: Beside, limits: &Limits) -> Sidecars {
        let patience = Duration::from_secs(limits.frame.sidecar_seconds).saturating_add(GRACE);
        let most = limits.frame.sidecar_bytes + HEADER;
        Sidecars { beside, most, patience, window: Some(limits.stream.stream_bytes) }
    }
}

/// Both directions of a session. Dropping it closes the connection.
pub(crate) struct Stream {
    giving: Giving,
    taking: Taking,
    connection: Connection,
    sidecars: Sidecars,
    /// Is ready when everything was written and has arrived.
    arrived: Option<Doing<()>>,
    /// The endpoint of a client, which has one for each connection.
    _endpoint: Option<Endpoint>,
}

impl Stream {
    pub(super) fn new(
        (send, receive): (SendStream, RecvStream),
        connection: Connection,
        sidecars: Sidecars,
        endpoint: Option<Endpoint>,
    ) -> Stream {
        let giving = Giving { send, in_line: false, going: Going::Lines, unheard: VecDeque::new() };
        Stream { giving, taking: Taking::new(receive), connection, sidecars, arrived: None, _endpoint: endpoint }
    }

    /// Allows the peer to open streams, once it has a session.
    fn let_open(&mut self) {
        if let Some(window) = self.sidecars.window.take_if(|_| self.sidecars.beside.is_open()) {
            self.connection.set_receive_window((window * (1 + STREAMS)).into());
            self.connection.set_max_concurrent_uni_streams(STREAMS.into());
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.let_open();
        let Stream { taking, connection, sidecars, .. } = &mut *self;
        taking.poll(cx, (connection, sidecars), buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.let_open();
        let Stream { giving, connection, sidecars, .. } = &mut *self;
        giving.poll(cx, (connection, &sidecars.beside), bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Waits for acknowledgements: closing the connection earlier would discard what has not arrived.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.arrived.is_none() {
            let _ = self.giving.send.finish();
            let stopped = self.giving.send.stopped();
            let beside = std::mem::take(&mut self.giving.unheard);
            self.arrived = Some(Box::pin(async {
                drop(stopped.await);
                for stopped in beside {
                    stopped.await;
                }
            }));
        }
        match &mut self.arrived {
            Some(arrived) => arrived.as_mut().poll(cx).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.close(GOODBYE, b"goodbye");
    }
}

/// The sending side.
struct Giving {
    send: SendStream,
    /// The next byte is not the first of a line.
    in_line: bool,
    going: Going,
    /// Sent messages whose arrival was not acknowledged, at most as many as streams may be open.
    unheard: VecDeque<Doing<()>>,
}

enum Going {
    Lines,
    /// The mark of a message was written, and its stream is being opened.
    Opening(Vec<u8>, Doing<Result<SendStream, ConnectionError>>),
    /// So many bytes of the message were written.
    Message(Vec<u8>, SendStream, usize),
}

impl Giving {
    /// A mark counts as written once its message is written.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (connection, beside): (&Connection, &Beside),
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match &mut self.going {
                Going::Lines => {
                    let is_place = !self.in_line && bytes.first() == Some(&PLACE);
                    let end = if is_place { 1 } else { place(bytes, true).unwrap_or(bytes.len()) };
                    let written = ready!(Pin::new(&mut self.send).poll_write(cx, &bytes[..end]))?;
                    self.in_line = bytes[..written].last().map_or(self.in_line, |last| *last != b'\n');
                    match is_place.then(|| beside.next()).flatten() {
                        None => return Poll::Ready(Ok(written)),
                        Some(message) => {
                            let connection = connection.clone();
                            let opening = Box::pin(async move { connection.open_uni().await });
                            self.going = Going::Opening(message, opening);
                        }
                    }
                }
                Going::Opening(message, opening) => {
                    while self.unheard.len() >= STREAMS as usize
                        && let Some(first) = self.unheard.front_mut()
                    {
                        ready!(first.as_mut().poll(cx));
                        self.unheard.pop_front();
                    }
                    let send = ready!(opening.as_mut().poll(cx))?;
                    let _ = send.set_priority(AFTER_FRAMES);
                    self.going = Going::Message(std::mem::take(message), send, 0);
                }
                Going::Message(message, send, at) => {
                    while *at < message.len() {
                        // A peer that has stopped the stream is not sent the rest.
                        let some = ready!(Pin::new(&mut *send).poll_write(cx, &message[*at..]));
                        let some = some.unwrap_or(message.len() - *at);
                        *at += some;
                        beside.wrote(some);
                    }
                    let _ = send.finish();
                    let stopped = send.stopped();
                    self.unheard.push_back(Box::pin(async { drop(stopped.await) }));
                    self.going = Going::Lines;
                    return Poll::Ready(Ok(1));
                }
            }
        }
    }
}

/// The receiving side.
struct Taking {
    receive: RecvStream,
    /// The next byte is not the first of a line.
    in_line: bool,
    /// Bytes that came after the mark of a message.
    held: Vec<u8>,
    /// A mark was read: the deadline for its message.
    awaited: Option<Pin<Box<Sleep>>>,
    /// The oldest stream whose mark has not come, and the deadline for the mark.
    stream: Option<Unclaimed>,
    opening: Option<Doing<Result<RecvStream, ConnectionError>>>,
    /// How many streams were not opened by their deadline. They are dropped when they come.
    late: u64,
}

impl Taking {
    fn new(receive: RecvStream) -> Taking {
        Taking { receive, in_line: false, held: Vec::new(), awaited: None, stream: None, opening: None, late: 0 }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (connection, sidecars): (&Connection, &Sidecars),
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.awaited.is_some() {
                let line: &[u8] = match ready!(self.poll_message(cx, connection, sidecars)) {
                    // An empty line, so that the reader checks how much has come.
                    Came::Some => b"\n",
                    Came::All => {
                        sidecars.beside.is_whole();
                        &[PLACE, b'\n']
                    }
                    Came::Lost => {
                        sidecars.beside.is_lost();
                        b"\n"
                    }
                };
                buffer.put_slice(line);
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            if self.held.is_empty() {
                if AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buffer)?.is_pending() {
                    ready!(self.poll_unannounced(cx, connection, sidecars));
                    continue;
                }
            } else {
                let some = self.held.len().min(buffer.remaining());
                buffer.put_slice(&self.held[..some]);
                self.held.drain(..some);
            }
            let came = &buffer.filled()[before..];
            let Some(at) = place(came, self.in_line) else {
                self.in_line = came.last().map_or(self.in_line, |last| *last != b'\n');
                return Poll::Ready(Ok(()));
            };
            let behind = came[at + 1..].to_vec();
            self.held.splice(..0, behind);
            self.in_line = false;
            self.awaited = Some(Box::pin(sleep(sidecars.patience)));
            buffer.set_filled(before + at);
            if at > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Is ready when a stream has waited too long for its mark. Its message is then read at this position.
    fn poll_unannounced(&mut self, cx: &mut Context<'_>, connection: &Connection, sidecars: &Sidecars) -> Poll<()> {
        if self.in_line {
            return Poll::Pending;
        }
        // A lost connection shows in the session's stream.
        let Ok((_, until)) = ready!(self.poll_stream(cx, connection, sidecars)) else { return Poll::Pending };
        ready!(until.as_mut().poll(cx));
        self.awaited = Some(Box::pin(sleep(sidecars.patience)));
        Poll::Ready(())
    }

    /// The oldest stream whose mark has not come.
    fn poll_stream(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection,
        sidecars: &Sidecars,
    ) -> Poll<Result<&mut Unclaimed, ConnectionError>> {
        while self.stream.is_none() {
            let opening = self.opening.get_or_insert_with(|| {
                let connection = connection.clone();
                Box::pin(async move { connection.accept_uni().await })
            });
            let opened = ready!(opening.as_mut().poll(cx));
            self.opening = None;
            // A late stream is dropped, which stops its sender.
            let opened = opened?;
            match self.late.checked_sub(1) {
                Some(late) => self.late = late,
                None => self.stream = Some((opened, Box::pin(sleep(sidecars.patience)))),
            }
        }
        self.stream.as_mut().map_or(Poll::Pending, |stream| Poll::Ready(Ok(stream)))
    }

    /// Reads some of the awaited message.
    fn poll_message(&mut self, cx: &mut Context<'_>, connection: &Connection, sidecars: &Sidecars) -> Poll<Came> {
        if self.awaited.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready()) {
            if self.stream.is_none() {
                self.late += 1;
            }
            return Poll::Ready(self.done(Came::Lost));
        }
        let Ok((stream, _)) = ready!(self.poll_stream(cx, connection, sidecars)) else {
            return Poll::Ready(self.done(Came::Lost));
        };
        let mut piece = [0; PIECE];
        let mut piece = ReadBuf::new(&mut piece);
        if ready!(AsyncRead::poll_read(Pin::new(stream), cx, &mut piece)).is_err() {
            return Poll::Ready(self.done(Came::Lost));
        }
        sidecars.beside.push(piece.filled());
        // One byte over the bound is enough to show that the message is too long.
        let is_all = piece.filled().is_empty() || sidecars.beside.came() > sidecars.most;
        Poll::Ready(if is_all { self.done(Came::All) } else { Came::Some })
    }

    /// Ends a message. If more of it would come, dropping its stream stops the sender.
    fn done(&mut self, came: Came) -> Came {
        (self.awaited, self.stream) = (None, None);
        came
    }
}

/// How much of a message has come.
enum Came {
    Some,
    All,
    Lost,
}

/// The position of a mark in these bytes. `in_line`: they do not begin a line.
fn place(bytes: &[u8], in_line: bool) -> Option<usize> {
    if !in_line && bytes.first() == Some(&PLACE) {
        return Some(0);
    }
    bytes.windows(2).position(|two| two == [b'\n', PLACE]).map(|at| at + 1)
}

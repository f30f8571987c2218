//! The stream of a session, and the unidirectional ones beside it, each with one binary
//! message. A [`PLACE`] in the stream says where its message stands among the frames: what
//! comes before its place waits unread, and what comes after waits for the message.

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

/// Streams for binary messages that are open at once, in each direction.
pub(super) const STREAMS: u32 = 4;
/// Frames go first: what is beside them is of no use without.
const AFTER_FRAMES: i32 = -1;
/// What a binary message begins with at most: the length of an id, the id, a sequence.
const HEADER: usize = 2 + WireId::MAX + 8;
/// Bytes that are read of a message at once.
const PIECE: usize = 16 << 10;
/// A client waits as long for a message.
const PATIENCE: Duration = Duration::from_secs(10);
/// The core has waited for long enough by then.
const GRACE: Duration = Duration::from_secs(1);

type Doing<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// A stream that nobody has spoken of yet, and until when somebody may.
type Unclaimed = (RecvStream, Pin<Box<Sleep>>);

/// Where binary messages go and come, and how many may.
pub(crate) struct Sidecars {
    beside: Beside,
    /// Bytes of one.
    most: usize,
    patience: Duration,
    /// Bytes that may be unread of each stream, if peers may open them once they are known.
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

/// Both directions. The connection is closed with it.
pub(crate) struct Stream {
    giving: Giving,
    taking: Taking,
    connection: Connection,
    sidecars: Sidecars,
    /// Everything was written and has arrived.
    arrived: Option<Doing<()>>,
    /// A client's, which has it for this connection alone.
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

    /// A peer that is known may open streams from now on.
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

    /// Closing the connection would throw away what has not arrived.
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

/// What is written.
struct Giving {
    send: SendStream,
    /// The next byte begins no line.
    in_line: bool,
    going: Going,
    /// Ends of messages that have not arrived, as many as may be open.
    unheard: VecDeque<Doing<()>>,
}

enum Going {
    Lines,
    /// The place of a message was written.
    Opening(Vec<u8>, Doing<Result<SendStream, ConnectionError>>),
    /// So much of it was as well.
    Message(Vec<u8>, SendStream, usize),
}

impl Giving {
    /// The place of a message counts as written once all of that is.
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
                        // Who does not want it is not told it.
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

/// What is read.
struct Taking {
    receive: RecvStream,
    /// The next byte begins no line.
    in_line: bool,
    /// What came behind the place of a message.
    held: Vec<u8>,
    /// A place was read: its message is awaited until then.
    awaited: Option<Pin<Box<Sleep>>>,
    /// The oldest stream that nobody has spoken of, and until when somebody may.
    stream: Option<Unclaimed>,
    opening: Option<Doing<Result<RecvStream, ConnectionError>>>,
    /// Streams that were not opened in time: nobody wants them any more.
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
                    // An empty line, so that whoever reads counts what has come.
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

    /// Ready once a stream has been there for too long without a place: that is where it
    /// stands.
    fn poll_unannounced(&mut self, cx: &mut Context<'_>, connection: &Connection, sidecars: &Sidecars) -> Poll<()> {
        if self.in_line {
            return Poll::Pending;
        }
        // A connection that is lost says so in its stream.
        let Ok((_, until)) = ready!(self.poll_stream(cx, connection, sidecars)) else { return Poll::Pending };
        ready!(until.as_mut().poll(cx));
        self.awaited = Some(Box::pin(sleep(sidecars.patience)));
        Poll::Ready(())
    }

    /// The oldest stream that nobody has spoken of.
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
            // One that is late is dropped, which stops it.
            let opened = opened?;
            match self.late.checked_sub(1) {
                Some(late) => self.late = late,
                None => self.stream = Some((opened, Box::pin(sleep(sidecars.patience)))),
            }
        }
        self.stream.as_mut().map_or(Poll::Pending, |stream| Poll::Ready(Ok(stream)))
    }

    /// What came of the message that is awaited.
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
        // One byte too many is enough to say so.
        let is_all = piece.filled().is_empty() || sidecars.beside.came() > sidecars.most;
        Poll::Ready(if is_all { self.done(Came::All) } else { Came::Some })
    }

    /// Nothing more is taken of a message: its stream is stopped, if there is more.
    fn done(&mut self, came: Came) -> Came {
        (self.awaited, self.stream) = (None, None);
        came
    }
}

/// What came of a message.
enum Came {
    Some,
    All,
    Lost,
}

/// Where the place of a message stands in bytes that begin a line, or do not.
fn place(bytes: &[u8], in_line: bool) -> Option<usize> {
    if !in_line && bytes.first() == Some(&PLACE) {
        return Some(0);
    }
    bytes.windows(2).position(|two| two == [b'\n', PLACE]).map(|at| at + 1)
}

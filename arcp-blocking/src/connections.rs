//! The connections of a server: sockets, from the first byte of a request to
//! the last of a goodbye.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use arcp_host::driver::{Driver, Sockets, WriteWindow};
use arcp_host::server_log::log;
use arcp_proto::id::ConnId;
use arcp_proto::limits::Limits;
use arcp_proto::runtime::{CloseReason, Config, Input, Transport};
use mio::net::TcpStream;
use mio::{Interest, Token};
use tungstenite::protocol::Role;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::admission::Admission;
use crate::framing::{Framed, Framing};
use crate::http::{Answer, UpgradePolicy, response};
use crate::partial::Partial;
use crate::stats;

/// The tokens below are the listener and the waker.
const FIRST_CONN: usize = 2;
/// Time for the whole request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a closed connection may take to take its last bytes.
pub(crate) const LINGER: Duration = Duration::from_secs(5);
/// A peer that says nothing is asked by the system whether it is still there:
/// after this time, this often, with this between the questions. Peers without
/// heartbeats are found by it.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_TIMES: u32 = 4;

/// Every connection of the server.
pub(crate) struct Connections {
    registry: mio::Registry,
    pub(crate) by_token: BTreeMap<Token, Connection>,
    next: usize,
    limits: Limits,
    slow_reader_grace: Duration,
    admission: Admission,
    /// The most connections there may be.
    most: usize,
    /// Bytes of pongs that are not written, of all connections.
    pong_bytes: usize,
    partial: Partial,
    pub(crate) due: Due,
    /// When bytes were last written, or a connection ended.
    pub(crate) progress_at: Instant,
}

/// Which connections the next turn has to look at, and what for.
#[derive(Default)]
pub(crate) struct Due {
    /// Something may be read.
    pub(crate) readable: BTreeSet<Token>,
    /// Something may be written.
    pub(crate) dirty: BTreeSet<Token>,
    /// Not paused any more: frames may already be there.
    pub(crate) resumed: BTreeSet<Token>,
    /// When connections are given up: slow heads, slow goodbyes, pongs that
    /// are not read.
    deadlines: BTreeSet<(Instant, Token)>,
    /// Lost connections the core does not know of.
    pub(crate) gone: Vec<ConnId>,
}

impl Due {
    /// Whether something may be read or written at once.
    fn has_work(&self) -> bool {
        !(self.dirty.is_empty() && self.readable.is_empty() && self.resumed.is_empty())
    }

    /// When the next connection is given up.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Takes the next connection that is to be given up by now.
    pub(crate) fn pop_late(&mut self, now: Instant) -> Option<Token> {
        let (at, token) = self.deadlines.first().copied()?;
        (at <= now).then(|| self.deadlines.pop_first())?;
        Some(token)
    }

    /// A connection is gone: it is not read or written any more.
    fn forget(&mut self, token: Token) {
        self.readable.remove(&token);
        self.dirty.remove(&token);
        self.resumed.remove(&token);
    }
}

pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    address: IpAddr,
    stage: Stage,
    pub(crate) phase: Phase,
    writable: bool,
    pub(crate) paused: bool,
    /// Something came while it was paused.
    pub(crate) unread: bool,
    window: WriteWindow,
    deadline: Option<Instant>,
}

/// How far a connection is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It is read and written.
    Open,
    /// What is left is written; what comes is thrown away.
    Goodbye,
    /// Everything is written and our end is shut; the peer's end is awaited.
    Shut,
}

impl Connection {
    fn output(&mut self) -> &mut Vec<u8> {
        match &mut self.stage {
            Stage::Http { out, .. } => out,
            Stage::Open { framing, .. } => framing.output(),
        }
    }

    fn is_written(&mut self) -> bool {
        self.output().is_empty()
    }

    /// Bytes of pongs that are not written, and whether one had to be held
    /// back.
    fn pongs(&self) -> (usize, bool) {
        match &self.stage {
            Stage::Http { .. } => (0, false),
            Stage::Open { framing, .. } => framing.pongs(),
        }
    }

    /// Writes as much as the socket takes; gives how much that was.
    fn write(&mut self) -> io::Result<usize> {
        let mut written = 0;
        while self.writable && !self.is_written() {
            let out = match &mut self.stage {
                Stage::Http { out, .. } => out,
                Stage::Open { framing, .. } => framing.output(),
            };
            match self.socket.write(out) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    written += n;
                    self.wrote(n);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let out = self.output();
        if out.is_empty() && out.capacity() > (16 << 10) {
            // An idle connection holds no memory here.
            *out = Vec::new();
        }
        Ok(written)
    }

    fn wrote(&mut self, bytes: usize) {
        match &mut self.stage {
            Stage::Http { out, .. } => drop(out.drain(..bytes)),
            Stage::Open { framing, .. } => framing.wrote(bytes),
        }
    }
}

enum Stage {
    /// The request head, as far as it has come, and an answer.
    Http { head: Vec<u8>, out: Vec<u8> },
    /// A WebSocket the core knows.
    Open { conn: ConnId, framing: Framing },
}

impl Connections {
    /// No connections, of which there may be `most`.
    pub(crate) fn new(registry: mio::Registry, config: &Config, most: usize) -> Connections {
        let limits = config.limits.clone();
        Connections {
            registry,
            slow_reader_grace: config.timing.slow_reader_grace,
            admission: Admission::new(
                limits.connection.handshaking_connections,
                limits.connection.handshaking_connections_per_network,
            ),
            most,
            pong_bytes: 0,
            partial: Partial::new(limits.connection.partial_bytes),
            progress_at: Instant::now(),
            by_token: BTreeMap::new(),
            next: FIRST_CONN,
            limits,
            due: Due::default(),
        }
    }

    /// Whether one more would be too many and none can go for it.
    pub(crate) fn is_full(&self) -> bool {
        self.by_token.len() >= self.most && self.admission.first().is_none()
    }

    /// Adds a connection that was just accepted. Another one goes where there
    /// are too many.
    pub(crate) fn add(&mut self, mut socket: TcpStream, peer: SocketAddr) {
        while self.by_token.len() >= self.most
            && let Some(other) = self.admission.first()
        {
            self.drop_now(other);
        }
        let token = Token(self.next);
        self.next += 1;
        let _ = socket.set_nodelay(true);
        // Without it only heartbeats tell that a peer is gone.
        let _ = keep_alive(&socket);
        if self.registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE).is_err() {
            return;
        }
        let connection = Connection {
            socket,
            address: peer.ip(),
            stage: Stage::Http { head: Vec::new(), out: Vec::new() },
            phase: Phase::Open,
            writable: true,
            paused: false,
            unread: false,
            window: WriteWindow::default(),
            deadline: None,
        };
        self.by_token.insert(token, connection);
        self.set_deadline(token, Some(Instant::now() + HEAD_TIMEOUT));
        self.due.readable.insert(token);
        if let Some(other) = self.admission.enter(token, peer.ip()) {
            log(format_args!("arcp: too many connections without a session: the one silent for longest was closed"));
            self.drop_now(other);
        }
    }

    pub(crate) fn note(&mut self, token: Token, readable: bool, writable: bool) {
        if let Some(connection) = self.by_token.get_mut(&token) {
            if readable {
                self.due.readable.insert(token);
            }
            if writable && connection.phase != Phase::Shut {
                connection.writable = true;
                self.due.dirty.insert(token);
            }
        }
    }

    pub(crate) fn has_work(&self) -> bool {
        self.due.has_work()
    }

    /// Takes bytes from a socket. Gives what the core must be told before
    /// any frame.
    pub(crate) fn take(&mut self, token: Token, bytes: &[u8], upgrades: &UpgradePolicy, driver: &Driver) -> Vec<Input> {
        let Some(connection) = self.by_token.get_mut(&token) else {
            return Vec::new();
        };
        let head = match &mut connection.stage {
            Stage::Open { framing, .. } => {
                framing.feed(bytes);
                return Vec::new();
            }
            Stage::Http { head, .. } => head,
        };
        head.extend_from_slice(bytes);
        match upgrades.answer(head) {
            Answer::More => Vec::new(),
            Answer::Upgrade { response, head: length } => {
                let rest = head.split_off(length);
                self.upgrade(token, &response, &rest)
            }
            Answer::Health => {
                let text = if driver.stats().store_failed {
                    response(503, "Service Unavailable", "the store is failing")
                } else {
                    response(200, "OK", "ok")
                };
                self.answer(token, &text);
                Vec::new()
            }
            Answer::Stats(bearer) => {
                self.answer(token, &stats::answer(driver, bearer));
                Vec::new()
            }
            Answer::Refuse(text) => {
                self.answer(token, &text);
                Vec::new()
            }
        }
    }

    fn upgrade(&mut self, token: Token, response: &str, rest: &[u8]) -> Vec<Input> {
        let conn = ConnId(token.0 as u64);
        let mut framing = Framing::websocket(Role::Server, self.limits.frame.handshake_frame_bytes);
        framing.output().extend_from_slice(response.as_bytes());
        framing.feed(rest);
        self.set_deadline(token, None);
        self.admission.heard(token);
        let mut address = None;
        if let Some(connection) = self.by_token.get_mut(&token) {
            connection.stage = Stage::Open { conn, framing };
            address = Some(connection.address);
        }
        self.due.dirty.insert(token);
        vec![
            Input::Opened { conn, transport: Transport::WebSocket, address, binding: None, peer: None },
            WriteWindow::opening_credit(conn),
        ]
    }

    fn answer(&mut self, token: Token, text: &str) {
        if let Some(connection) = self.by_token.get_mut(&token)
            && let Stage::Http { out, .. } = &mut connection.stage
        {
            out.extend_from_slice(text.as_bytes());
        }
        self.finish(token);
    }

    pub(crate) fn next_frame(&mut self, token: Token) -> Option<(ConnId, Framed)> {
        let connection = self.by_token.get_mut(&token)?;
        if connection.paused || connection.phase != Phase::Open {
            return None;
        }
        let Stage::Open { conn, framing } = &mut connection.stage else {
            return None;
        };
        let (own, _) = framing.pongs();
        let others = self.pong_bytes - own;
        framing.hold_pongs_up_to(
            self.limits
                .connection
                .pong_bytes_per_connection
                .min(self.limits.connection.pong_bytes.saturating_sub(others)),
        );
        let (conn, framed) = (*conn, framing.next());
        self.pong_bytes = others + framing.pongs().0;
        // Reading may have produced something to write, such as a pong.
        if !framing.output().is_empty() {
            self.due.dirty.insert(token);
        }
        let (partial, address) = (framing.partial(), connection.address);
        match framed {
            Some(framed) => {
                self.partial.leave(token);
                self.admission.heard(token);
                Some((conn, framed))
            }
            None => {
                self.hold_partial(token, address, partial);
                None
            }
        }
    }

    /// What has come is of no whole message. Where there is too much of that,
    /// some connections go.
    fn hold_partial(&mut self, token: Token, address: IpAddr, bytes: usize) {
        let mut over = self.partial.hold(token, address, bytes);
        while let Some(other) = over {
            log(format_args!(
                "arcp: too many bytes of unfinished messages: the connection that began first was closed"
            ));
            self.drop_now(other);
            over = self.partial.over();
        }
    }

    /// Writes what there is; gives the credit of what was written.
    pub(crate) fn flush(&mut self, token: Token) -> Option<Input> {
        let connection = self.by_token.get_mut(&token)?;
        if connection.phase == Phase::Shut {
            return None;
        }
        let (own, _) = connection.pongs();
        let Ok(written) = connection.write() else {
            self.drop_now(token);
            return None;
        };
        let (pongs, held) = connection.pongs();
        self.pong_bytes = self.pong_bytes - own + pongs;
        if written > 0 {
            self.progress_at = Instant::now();
        }
        let all = connection.is_written();
        let credit = match connection.stage {
            Stage::Http { .. } => None,
            Stage::Open { conn, .. } if all => connection.window.all_written(conn),
            Stage::Open { conn, .. } => connection.window.written(conn, written),
        };
        match (connection.phase, &connection.stage) {
            (Phase::Open, Stage::Open { .. }) => {
                // A pong that cannot be written is a peer that reads too slowly.
                let since = connection.deadline.filter(|_| written == 0);
                let until = held.then(|| since.unwrap_or_else(|| Instant::now() + self.slow_reader_grace));
                self.set_deadline(token, until);
            }
            (Phase::Goodbye, _) if all => {
                // Shut once: each time the system reports it as writable again.
                connection.phase = Phase::Shut;
                let _ = connection.socket.shutdown(Shutdown::Write);
                self.due.readable.insert(token);
            }
            (Phase::Open | Phase::Goodbye | Phase::Shut, _) => {}
        }
        credit
    }

    /// Reads no more, writes what is left, then ends.
    pub(crate) fn finish(&mut self, token: Token) {
        let until = Instant::now() + LINGER;
        let Some(connection) = self.by_token.get_mut(&token) else {
            return;
        };
        if connection.phase == Phase::Open {
            connection.phase = Phase::Goodbye;
            self.admission.goodbye(token, connection.address);
            self.due.dirty.insert(token);
            self.set_deadline(token, Some(until));
        }
    }

    /// Gives a connection up; the core will be told.
    pub(crate) fn drop_now(&mut self, token: Token) {
        if let Some(Stage::Open { conn, .. }) = self.by_token.get(&token).map(|connection| &connection.stage) {
            self.due.gone.push(*conn);
        }
        self.remove(token);
    }

    fn remove(&mut self, token: Token) {
        self.set_deadline(token, None);
        self.admission.leave(token);
        self.partial.leave(token);
        if let Some(mut connection) = self.by_token.remove(&token) {
            self.progress_at = Instant::now();
            self.pong_bytes -= connection.pongs().0;
            let _ = self.registry.deregister(&mut connection.socket);
        }
        self.due.forget(token);
    }

    /// A connection that the core knows: it has not been told goodbye.
    fn known(&mut self, conn: ConnId) -> Option<(Token, &mut Connection)> {
        let token = Token(usize::try_from(conn.0).ok()?);
        let connection = self.by_token.get_mut(&token).filter(|connection| connection.phase == Phase::Open)?;
        Some((token, connection))
    }

    /// The frames of a connection that the core knows.
    fn framing(&mut self, conn: ConnId) -> Option<(Token, &mut Framing)> {
        let (token, connection) = self.known(conn)?;
        match &mut connection.stage {
            Stage::Http { .. } => None,
            Stage::Open { framing, .. } => Some((token, framing)),
        }
    }

    fn set_deadline(&mut self, token: Token, at: Option<Instant>) {
        if let Some(connection) = self.by_token.get_mut(&token) {
            if let Some(old) = std::mem::replace(&mut connection.deadline, at) {
                self.due.deadlines.remove(&(old, token));
            }
            self.due.deadlines.extend(at.map(|at| (at, token)));
        }
    }
}

impl Sockets for Connections {
    fn send(&mut self, conn: ConnId, frame: String) {
        if let Some((token, connection)) = self.known(conn)
            && let Stage::Open { framing, .. } = &mut connection.stage
        {
            connection.window.queued(&frame);
            framing.write(frame);
            self.due.dirty.insert(token);
        }
    }

    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        if let Some((token, framing)) = self.framing(conn) {
            let (code, words) = goodbye(reason);
            framing.close(code, words);
            self.finish(token);
        }
    }

    fn fragment(&mut self, conn: ConnId, bytes: usize) {
        if let Some((_, framing)) = self.framing(conn) {
            framing.fragment(bytes);
        }
    }

    fn raise_frame_limit(&mut self, conn: ConnId) {
        let most = self.limits.frame.frame_bytes;
        if let Some((token, framing)) = self.framing(conn) {
            framing.take_up_to(most);
            self.admission.leave(token);
        }
    }

    fn pause_reading(&mut self, conn: ConnId) {
        if let Some((_, connection)) = self.known(conn) {
            connection.paused = true;
        }
    }

    fn resume_reading(&mut self, conn: ConnId) {
        if let Some((token, connection)) = self.known(conn) {
            connection.paused = false;
            let unread = std::mem::take(&mut connection.unread);
            self.due.resumed.insert(token);
            if unread {
                self.due.readable.insert(token);
            }
        }
    }
}

/// How many connections the limit of open files leaves room for.
pub(crate) fn descriptors_for_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).map_or(usize::MAX, |limit| limit - reserved(limit))
}

/// Descriptors kept for the store, its readers and the pipes of agents: a
/// quarter of all, but no more than they can use.
fn reserved(limit: usize) -> usize {
    (limit / 4).min(1024)
}

fn keep_alive(socket: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_TIMES)
}

/// Every close is a clean one, with a reason.
fn goodbye(reason: CloseReason) -> (CloseCode, &'static str) {
    match reason {
        CloseReason::Goodbye => (CloseCode::Normal, "goodbye"),
        CloseReason::Refused => (CloseCode::Normal, "refused"),
        CloseReason::HandshakeTimeout => (CloseCode::Normal, "no session was opened in time"),
        CloseReason::HeartbeatLost => (CloseCode::Normal, "heartbeat lost"),
        CloseReason::Evicted => (CloseCode::Normal, "the session was taken back"),
        CloseReason::TakenOver => (CloseCode::Normal, "resumed on another connection"),
        CloseReason::SlowReader => (CloseCode::Policy, "reading too slowly"),
        CloseReason::Flood => (CloseCode::Policy, "asking faster than reading"),
        CloseReason::TooMany => (CloseCode::Again, "too many connections"),
        CloseReason::HistoryLost => (CloseCode::Error, "history is no longer kept"),
        CloseReason::StoreFailed => (CloseCode::Again, "history cannot be read now"),
        CloseReason::Shutdown => (CloseCode::Away, "shutting down"),
        CloseReason::TooLong => (CloseCode::Size, "a message was too long"),
    }
}

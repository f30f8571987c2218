//! The server: one port, one loop, any number of sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use arcp_proto::id::ConnId;
use arcp_proto::limits::Limits;
use arcp_proto::runtime::{CloseReason, Input, Operator, Transport};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use tungstenite::protocol::Role;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::engine::{Engine, Host, HostError, Links, Wake};
use crate::framing::{Framed, Framing};
use crate::http::{Answer, Gate, response};

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_CONN: usize = 2;

/// Time for the whole request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a closed connection may take to take its last bytes.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes and frames the core may have in flight per connection.
const WINDOW_BYTES: u32 = 256 << 10;
const WINDOW_FRAMES: u32 = 512;
/// Unwritten bytes at which a connection is not read any more.
const CLOGGED_BYTES: usize = 4 << 20;
/// Bytes read from one connection before others get their turn.
const READ_TURN: usize = 256 << 10;
/// How long not to accept when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where and for whom to listen.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The address; port 0 picks one.
    pub listen: SocketAddr,
    /// The path of the WebSocket, such as `/arcp`.
    pub path: String,
    /// Host names served besides those of the loopback.
    pub allow_hosts: Vec<String>,
    /// Web origins that may connect; by default none.
    pub allow_origins: Vec<String>,
    /// How long running agents may go on after a drain was asked for.
    pub drain_grace: Duration,
}

impl ServerConfig {
    /// Path `/arcp`, loopback names only, ten seconds to drain.
    pub fn new(listen: SocketAddr) -> ServerConfig {
        ServerConfig {
            listen,
            path: "/arcp".to_string(),
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            drain_grace: Duration::from_secs(10),
        }
    }
}

/// A WebSocket server.
pub struct Server {
    poll: Poll,
    listener: Option<TcpListener>,
    address: SocketAddr,
    engine: Engine,
    connections: Connections,
    gate: Gate,
    control: Arc<Control>,
    drain_grace: Duration,
    drain_until: Option<Instant>,
    /// Everything was told goodbye.
    ending: bool,
    accept_at: Option<Instant>,
    buffer: Vec<u8>,
}

/// Tells a running server to stop.
#[derive(Clone)]
pub struct ServerHandle(Arc<Control>);

struct Control {
    asked: AtomicU8,
    waker: Arc<Waker>,
}

impl ServerHandle {
    /// Takes no new connections and jobs, waits for running agents within
    /// the grace, then closes every connection in order.
    pub fn drain(&self) {
        self.ask(1);
    }

    /// Closes every connection in order now.
    pub fn shutdown(&self) {
        self.ask(2);
    }

    fn ask(&self, what: u8) {
        self.0.asked.fetch_max(what, Ordering::SeqCst);
        let _ = self.0.waker.wake();
    }
}

struct PollWake(Arc<Waker>);

impl Wake for PollWake {
    fn wake(&self) {
        // It fails only when the poll is gone, and with it the server.
        let _ = self.0.wake();
    }
}

impl Server {
    /// Binds the port. Nothing is served before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// If the port cannot be had, or the configuration cannot work.
    pub fn bind(config: &ServerConfig, host: Host) -> Result<Server, HostError> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut listener = TcpListener::bind(config.listen)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let limits = host.config.limits.clone();
        Ok(Server {
            address: listener.local_addr()?,
            listener: Some(listener),
            engine: Engine::new(host, Box::new(PollWake(waker.clone())))?,
            connections: Connections::new(poll.registry().try_clone()?, limits),
            gate: Gate {
                path: config.path.clone(),
                hosts: config.allow_hosts.clone(),
                origins: config.allow_origins.clone(),
            },
            control: Arc::new(Control { asked: AtomicU8::new(0), waker }),
            drain_grace: config.drain_grace,
            drain_until: None,
            ending: false,
            accept_at: None,
            buffer: vec![0; 64 << 10],
            poll,
        })
    }

    /// The address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stops it, from another thread.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle(self.control.clone())
    }

    /// Serves until it is told to stop and everything is closed.
    ///
    /// # Errors
    ///
    /// If the system's readiness queue fails.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let wait = self.next_wait();
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    token => {
                        self.connections.note(token, event.is_readable() || event.is_read_closed(), event.is_writable())
                    }
                }
            }
            self.turn();
            if self.stopped() {
                return Ok(());
            }
        }
    }

    /// Everything there is to do without waiting.
    fn turn(&mut self) {
        self.connections.more = self.engine.take_inbox();
        self.engine.drain(&mut self.connections);
        for token in std::mem::take(&mut self.connections.readable) {
            self.read(token);
            self.engine.drain(&mut self.connections);
        }
        if self.engine.wait() == Some(Duration::ZERO) {
            self.engine.input(Input::Tick);
            self.engine.drain(&mut self.connections);
        }
        // What is written gives credit, and credit lets the core send more: in
        // the next turn, so that everybody gets theirs.
        for token in std::mem::take(&mut self.connections.dirty) {
            if let Some(credit) = self.connections.flush(token) {
                self.engine.input(credit);
                self.engine.drain(&mut self.connections);
            }
        }
        self.expire();
        for conn in std::mem::take(&mut self.connections.gone) {
            self.engine.input(Input::Closed { conn });
        }
        self.engine.drain(&mut self.connections);
    }

    fn next_wait(&self) -> Option<Duration> {
        if self.connections.has_work() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let ours = self.connections.deadlines.first().map(|(at, _)| *at);
        let others = [ours, self.drain_until, self.accept_at];
        let local =
            others.into_iter().flatten().min().map(|at| at.saturating_duration_since(now) + Duration::from_millis(1));
        self.engine.wait().into_iter().chain(local).min()
    }

    fn accept(&mut self) {
        while let Some(listener) = &self.listener {
            match listener.accept() {
                Ok((socket, _)) => self.connections.add(socket),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // No descriptors: those waiting stay in the backlog.
                Err(_) => {
                    self.accept_at = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn read(&mut self, token: Token) {
        let mut taken = 0;
        while let Some(connection) = self.connections.by_token.get_mut(&token) {
            if connection.paused && !connection.closing {
                connection.unread = true;
                return;
            }
            if connection.is_clogged() {
                connection.unread = true;
                return;
            }
            if taken >= READ_TURN {
                // Others first; the rest comes in the next turn.
                self.connections.readable.insert(token);
                return;
            }
            match connection.socket.read(&mut self.buffer) {
                Ok(0) => return self.connections.drop_now(token),
                // What comes after the goodbye is thrown away, but it is read: a
                // socket closed over unread bytes would take the goodbye back.
                Ok(n) if connection.closing => taken += n,
                Ok(n) => {
                    taken += n;
                    let (connections, buffer) = (&mut self.connections, &self.buffer[..n]);
                    if let Some(input) = connections.take(token, buffer, &self.gate, &self.engine) {
                        for input in input {
                            self.engine.input(input);
                        }
                    }
                    self.frames(token);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.connections.drop_now(token),
            }
        }
    }

    /// Hands whole frames to the core, one at a time: it may ask for a pause
    /// after any of them.
    fn frames(&mut self, token: Token) {
        while let Some((conn, framed)) = self.connections.next_frame(token) {
            match framed {
                Framed::Frame(frame) => {
                    self.engine.input(Input::Received { conn, frame });
                    self.engine.drain(&mut self.connections);
                }
                Framed::End(_) => {
                    self.engine.input(Input::Closed { conn });
                    self.connections.finish(token);
                    return;
                }
            }
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some((at, token)) = self.connections.deadlines.first().copied() {
            if at > now {
                break;
            }
            self.connections.deadlines.pop_first();
            self.connections.drop_now(token);
        }
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept_at = None;
            self.accept();
        }
        for token in std::mem::take(&mut self.connections.resumed) {
            self.frames(token);
        }
    }

    fn stopped(&mut self) -> bool {
        let asked = self.control.asked.load(Ordering::SeqCst);
        if asked == 0 {
            return false;
        }
        if let Some(mut listener) = self.listener.take() {
            let _ = self.poll.registry().deregister(&mut listener);
            self.engine.input(Input::Operator(Operator::Drain));
            self.drain_until = Some(Instant::now() + self.drain_grace);
        }
        let idle = self.engine.stats().unfinished_jobs == 0 && self.engine.running_agents() == 0;
        let late = self.drain_until.is_some_and(|until| until <= Instant::now());
        if self.ending {
            return late || self.connections.by_token.is_empty();
        }
        if idle || late || asked > 1 {
            self.ending = true;
            self.drain_until = Some(Instant::now() + LINGER);
            self.engine.input(Input::Operator(Operator::Shutdown));
            self.turn();
        }
        self.ending && self.connections.by_token.is_empty()
    }
}

/// Every connection of the server.
struct Connections {
    registry: mio::Registry,
    by_token: BTreeMap<Token, Connection>,
    by_conn: BTreeMap<ConnId, Token>,
    next: usize,
    limits: Limits,
    /// Something may be read.
    readable: BTreeSet<Token>,
    /// Something may be written.
    dirty: BTreeSet<Token>,
    /// Not paused any more: frames may already be there.
    resumed: BTreeSet<Token>,
    /// When connections are given up: slow heads, slow goodbyes.
    deadlines: BTreeSet<(Instant, Token)>,
    /// Lost connections the core does not know of.
    gone: Vec<ConnId>,
    /// The inbox holds more.
    more: bool,
}

struct Connection {
    socket: TcpStream,
    stage: Stage,
    writable: bool,
    paused: bool,
    /// Something came while it was paused.
    unread: bool,
    /// Nothing is read any more; it ends when everything is written.
    closing: bool,
    /// Credit the core gets back when everything is written.
    owed: (u32, u32),
    deadline: Option<Instant>,
}

impl Connection {
    /// Whether so much waits to be written that nothing more is read: even
    /// a pong is an answer.
    fn is_clogged(&mut self) -> bool {
        match &mut self.stage {
            Stage::Http { .. } => false,
            Stage::Open { framing, .. } => framing.output().len() > CLOGGED_BYTES,
        }
    }

    /// The credit for what was written: bytes, and frames in proportion.
    fn credit_for(&mut self, written: usize) -> Option<Input> {
        let Stage::Open { conn, .. } = self.stage else {
            return None;
        };
        let (owed, frames) = self.owed;
        let bytes = u32::try_from(written).unwrap_or(u32::MAX).min(owed);
        let share =
            if bytes == owed { frames } else { (u64::from(frames) * u64::from(bytes) / u64::from(owed)) as u32 };
        self.owed = (owed - bytes, frames - share);
        (bytes > 0).then_some(Input::Credit { conn, bytes, frames: share })
    }
}

enum Stage {
    /// The request head, as far as it has come, and an answer.
    Http { head: Vec<u8>, out: Vec<u8> },
    /// A WebSocket the core knows.
    Open { conn: ConnId, framing: Framing },
}

impl Connections {
    fn new(registry: mio::Registry, limits: Limits) -> Connections {
        Connections {
            registry,
            by_token: BTreeMap::new(),
            by_conn: BTreeMap::new(),
            next: FIRST_CONN,
            limits,
            readable: BTreeSet::new(),
            dirty: BTreeSet::new(),
            resumed: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            gone: Vec::new(),
            more: false,
        }
    }

    fn add(&mut self, mut socket: TcpStream) {
        let token = Token(self.next);
        self.next += 1;
        let _ = socket.set_nodelay(true);
        if self.registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE).is_err() {
            return;
        }
        let deadline = Instant::now() + HEAD_TIMEOUT;
        self.deadlines.insert((deadline, token));
        let stage = Stage::Http { head: Vec::new(), out: Vec::new() };
        let connection = Connection {
            socket,
            stage,
            writable: true,
            paused: false,
            unread: false,
            closing: false,
            owed: (0, 0),
            deadline: Some(deadline),
        };
        self.by_token.insert(token, connection);
        self.readable.insert(token);
    }

    fn note(&mut self, token: Token, readable: bool, writable: bool) {
        if let Some(connection) = self.by_token.get_mut(&token) {
            if readable {
                self.readable.insert(token);
            }
            if writable {
                connection.writable = true;
                self.dirty.insert(token);
            }
        }
    }

    fn has_work(&self) -> bool {
        self.more || !(self.dirty.is_empty() && self.readable.is_empty() && self.resumed.is_empty())
    }

    /// Takes bytes from a socket. Gives what the core must be told before
    /// any frame.
    fn take(&mut self, token: Token, bytes: &[u8], gate: &Gate, engine: &Engine) -> Option<Vec<Input>> {
        let connection = self.by_token.get_mut(&token)?;
        let head = match &mut connection.stage {
            Stage::Open { framing, .. } => {
                framing.feed(bytes);
                return None;
            }
            Stage::Http { head, .. } => head,
        };
        head.extend_from_slice(bytes);
        match gate.answer(head) {
            Answer::More => None,
            Answer::Upgrade { response, head: length } => {
                let rest = head.split_off(length);
                Some(self.upgrade(token, &response, &rest))
            }
            Answer::Health => {
                let text = if engine.stats().store_failed {
                    response(503, "Service Unavailable", "the store is failing")
                } else {
                    response(200, "OK", "ok")
                };
                self.answer(token, &text);
                None
            }
            Answer::Refuse(text) => {
                self.answer(token, &text);
                None
            }
        }
    }

    fn upgrade(&mut self, token: Token, response: &str, rest: &[u8]) -> Vec<Input> {
        let conn = ConnId(token.0 as u64);
        let mut framing = Framing::websocket(Role::Server, self.limits.handshake_frame_bytes);
        framing.output().extend_from_slice(response.as_bytes());
        framing.feed(rest);
        self.set_deadline(token, None);
        if let Some(connection) = self.by_token.get_mut(&token) {
            connection.stage = Stage::Open { conn, framing };
        }
        self.by_conn.insert(conn, token);
        self.dirty.insert(token);
        vec![
            Input::Opened { conn, transport: Transport::WebSocket, peer: None },
            Input::Credit { conn, bytes: WINDOW_BYTES, frames: WINDOW_FRAMES },
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

    fn next_frame(&mut self, token: Token) -> Option<(ConnId, Framed)> {
        let connection = self.by_token.get_mut(&token)?;
        if connection.paused || connection.closing {
            return None;
        }
        let Stage::Open { conn, framing } = &mut connection.stage else {
            return None;
        };
        let (conn, framed) = (*conn, framing.next());
        // Reading may have produced something to write, such as a pong.
        if !framing.output().is_empty() {
            self.dirty.insert(token);
        }
        Some((conn, framed?))
    }

    /// Writes what there is; gives the credit of what was written.
    fn flush(&mut self, token: Token) -> Option<Input> {
        let connection = self.by_token.get_mut(&token)?;
        let out = match &mut connection.stage {
            Stage::Http { out, .. } => out,
            Stage::Open { framing, .. } => framing.output(),
        };
        let mut written = 0;
        let mut broken = false;
        while connection.writable && written < out.len() {
            match connection.socket.write(&out[written..]) {
                Ok(0) => broken = true,
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => broken = true,
            }
            if broken {
                self.drop_now(token);
                return None;
            }
        }
        out.drain(..written);
        if !out.is_empty() {
            return connection.credit_for(written);
        }
        if out.capacity() > (16 << 10) {
            // An idle connection holds no memory here.
            *out = Vec::new();
        }
        if connection.closing {
            // The peer's end of it is read until it is over, within LINGER.
            let _ = connection.socket.shutdown(std::net::Shutdown::Write);
            self.readable.insert(token);
            return None;
        }
        if !connection.paused && std::mem::take(&mut connection.unread) {
            self.readable.insert(token);
        }
        connection.credit_for(usize::MAX)
    }

    /// Reads no more, writes what is left, then ends.
    fn finish(&mut self, token: Token) {
        let until = Instant::now() + LINGER;
        if let Some(connection) = self.by_token.get_mut(&token) {
            connection.closing = true;
            if let Stage::Open { conn, .. } = connection.stage {
                self.by_conn.remove(&conn);
            }
            self.dirty.insert(token);
        }
        self.set_deadline(token, Some(until));
    }

    /// Gives a connection up; the core will be told.
    fn drop_now(&mut self, token: Token) {
        if let Some(Stage::Open { conn, .. }) = self.by_token.get(&token).map(|connection| &connection.stage) {
            self.gone.push(*conn);
        }
        self.remove(token);
    }

    fn remove(&mut self, token: Token) {
        self.set_deadline(token, None);
        if let Some(mut connection) = self.by_token.remove(&token) {
            let _ = self.registry.deregister(&mut connection.socket);
            if let Stage::Open { conn, .. } = connection.stage {
                self.by_conn.remove(&conn);
            }
        }
        self.readable.remove(&token);
        self.dirty.remove(&token);
        self.resumed.remove(&token);
    }

    fn set_deadline(&mut self, token: Token, at: Option<Instant>) {
        if let Some(connection) = self.by_token.get_mut(&token) {
            if let Some(old) = std::mem::replace(&mut connection.deadline, at) {
                self.deadlines.remove(&(old, token));
            }
            self.deadlines.extend(at.map(|at| (at, token)));
        }
    }
}

impl Links for Connections {
    fn send(&mut self, conn: ConnId, frame: String) {
        let Some(token) = self.by_conn.get(&conn).copied() else {
            return;
        };
        if let Some(connection) = self.by_token.get_mut(&token)
            && let Stage::Open { framing, .. } = &mut connection.stage
        {
            connection.owed.0 += u32::try_from(frame.len()).unwrap_or(u32::MAX);
            connection.owed.1 += 1;
            framing.write(frame);
            self.dirty.insert(token);
        }
    }

    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        let Some(token) = self.by_conn.get(&conn).copied() else {
            return;
        };
        if let Some(Stage::Open { framing, .. }) = self.by_token.get_mut(&token).map(|c| &mut c.stage) {
            let (code, words) = goodbye(reason);
            framing.close(code, words);
        }
        self.finish(token);
    }

    fn admit(&mut self, conn: ConnId) {
        let connection = self.by_conn.get(&conn).and_then(|token| self.by_token.get_mut(token));
        if let Some(Stage::Open { framing, .. }) = connection.map(|connection| &mut connection.stage) {
            framing.take_up_to(self.limits.frame_bytes);
        }
    }

    fn pause(&mut self, conn: ConnId, paused: bool) {
        let Some(token) = self.by_conn.get(&conn).copied() else {
            return;
        };
        if let Some(connection) = self.by_token.get_mut(&token) {
            connection.paused = paused;
            if !paused {
                self.resumed.insert(token);
                if std::mem::take(&mut connection.unread) {
                    self.readable.insert(token);
                }
            }
        }
    }
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
    }
}

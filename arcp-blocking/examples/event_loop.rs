//! A complete ARCP server in one thread, on its own readiness loop. It uses the driver of `arcp-host` and sockets, and
//! nothing of this crate: it shows what embedding takes.
//!
//! ```text
//! cargo run -p arcp-blocking --example event_loop        # prints its URL and a token
//! arcp submit echo --input '"hi"' --url ws://127.0.0.1:PORT/ --token TOKEN
//! ```

#![allow(clippy::print_stderr, reason = "its URL and its token are told once, at the start")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arcp_host::agent::{Inbox, Outcome};
use arcp_host::auth::BearerTokens;
use arcp_host::driver::{Driver, Fenced, Host, HostError, Sockets, WriteWindow};
use arcp_host::registry::Registry;
use arcp_proto::id::{ConnId, Principal};
use arcp_proto::runtime::{AgentSpec, CloseReason, Config, Input, Operator, Transport};
use arcp_proto::secret::Secret;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use tungstenite::handshake::server::{NoCallback, ServerHandshake};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::{Message, WebSocket};

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_CONN: usize = 2;

fn main() -> Result<(), HostError> {
    let mut registry = Registry::default();
    registry.add_inline("echo", None, |job: &AgentSpec| Ok(Outcome::Json(job.input.clone())));
    let (mut tokens, token) = (BearerTokens::default(), arcp_host::entropy::token()?);
    tokens.add(&Secret::new(token.clone()), Principal::new("owner").ok_or_else(|| io::Error::other("no name"))?);
    let host = Host::new(Config::new("event-loop", "1.0.0"), registry).with_authenticator(tokens);
    let mut server = EventLoop::bind(SocketAddr::from(([127, 0, 0, 1], 0)), host)?;
    eprintln!("READY ws://{}/ --token {token}", server.address()?);
    loop {
        server.turn()?;
    }
}

/// The server.
pub struct EventLoop {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    next: usize,
    driver: Driver,
    peers: Peers,
}

/// Everything that is connected.
#[derive(Default)]
struct Peers {
    by_conn: BTreeMap<ConnId, Peer>,
    /// Something is to be written.
    dirty: BTreeSet<ConnId>,
    /// Not paused any more: frames may already be there.
    resumed: BTreeSet<ConnId>,
}

type Accepting = ServerHandshake<TcpStream, NoCallback>;

enum Peer {
    Opening(Option<MidHandshake<Accepting>>),
    Open(Connection),
}

struct Connection {
    socket: WebSocket<TcpStream>,
    window: WriteWindow,
    paused: bool,
}

impl Peers {
    fn open(&mut self, conn: ConnId) -> Option<&mut Connection> {
        match self.by_conn.get_mut(&conn) {
            Some(Peer::Open(connection)) => Some(connection),
            Some(Peer::Opening(_)) | None => None,
        }
    }
}

impl Sockets for Peers {
    fn send(&mut self, conn: ConnId, frame: &str) {
        if let Some(connection) = self.open(conn) {
            connection.window.queued(frame);
            // Errors show up when it is flushed.
            let _ = connection.socket.write(Message::text(frame));
            self.dirty.insert(conn);
        }
    }

    fn send_sidecar(&mut self, conn: ConnId, message: Vec<u8>) {
        if let Some(connection) = self.open(conn) {
            connection.window.queued_message(&message);
            let _ = connection.socket.write(Message::binary(message));
            self.dirty.insert(conn);
        }
    }

    fn close(&mut self, conn: ConnId, _: CloseReason) {
        if let Some(Peer::Open(mut connection)) = self.by_conn.remove(&conn) {
            let _ = connection.socket.close(None);
            let _ = connection.socket.flush();
        }
    }

    fn pause_reading(&mut self, conn: ConnId) {
        if let Some(connection) = self.open(conn) {
            connection.paused = true;
        }
    }

    fn resume_reading(&mut self, conn: ConnId) {
        if let Some(connection) = self.open(conn) {
            connection.paused = false;
            self.resumed.insert(conn);
        }
    }
}

impl EventLoop {
    /// Binds a port. Nothing is served before [`turn`](Self::turn).
    pub fn bind(address: SocketAddr, host: Host) -> Result<EventLoop, HostError> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let driver = Driver::new(host, move || drop(waker.wake()))?;
        let events = Events::with_capacity(256);
        Ok(EventLoop { poll, events, listener, next: FIRST_CONN, driver, peers: Peers::default() })
    }

    /// The address it is bound to.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What tells it something, from any thread: such as [`Operator::Drain`], to take no new jobs.
    pub fn inbox(&self) -> Arc<dyn Inbox> {
        self.driver.inbox()
    }

    /// Whether every job has ended.
    pub fn is_idle(&self) -> bool {
        self.driver.is_idle()
    }

    /// Tells everybody goodbye; gives how many jobs are cut. There is no [`turn`](Self::turn) after it.
    pub fn shut_down(&mut self) -> Result<usize, HostError> {
        let cut = self.driver.unfinished().len();
        self.driver.handle(Input::Operator(Operator::Shutdown), &mut self.peers)?;
        Ok(cut)
    }

    /// Waits until there is something to do, and does it.
    pub fn turn(&mut self) -> Result<(), HostError> {
        // What was written has given credit, with which there may be more to write.
        let is_busy = !(self.peers.resumed.is_empty() && self.peers.dirty.is_empty());
        let wait = self.driver.next_wait().into_iter().chain(is_busy.then_some(Duration::ZERO)).min();
        match self.poll.poll(&mut self.events, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        self.driver.take_inbox(&mut self.peers)?;
        let tokens: Vec<Token> = self.events.iter().map(|event| event.token()).collect();
        let mut ready = std::mem::take(&mut self.peers.resumed);
        for token in &tokens {
            match *token {
                LISTENER => self.accept()?,
                WAKER => {}
                Token(n) => drop(ready.insert(ConnId(n as u64))),
            }
        }
        for conn in ready {
            self.peers.dirty.insert(conn);
            self.read(conn)?;
        }
        self.driver.tick(tokens.len() < self.events.capacity(), &mut self.peers)?;
        for conn in std::mem::take(&mut self.peers.dirty) {
            self.write(conn)?;
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), HostError> {
        while let Ok((mut socket, _)) = self.listener.accept() {
            let conn = self.next;
            self.next += 1;
            self.poll.registry().register(&mut socket, Token(conn), Interest::READABLE | Interest::WRITABLE)?;
            let _ = socket.set_nodelay(true);
            self.upgrade(ConnId(conn as u64), tungstenite::accept(socket))?;
        }
        Ok(())
    }

    fn upgrade(
        &mut self,
        conn: ConnId,
        outcome: Result<WebSocket<TcpStream>, HandshakeError<Accepting>>,
    ) -> Result<(), Fenced> {
        match outcome {
            Ok(socket) => {
                let connection = Connection { socket, window: WriteWindow::default(), paused: false };
                self.peers.by_conn.insert(conn, Peer::Open(connection));
                let opened =
                    Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None };
                self.driver.handle(opened, &mut self.peers)?;
                self.driver.handle(WriteWindow::opening_credit(conn), &mut self.peers)?;
                self.read(conn)?;
            }
            Err(HandshakeError::Interrupted(middle)) => {
                self.peers.by_conn.insert(conn, Peer::Opening(Some(middle)));
            }
            Err(HandshakeError::Failure(_)) => drop(self.peers.by_conn.remove(&conn)),
        }
        Ok(())
    }

    /// Hands over what has arrived, until the core wants no more for now.
    fn read(&mut self, conn: ConnId) -> Result<(), Fenced> {
        if let Some(Peer::Opening(middle)) = self.peers.by_conn.get_mut(&conn) {
            let middle = middle.take();
            return middle.map_or(Ok(()), |middle| self.upgrade(conn, middle.handshake()));
        }
        while let Some(connection) = self.peers.open(conn).filter(|connection| !connection.paused) {
            match connection.socket.read() {
                Ok(Message::Text(text)) => {
                    let frame = text.as_bytes().to_vec();
                    self.driver.handle(Input::Received { conn, frame }, &mut self.peers)?;
                }
                Ok(Message::Binary(bytes)) => {
                    let message = bytes.to_vec();
                    self.driver.handle(Input::ReceivedBinary { conn, message }, &mut self.peers)?;
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.lose(conn)?,
            }
        }
        Ok(())
    }

    /// Writes what is queued; when all of it is gone, the core may send more.
    fn write(&mut self, conn: ConnId) -> Result<(), Fenced> {
        let Some(connection) = self.peers.open(conn) else {
            return Ok(());
        };
        match connection.socket.flush() {
            Ok(()) => match connection.window.all_written(conn) {
                Some(credit) => self.driver.handle(credit, &mut self.peers),
                None => Ok(()),
            },
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => self.lose(conn),
        }
    }

    fn lose(&mut self, conn: ConnId) -> Result<(), Fenced> {
        self.peers.by_conn.remove(&conn);
        self.driver.handle(Input::Closed { conn }, &mut self.peers)
    }
}

//! A complete ARCP server in one thread, on a readiness loop of its own. It
//! uses the core and nothing of this crate: this is what embedding takes.
//!
//! ```text
//! cargo run -p arcp-blocking --example event_loop        # prints its URL and a token
//! arcp submit echo --input '"hi"' --url ws://127.0.0.1:PORT/ --token TOKEN
//! ```

#![allow(clippy::print_stderr, reason = "its URL and its token are told once, at the start")]

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arcp_host::auth::{Authenticator as _, BearerTokens};
use arcp_proto::entropy::Seeds;
use arcp_proto::id::{ConnId, Principal};
use arcp_proto::runtime::{AgentExit, Config, Input, Output, Runtime, Transport};
use arcp_proto::secret::Secret;
use arcp_proto::time::{Now, Timestamp, UtcMs};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use tungstenite::handshake::server::{NoCallback, ServerHandshake};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::{Message, WebSocket};

const LISTENER: Token = Token(0);

enum Peer {
    Opening(Option<MidHandshake<ServerHandshake<TcpStream, NoCallback>>>),
    Open { socket: WebSocket<TcpStream>, unflushed: (u32, u32) },
}

struct Loop {
    runtime: Runtime,
    peers: BTreeMap<ConnId, Peer>,
    tokens: BearerTokens,
    start: Instant,
}

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let token = arcp_host::entropy::token()?;
    eprintln!("READY ws://{}/ --token {token}", listener.local_addr()?);

    let config = Config::new("event-loop", "1.0.0").with_agent("echo", &[]);
    let seeds = arcp_host::entropy::seeds()?;
    let mut state = Loop::new(config, seeds)?;
    let owner = Principal::new("owner").ok_or_else(|| io::Error::other("a principal has a name"))?;
    state.tokens.add(&Secret::new(token), owner);
    let mut events = Events::with_capacity(256);
    let mut next = 1;
    loop {
        let wait = state.runtime.next_deadline().map(|deadline| deadline.at.since(state.now().mono));
        // Rounded up: an early wake-up would find nothing to do.
        poll.poll(&mut events, wait.map(|span| span + Duration::from_millis(1)))?;
        for event in &events {
            if event.token() != LISTENER {
                state.on_ready(ConnId(event.token().0 as u64));
                continue;
            }
            while let Ok((mut socket, _)) = listener.accept() {
                poll.registry().register(&mut socket, Token(next), Interest::READABLE | Interest::WRITABLE)?;
                state.on_accepted(ConnId(next as u64), socket);
                next += 1;
            }
        }
        state.input(Input::Tick);
    }
}

impl Loop {
    fn new(config: Config, seeds: Seeds) -> io::Result<Loop> {
        let start = Instant::now();
        let runtime = Runtime::new(config, seeds, Loop::read_clocks(start)).map_err(io::Error::other)?;
        Ok(Loop { runtime, peers: BTreeMap::new(), tokens: BearerTokens::default(), start })
    }

    fn read_clocks(start: Instant) -> Now {
        let utc = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Timestamp(start.elapsed().as_micros() as u64), utc: UtcMs(utc.as_millis() as u64) }
    }

    fn now(&self) -> Now {
        Loop::read_clocks(self.start)
    }

    /// Hands one input to the core and does everything it asks for.
    fn input(&mut self, input: Input) {
        self.runtime.handle(self.now(), input);
        while let Some(output) = self.runtime.poll_output() {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Send { conn, frame } => {
                if let Some(Peer::Open { socket, unflushed }) = self.peers.get_mut(&conn) {
                    unflushed.0 += frame.len() as u32;
                    unflushed.1 += 1;
                    // Errors show up when it is read.
                    let _ = socket.write(Message::text(frame));
                }
                self.flush(conn);
            }
            Output::Close { conn, .. } => {
                if let Some(Peer::Open { mut socket, .. }) = self.peers.remove(&conn) {
                    let _ = socket.close(None);
                    let _ = socket.flush();
                }
            }
            // What is in memory is as durable as this server gets.
            Output::Persist(batch) => self.runtime.handle(self.now(), Input::Persisted { up_to: batch.last() }),
            Output::Authenticate { op, credential, .. } => {
                let principal = self.tokens.verify(&credential);
                self.runtime.handle(self.now(), Input::Authenticated { op, principal });
            }
            // An agent that answers at once runs right here.
            Output::StartAgent { job, spec } => {
                let exit = AgentExit::Success { result: Some(spec.input), summary: None };
                self.runtime.handle(self.now(), Input::AgentExited { job, exit });
            }
            Output::StopAgent { .. }
            | Output::AgentCredit { .. }
            | Output::Admit { .. }
            | Output::Fragment { .. }
            | Output::Observe(_) => {}
            // No extension is offered, and no history (`Config::history`).
            Output::Extension { .. } | Output::Load { .. } => {}
            // A larger server would stop reading; the core's bounds hold all
            // the same.
            Output::PauseRead { .. } | Output::ResumeRead { .. } => {}
        }
    }

    /// Writes what is queued; when all of it is gone, the core may send more.
    fn flush(&mut self, conn: ConnId) {
        if let Some(Peer::Open { socket, unflushed }) = self.peers.get_mut(&conn)
            && unflushed.1 > 0
            && socket.flush().is_ok()
        {
            let (bytes, frames) = std::mem::take(unflushed);
            self.runtime.handle(self.now(), Input::Credit { conn, bytes, frames });
        }
    }

    fn on_accepted(&mut self, conn: ConnId, socket: TcpStream) {
        let _ = socket.set_nodelay(true);
        self.on_handshake(conn, tungstenite::accept(socket));
    }

    fn on_handshake(
        &mut self,
        conn: ConnId,
        outcome: Result<WebSocket<TcpStream>, HandshakeError<ServerHandshake<TcpStream, NoCallback>>>,
    ) {
        match outcome {
            Ok(socket) => {
                self.peers.insert(conn, Peer::Open { socket, unflushed: (0, 0) });
                self.input(Input::Opened { conn, transport: Transport::WebSocket, address: None, peer: None });
                self.input(Input::Credit { conn, bytes: 256 << 10, frames: 256 });
                self.on_ready(conn);
            }
            Err(HandshakeError::Interrupted(middle)) => {
                self.peers.insert(conn, Peer::Opening(Some(middle)));
            }
            Err(HandshakeError::Failure(_)) => {
                self.peers.remove(&conn);
            }
        }
    }

    fn on_ready(&mut self, conn: ConnId) {
        if let Some(Peer::Opening(middle)) = self.peers.get_mut(&conn) {
            if let Some(middle) = middle.take() {
                self.on_handshake(conn, middle.handshake());
            }
            return;
        }
        while let Some(Peer::Open { socket, .. }) = self.peers.get_mut(&conn) {
            match socket.read() {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                    self.input(Input::Received { conn, frame: message.into_data().to_vec() });
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.peers.remove(&conn);
                    self.input(Input::Closed { conn });
                }
            }
        }
        self.flush(conn);
        self.input(Input::Tick);
    }
}

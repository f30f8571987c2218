//! A server that a test runs turn by turn. Its connections are in memory, and take as many bytes as the test says.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::pending;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use arcp_blocking::{Host, ServerConfig};
use arcp_host::agent::{AgentError, AsyncContext, Outcome, Task};
use arcp_host::auth::BearerTokens;
use arcp_host::registry::Registry;
use arcp_host::server::{Begins, CarrierEnd, Origin, ServerLoop, Socket, Vouched};
use arcp_proto::id::{ConnId, Principal};
use arcp_proto::json::Json;
use arcp_proto::runtime::{Config, Notice, Transport};
use arcp_proto::secret::Secret;
use serde_json::{Value, json};

use crate::raw::hello_payload;

/// Both directions of a connection.
#[derive(Default)]
pub struct Wire {
    /// Bytes that the peer has sent and the server has not read.
    pub come: VecDeque<u8>,
    /// Whether the peer has closed its side.
    pub ended: bool,
    /// Bytes that the server has written.
    pub gone: Vec<u8>,
    /// How many more bytes may be written.
    pub room: usize,
    /// How often the server has shut it down.
    pub shut: usize,
    /// How often a shutdown is to be put off.
    pub busy: usize,
    /// How often the server has read.
    pub reads: usize,
    /// Whether a read that does not fill the buffer counts as the last.
    pub notes: bool,
}

/// The server's end of a connection, as an adapter has it.
#[derive(Clone)]
pub struct Near(Rc<RefCell<Wire>>);

impl Read for Near {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        wire.reads += 1;
        if wire.come.is_empty() && !wire.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        // A ring buffer returns the bytes at its end first, and the rest in the next read.
        wire.come.make_contiguous();
        wire.come.read(buffer)
    }
}

impl Write for Near {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.borrow_mut();
        let n = wire.room.min(bytes.len());
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        wire.room -= n;
        wire.gone.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for Near {
    fn shut_down(&mut self) -> io::Result<()> {
        let mut wire = self.0.borrow_mut();
        wire.shut += 1;
        if wire.shut <= wire.busy { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    fn notes_what_follows(&self) -> bool {
        self.0.borrow().notes
    }
}

/// The peer's end of a connection.
pub struct Peer {
    /// Its number.
    pub conn: ConnId,
    /// The bytes of both directions.
    pub wire: Rc<RefCell<Wire>>,
}

impl Peer {
    /// The bytes that were written since the last call.
    pub fn taken(&self) -> Vec<u8> {
        std::mem::take(&mut self.wire.borrow_mut().gone)
    }

    /// The text that was written since the last call.
    pub fn heard(&self) -> String {
        String::from_utf8(self.taken()).expect("text")
    }

    /// Whether the server has dropped the connection.
    pub fn is_gone(&self) -> bool {
        Rc::strong_count(&self.wire) == 1
    }
}

/// A server, with what a test needs to drive and watch it.
pub struct Site {
    /// The server.
    pub serving: ServerLoop<Near>,
    /// Gets a message when the server is to do a turn.
    pub woken: Receiver<()>,
    /// The notices of the server.
    pub notices: Receiver<Notice>,
    /// The tasks of the agent `never`, which do not end while this lives.
    pub tasks: Arc<Mutex<Vec<Task>>>,
}

/// The address of another machine, by number.
pub fn address(n: u8) -> Origin {
    Origin::Address(IpAddr::from([10, 0, 0, n]))
}

/// The address of this machine.
pub fn local() -> Origin {
    Origin::Address(IpAddr::from([127, 0, 0, 1]))
}

async fn never(_: AsyncContext, _: Json) -> Result<Outcome, AgentError> {
    pending().await
}

impl Site {
    /// A server for at most so many connections, which knows the tokens of `a` and of the operator `op`.
    pub fn new(most: usize, change: impl FnOnce(&mut Config)) -> Site {
        Site::with(most, change, |_| {})
    }

    /// As [`Site::new`], with changes to the server's configuration.
    pub fn with(most: usize, change: impl FnOnce(&mut Config), serve: impl FnOnce(&mut ServerConfig)) -> Site {
        let mut registry = Registry::default();
        registry.add_async("never", None, never);
        let mut config = Config::new("test", "1");
        config.timing.heartbeat = None;
        config.operators = [Principal::new("op").expect("a name")].into();
        change(&mut config);
        let mut tokens = BearerTokens::default();
        for name in ["a", "op"] {
            tokens.add(&Secret::new(format!("tok-{name}")), Principal::new(name).expect("a name"));
        }
        Site::of(most, Host::new(config, registry).with_authenticator(tokens), serve)
    }

    /// A server for this host.
    pub fn of(most: usize, host: Host, serve: impl FnOnce(&mut ServerConfig)) -> Site {
        let tasks = Arc::new(Mutex::new(Vec::new()));
        let (kept, (tell, notices)) = (tasks.clone(), channel());
        let host = host
            .with_tasks_run_by(move |task| kept.lock().expect("nobody panics").push(task))
            .observed_by(move |notice| drop(tell.send(notice.clone())));
        let mut config = ServerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        serve(&mut config);
        let (wake, woken) = channel();
        let serving = ServerLoop::new(&config, most, host, move || _ = wake.send(())).expect("it starts");
        Site { serving, woken, notices, tasks }
    }

    /// Accepts a connection, on which nothing was sent.
    pub fn accept(&mut self, from: Origin, begins: Begins) -> Peer {
        let wire = Rc::new(RefCell::new(Wire { room: usize::MAX, ..Wire::default() }));
        let (near, mut conn) = (Near(wire.clone()), None);
        self.serving.accept(from, begins, |number| {
            conn = Some(number);
            Ok(near)
        });
        Peer { conn: conn.expect("a number"), wire }
    }

    /// Accepts a connection that begins with an HTTP request.
    pub fn asker(&mut self) -> Peer {
        self.accept(local(), Begins::Request)
    }

    /// Accepts a connection with one frame per line.
    pub fn speaker(&mut self, from: Origin) -> Peer {
        self.accept(from, Begins::Frames(Transport::Lines, Vouched::default()))
    }

    /// Accepts a connection and opens a session on it.
    pub fn session(&mut self) -> Peer {
        let peer = self.speaker(local());
        self.greet(&peer);
        peer
    }

    /// Opens a session on a connection.
    pub fn greet(&mut self, peer: &Peer) {
        self.say(peer, frame("session.hello", &hello_payload("tok-a")).as_bytes());
        let welcome = peer.heard();
        assert!(welcome.contains("session.welcome"), "{welcome}");
    }

    /// Sends bytes as the peer.
    pub fn say(&mut self, peer: &Peer, bytes: &[u8]) {
        peer.wire.borrow_mut().come.extend(bytes);
        self.read(peer);
    }

    /// Has the server read what has come.
    pub fn read(&mut self, peer: &Peer) {
        self.serving.note(peer.conn, true, false);
        self.turn();
        // The first turn reads; what the runtime answers is written in the second.
        self.turn();
    }

    /// Sets how many more bytes may be written to the peer.
    pub fn takes(&mut self, peer: &Peer, bytes: usize) {
        peer.wire.borrow_mut().room = bytes;
        self.serving.note(peer.conn, false, true);
        self.turn();
    }

    /// Closes the peer's side.
    pub fn end(&mut self, peer: &Peer) {
        peer.wire.borrow_mut().ended = true;
        self.read(peer);
        // The owed answers, the goodbye and the end have a turn each.
        self.turn();
    }

    /// Runs a turn.
    pub fn turn(&mut self) {
        self.serving.turn(true).expect("the store is ours");
    }

    /// Requests a page; returns the status and the body of the answer.
    pub fn page(&mut self, from: Origin, path: &str, headers: &str) -> (String, String) {
        let peer = self.accept(from, Begins::Request);
        self.say(&peer, request(path, headers).as_bytes());
        let answer = peer.heard();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let length = format!("\r\nContent-Length: {}\r\n", body.len());
        assert!(head.contains(&length), "{answer}");
        let status = head.lines().next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("a status");
        self.end(&peer);
        assert!(peer.is_gone());
        (status.to_string(), body.to_string())
    }

    /// Adds a connection that carries sessions as streams. Returns the receiver of what it is told as well.
    pub fn carry(&mut self, from: Origin, has_tls: bool) -> (Option<ConnId>, Receiver<CarrierEnd>) {
        let (tell, told) = channel();
        (self.serving.carry(from, has_tls, move |end| _ = tell.send(end)), told)
    }

    /// Opens a stream on such a connection.
    pub fn stream(&mut self, carrier: ConnId) -> Peer {
        let wire = Rc::new(RefCell::new(Wire { room: usize::MAX, ..Wire::default() }));
        let (near, mut conn) = (Near(wire.clone()), None);
        self.serving.open_on(carrier, Vec::new(), None, |number| {
            conn = Some(number);
            Ok(near)
        });
        Peer { conn: conn.expect("a number"), wire }
    }
}

/// A frame of the hello family as a line.
pub fn frame(kind: &str, payload: &Value) -> String {
    format!("{}\n", json!({"arcp": "1.1", "id": "1", "type": kind, "payload": payload}))
}

/// The head of an HTTP request.
pub fn request(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

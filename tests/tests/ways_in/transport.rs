//! How frames get to a server: one value for each transport, and a server that is
//! reached by it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use arcp_blocking::{Host, Security, Server, ServerConfig, ServerHandle, Target};
use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_host::server::Listen;
use arcp_host::store::MemoryStore;
use arcp_host::tls::{Certificates, client_config};
use arcp_proto::id::SessionId;
use arcp_proto::runtime::{Config, Notice};
use arcp_tests::server::{PATIENCE, Running, connect_to};
use arcp_tests::until::until;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use tungstenite::{Message, WebSocket};

use crate::desk::{Desk, Given};

pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    Blocking,
    Tokio,
}

pub const ADAPTERS: [Adapter; 2] = [Adapter::Blocking, Adapter::Tokio];

/// One transport.
#[derive(Clone, Copy)]
pub struct Transport {
    pub name: &'static str,
    /// Whether a certificate can be shown on it.
    pub secured: bool,
    /// Whether who brings no credential is somebody all the same.
    pub vouches: bool,
    /// Which adapters serve it.
    pub adapters: &'static [Adapter],
    /// A server that is reached by it.
    serve: fn(Adapter, &Maker<'_>, &Desk) -> Served,
    dial: fn(&Site<'_>, &Given) -> Dialled,
}

pub const WS: Transport = Transport {
    name: "ws",
    secured: false,
    vouches: false,
    adapters: &ADAPTERS,
    serve: |adapter, host, _| serve_port(adapter, host(), None),
    dial: dial_ws,
};
pub const WSS: Transport = Transport {
    name: "wss",
    secured: true,
    vouches: false,
    adapters: &ADAPTERS,
    serve: |adapter, host, desk| serve_port(adapter, host(), Some(desk.certificates.clone())),
    dial: |site, given| dial_wss(site, given).map_err(|error| error.to_string()),
};
pub const STDIO: Transport = Transport {
    name: "stdio",
    secured: false,
    vouches: false,
    adapters: &ADAPTERS,
    serve: serve_pipes,
    dial: dial_pipe,
};

pub const UNIX: Transport =
    Transport { name: "unix", secured: false, vouches: true, adapters: &ADAPTERS, serve: serve_file, dial: dial_file };

pub const H2C: Transport = Transport {
    name: "h2c",
    secured: false,
    vouches: false,
    adapters: &[Adapter::Tokio],
    serve: |adapter, host, desk| serve_carried(adapter, host, desk, Listen::Http2 { address: LISTEN, tls: false }),
    dial: dial_carried,
};
pub const H2: Transport = Transport {
    name: "h2",
    secured: true,
    serve: |adapter, host, desk| serve_carried(adapter, host, desk, Listen::Http2 { address: LISTEN, tls: true }),
    ..H2C
};
pub const QUIC: Transport = Transport {
    name: "quic",
    serve: |adapter, host, desk| serve_carried(adapter, host, desk, Listen::Quic { address: LISTEN }),
    ..H2
};

/// Every transport. Another one is another value.
pub const ALL: [Transport; 7] = [WS, WSS, STDIO, UNIX, H2C, H2, QUIC];

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A peer that can send frames, or why there is none.
type Dialled = Result<Box<dyn Peer>, String>;

/// What makes the host of a server, as often as one is wanted.
type Maker<'a> = dyn Fn() -> Host + 'a;

/// A server that runs.
pub enum Served {
    /// One for whoever comes to its place.
    Bound(Bound),
    /// One for whoever is handed to it.
    Handed(Handed),
    /// One for each peer, as long as that is there.
    OneEach,
}

pub struct Bound {
    place: Listen,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

pub struct Handed {
    handle: ServerHandle,
    acceptor: arcp_tokio_adapter::Acceptor,
    /// Where what is handed over is looked after.
    runtime: tokio::runtime::Handle,
    thread: Option<JoinHandle<()>>,
}

/// A server over a transport and an adapter; it stops with the value.
pub struct Site<'a> {
    pub transport: Transport,
    pub served: Served,
    pub desk: &'a Desk,
    make: Box<dyn Fn() -> Host + 'a>,
    sessions: Arc<Mutex<Sessions>>,
}

/// What is known of sessions by what operators are told.
#[derive(Default)]
struct Sessions {
    there: BTreeSet<SessionId>,
    opened: usize,
}

impl<'a> Site<'a> {
    pub fn start(
        transport: Transport,
        adapter: Adapter,
        desk: &'a Desk,
        guard: impl Fn(Host) -> Host + 'a,
        change: fn(&mut Config),
    ) -> Site<'a> {
        let sessions = Arc::<Mutex<Sessions>>::default();
        let seen = sessions.clone();
        let make: Box<Maker<'a>> = Box::new(move || {
            let mut registry = Registry::default();
            samples::add_to(&mut registry);
            let host = Running::host_of(Box::<MemoryStore>::default(), registry, |config| {
                config.timing.heartbeat = None;
                // A case is no guess.
                config.limits.connection.wrong_credentials = 10_000;
                change(config);
            });
            let seen = seen.clone();
            guard(host).observed_by(move |notice| seen.lock().unwrap_or_else(PoisonError::into_inner).note(notice))
        });
        let served = (transport.serve)(adapter, &make, desk);
        Site { transport, served, desk, make, sessions }
    }

    /// A peer that shows what it was given of a certificate.
    pub fn dial(&self, given: &Given) -> Dialled {
        (self.transport.dial)(self, given)
    }

    /// Whether what one peer left is there for the next.
    pub fn is_shared(&self) -> bool {
        !matches!(self.served, Served::OneEach)
    }

    /// What tells it what to do, unless its peer is all that it has.
    pub fn handle(&self) -> Option<&ServerHandle> {
        match &self.served {
            Served::Bound(bound) => Some(&bound.handle),
            Served::Handed(handed) => Some(&handed.handle),
            Served::OneEach => None,
        }
    }

    pub fn address(&self) -> SocketAddr {
        match &self.served {
            Served::Bound(bound) => bound.place.address().expect("a port"),
            Served::Handed(_) | Served::OneEach => panic!("{:?} has no port", self.transport),
        }
    }

    /// Where clients connect to.
    pub fn target(&self) -> Target {
        match &self.served {
            Served::Bound(bound) => bound.place.url("/arcp").parse().expect("a URL"),
            Served::Handed(_) | Served::OneEach => panic!("{:?} has no place", self.transport),
        }
    }

    /// How many sessions were ever opened.
    pub fn opened(&self) -> usize {
        self.sessions.lock().expect("no panic").opened
    }

    /// How many connections its runtime knows of.
    pub fn connections(&self) -> u64 {
        let mut answer = String::new();
        let mut ask = |mut stream: Box<dyn ReadWrite>| {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
            stream.read_to_string(&mut answer).expect("an answer and an end");
        };
        let socket = connect_to(self.address());
        if self.transport.secured {
            ask(Box::new(secured(self.desk, &Given::default(), self.address(), socket).expect("a handshake")));
        } else {
            ask(Box::new(socket));
        }
        let count = answer.lines().find_map(|line| line.strip_prefix("arcp_connections "));
        count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
    }

    /// Those that are there, with or without a connection. The runtime of a pipe is gone
    /// with its peer, whatever it still says.
    pub fn sessions(&self) -> BTreeSet<SessionId> {
        if self.is_shared() { self.sessions.lock().expect("no panic").there.clone() } else { BTreeSet::new() }
    }

    /// Waits until a session is no more.
    pub fn forgets(&self, session: SessionId) {
        until("a session is gone", || (!self.sessions().contains(&session)).then_some(()));
    }
}

impl Sessions {
    fn note(&mut self, notice: &Notice) {
        if let Notice::SessionOpened { session, .. } = notice {
            self.there.insert(*session);
            self.opened += 1;
        }
        if let Notice::SessionEnded { session } = notice {
            self.there.remove(session);
        }
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle() {
            handle.shutdown();
        }
        let thread = match &mut self.served {
            Served::Bound(bound) => bound.thread.take(),
            Served::Handed(handed) => handed.thread.take(),
            Served::OneEach => None,
        };
        thread.map(JoinHandle::join);
    }
}

fn serve_port(adapter: Adapter, host: Host, tls: Option<Arc<Certificates>>) -> Served {
    serve_at(adapter, host, &ServerConfig { tls, ..ServerConfig::new(LISTEN) })
}

fn serve_file(adapter: Adapter, host: &Maker<'_>, desk: &Desk) -> Served {
    let listen = vec![Listen::Unix { path: desk.file("socket"), mode: 0o600 }];
    serve_at(adapter, host(), &ServerConfig { listen, ..ServerConfig::new(LISTEN) })
}

fn serve_carried(adapter: Adapter, host: &Maker<'_>, desk: &Desk, place: Listen) -> Served {
    let tls = Some(desk.certificates.clone());
    serve_at(adapter, host(), &ServerConfig { tls, listen: vec![place], ..ServerConfig::new(LISTEN) })
}

fn serve_at(adapter: Adapter, host: Host, config: &ServerConfig) -> Served {
    let (place, handle, thread) = match adapter {
        Adapter::Blocking => {
            let server = Server::bind(config, host).expect("a place");
            let (place, handle) = (server.places()[0].clone(), server.handle());
            (place, handle, std::thread::spawn(move || drop(server.run().expect("it serves"))))
        }
        Adapter::Tokio => {
            let (started, bound) = channel();
            let config = config.clone();
            let serve = async move {
                let server = arcp_tokio_adapter::Server::bind(&config, host).await.expect("a place");
                started.send((server.places()[0].clone(), server.handle())).expect("awaited");
                server.run().await.expect("it serves");
            };
            let thread = std::thread::spawn(move || runtime().block_on(serve));
            let (place, handle) = bound.recv().expect("it starts");
            (place, handle, thread)
        }
    };
    Served::Bound(Bound { place, handle, thread: Some(thread) })
}

fn serve_pipes(adapter: Adapter, host: &Maker<'_>, _: &Desk) -> Served {
    match adapter {
        Adapter::Blocking => Served::OneEach,
        Adapter::Tokio => {
            let (started, bound) = channel();
            let host = host();
            let serve = async move {
                let config = ServerConfig::new(LISTEN);
                let server = arcp_tokio_adapter::Server::without_port(&config, host).await.expect("it starts");
                let there = (server.handle(), server.acceptor(), tokio::runtime::Handle::current());
                started.send(there).expect("awaited");
                server.run().await.expect("it serves");
            };
            let thread = Some(std::thread::spawn(move || runtime().block_on(serve)));
            let (handle, acceptor, runtime) = bound.recv().expect("it starts");
            Served::Handed(Handed { handle, acceptor, runtime, thread })
        }
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A peer of a server, over whatever transport.
pub trait Peer {
    fn say(&mut self, frame: &str);

    /// Says bytes that are no whole frame.
    fn say_bytes(&mut self, bytes: &[u8]);

    /// What comes next; `None` once the server has closed the connection.
    fn hear(&mut self) -> Option<Value>;
}

impl<S: Read + Write> Peer for WebSocket<S> {
    fn say(&mut self, frame: &str) {
        // Perhaps it is closed by now: what comes next tells.
        let _ = self.send(Message::text(frame));
    }

    fn say_bytes(&mut self, bytes: &[u8]) {
        let _ = self.get_mut().write_all(bytes);
    }

    fn hear(&mut self) -> Option<Value> {
        loop {
            match self.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("JSON")),
                Ok(Message::Close(_)) => return None,
                Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(error) => {
                    let late = matches!(&error, tungstenite::Error::Io(error) if is_late(error));
                    assert!(!late, "nothing came in {PATIENCE:?}");
                    return None;
                }
            }
        }
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

trait ReadWrite: Read + Write {}

impl<S: Read + Write> ReadWrite for S {}

/// One frame a line, each way on its own.
struct Lines {
    read: BufReader<UnixStream>,
    write: UnixStream,
}

impl Peer for Lines {
    fn say(&mut self, frame: &str) {
        self.say_bytes(format!("{frame}\n").as_bytes());
    }

    fn say_bytes(&mut self, bytes: &[u8]) {
        let _ = self.write.write_all(bytes);
    }

    fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.read.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("JSON")),
            Err(error) => {
                assert!(!is_late(&error), "nothing came in {PATIENCE:?}");
                None
            }
        }
    }
}

fn dial_ws(site: &Site<'_>, _: &Given) -> Dialled {
    let url = format!("ws://{}/arcp", site.address());
    let socket = connect_to(site.address());
    let (socket, _) = tungstenite::client(url, socket).map_err(|error| error.to_string())?;
    Ok(Box::new(socket))
}

/// A TLS connection whose handshake is done, and what was sent for it.
pub type Secured<S> = StreamOwned<ClientConnection, S>;

pub fn secured<S: Read + Write>(desk: &Desk, given: &Given, address: SocketAddr, socket: S) -> io::Result<Secured<S>> {
    let config = client_config(&desk.server.security().trust, given.identity.as_ref()).map_err(io::Error::other)?;
    let name = ServerName::from(address.ip());
    let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, socket);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(stream)
}

fn dial_wss(site: &Site<'_>, given: &Given) -> io::Result<Box<dyn Peer>> {
    let address = site.address();
    let stream = secured(site.desk, given, address, connect_to(address))?;
    // With TLS 1.3 whoever shows a certificate hears what is said of it with what comes next.
    let (socket, _) = tungstenite::client(format!("ws://{address}/arcp"), stream).map_err(io::Error::other)?;
    Ok(Box::new(socket))
}

fn dial_pipe(site: &Site<'_>, _: &Given) -> Dialled {
    let ((read, output), (input, write)) =
        (UnixStream::pair().expect("two ends"), UnixStream::pair().expect("two ends"));
    read.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    match &site.served {
        Served::Handed(Handed { acceptor, runtime, .. }) => {
            let hand = async {
                let [input, output] = [input, output].map(|end| {
                    end.set_nonblocking(true)?;
                    tokio::net::UnixStream::from_std(end)
                });
                acceptor.lines(tokio::io::join(input?, output?), None).await
            };
            runtime.block_on(hand).map_err(|error| error.to_string())?;
        }
        Served::OneEach => {
            let host = (site.make)();
            std::thread::spawn(move || arcp_blocking::stdio::serve(host, None, input, output));
        }
        Served::Bound(_) => panic!("nobody is handed over to it"),
    }
    Ok(Box::new(Lines { read: BufReader::new(read), write }))
}

fn dial_file(site: &Site<'_>, _: &Given) -> Dialled {
    let write = UnixStream::connect(site.desk.file("socket")).map_err(|error| error.to_string())?;
    write.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    Ok(Box::new(Lines { read: BufReader::new(write.try_clone().expect("a second handle")), write }))
}

/// A stream of a connection of its own, which a thread carries.
fn dial_carried(site: &Site<'_>, given: &Given) -> Dialled {
    let target = site.target();
    let security = Security { identity: given.identity.clone(), ..site.desk.server.security() };
    let (near, far) = UnixStream::pair().expect("two ends");
    near.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    far.set_nonblocking(true).expect("set");
    let (told, opened) = channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            match arcp_tokio_adapter::open_lines(&target, &security, PATIENCE).await {
                Ok(stream) => {
                    told.send(Ok(())).expect("awaited");
                    let (mut stream, far) = (Box::pin(stream), tokio::net::UnixStream::from_std(far));
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut far.expect("a stream")).await;
                }
                Err(error) => told.send(Err(error.to_string())).expect("awaited"),
            }
        });
    });
    opened.recv().expect("it says so")?;
    Ok(Box::new(Lines { read: BufReader::new(near.try_clone().expect("a second handle")), write: near }))
}

/// A socket that keeps what is written to it.
pub struct Recorded {
    pub socket: TcpStream,
    pub written: Rc<RefCell<Vec<u8>>>,
}

impl Read for Recorded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buffer)
    }
}

impl Write for Recorded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.socket.write(bytes)?;
        self.written.borrow_mut().extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

//! The server: any number of listeners and sessions on one thread.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arcp_host::driver::{Host, HostError};
use arcp_host::server::{Begins, Bound, Kept, Origin, ServerLoop, Socket, descriptors_for_connections, keep_alive};
pub use arcp_host::server::{Listen, ListenError, Listener, ServerConfig, ServerHandle, Stopped};
use arcp_proto::id::ConnId;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Registry, Token, Waker};

/// Tokens of connections follow this one; those of listeners count down from the end.
const WAKER: Token = Token(1);
const LAST: usize = usize::MAX - 1;

/// The most readiness events that are taken from the system at once.
const EVENTS: usize = 1024;

/// A server of WebSockets, Unix sockets, or both.
///
/// A quarter of the files that the process may open, at most 1,024, is reserved for the store and agents. Connections
/// beyond the rest wait to be accepted.
pub struct Server {
    poll: Poll,
    registry: Arc<Registry>,
    listening: Vec<Listening>,
    places: Vec<Listen>,
    serving: ServerLoop<Registered>,
    /// Things that must live until the last connection is gone, such as the file of a Unix socket.
    kept: Vec<Kept>,
}

/// A listening socket.
struct Listening {
    socket: ListeningSocket,
    begins: Begins,
    _kept: Kept,
}

enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Server {
    /// Binds all listeners. Nothing is served before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// If a listener cannot be bound, the configuration cannot work, or others could read what is sent there:
    /// [`HostError::Cleartext`].
    pub fn bind(config: &ServerConfig, host: Host) -> Result<Server, HostError> {
        let bound = config.listen.iter().map(Listener::bind).collect::<io::Result<Vec<Listener>>>()?;
        Server::on(bound, config, host)
    }

    /// Uses listeners that are bound already; those of the configuration are ignored.
    ///
    /// # Errors
    ///
    /// If the configuration cannot work, others could read what is sent to a port, or the store cannot be read.
    pub fn on(bound: Vec<Listener>, config: &ServerConfig, host: Host) -> Result<Server, HostError> {
        bound.iter().try_for_each(|listener| config.allows(listener.place()))?;
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        // This fails only when the poll is gone, and with it the server.
        let wake = move || drop(waker.wake());
        let mut server = Server {
            registry: Arc::new(poll.registry().try_clone()?),
            listening: Vec::new(),
            places: Vec::new(),
            serving: ServerLoop::new(config, descriptors_for_connections(), host, wake)?,
            poll,
            kept: Vec::new(),
        };
        bound.into_iter().try_for_each(|listener| server.listen(listener, config))?;
        Ok(server)
    }

    fn listen(&mut self, listener: Listener, config: &ServerConfig) -> io::Result<()> {
        let (listen, bound, kept) = listener.into_parts();
        let listen = config.settled(listen);
        if matches!(listen, Listen::Http2 { .. }) {
            return Err(tokio_only());
        }
        let mut socket = match bound {
            Bound::Tcp(port) => ListeningSocket::Tcp(TcpListener::from_std(port)),
            Bound::Udp(_) => return Err(tokio_only()),
            Bound::Unix(socket) => ListeningSocket::Unix(UnixListener::from_std(socket)),
            Bound::Peer(stream) => {
                self.take_peer(UnixStream::from_std(stream), listen.begins());
                self.kept.push(kept);
                self.places.push(listen);
                return Ok(());
            }
        };
        let token = Token(LAST - self.listening.len());
        match &mut socket {
            ListeningSocket::Tcp(port) => self.registry.register(port, token, Interest::READABLE)?,
            ListeningSocket::Unix(socket) => self.registry.register(socket, token, Interest::READABLE)?,
        }
        self.listening.push(Listening { socket, begins: listen.begins(), _kept: kept });
        self.places.push(listen);
        Ok(())
    }

    /// The address of the first TCP listener; `0.0.0.0:0` if there is none.
    pub fn address(&self) -> SocketAddr {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        self.places.iter().find_map(Listen::address).unwrap_or(nowhere)
    }

    /// The listeners, with the ports that the system has picked.
    pub fn places(&self) -> &[Listen] {
        &self.places
    }

    /// The URL for clients, of the first listener.
    pub fn url(&self) -> String {
        self.places.first().map(|listen| listen.url(self.serving.path())).unwrap_or_default()
    }

    /// A handle to control the server from another thread.
    pub fn handle(&self) -> ServerHandle {
        self.serving.handle()
    }

    /// Serves until the server is told to stop and all connections are closed.
    ///
    /// # Errors
    ///
    /// If the system's readiness queue fails, or another process has taken over the store: then every connection is
    /// dropped at once.
    pub fn run(mut self) -> Result<Stopped, HostError> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            if let Some(stopped) = self.serving.stopped()? {
                return Ok(stopped);
            }
            if self.serving.is_ending() {
                // An ending server accepts no connections.
                self.listening.clear();
            }
            self.step(&mut events, None)?;
        }
    }

    /// Waits until there is something to do, at most for `most`, and does it.
    fn step(&mut self, events: &mut Events, most: Option<Duration>) -> Result<(), HostError> {
        let wait = self.serving.next_wait().into_iter().chain(most).min();
        match self.poll.poll(events, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        for event in &*events {
            match event.token() {
                WAKER => {}
                Token(listener) if listener > LAST - self.listening.len() => self.accept(LAST - listener),
                Token(conn) => {
                    let readable = event.is_readable() || event.is_read_closed();
                    self.serving.note(ConnId(conn as u64), readable, event.is_writable());
                }
            }
        }
        self.serving.turn(events.iter().count() < events.capacity())?;
        // An end that came together with readable bytes was noted as one event: note it again.
        for event in events.iter().filter(|event| event.is_read_closed()) {
            self.serving.note(ConnId(event.token().0 as u64), true, false);
        }
        if self.serving.accept_is_due() {
            (0..self.listening.len()).for_each(|at| self.accept(at));
        }
        Ok(())
    }

    fn accept(&mut self, at: usize) {
        while let Some(listening) = self.listening.get(at)
            && self.serving.may_accept()
        {
            match listening.socket.accept() {
                Ok((stream, from)) => {
                    let (begins, registry) = (listening.begins.clone(), self.registry.clone());
                    self.serving.accept(from, begins, |conn| Registered::new(stream, registry, conn));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.serving.accepted_all(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.serving.accept_later(&error),
            }
        }
    }

    /// Takes in the one peer of stdin and stdout.
    fn take_peer(&mut self, stream: UnixStream, begins: Begins) {
        let (from, registry) = (Origin::own(), self.registry.clone());
        self.serving.accept(from, begins, |conn| Registered::new(Stream::Unix(stream), registry, conn));
    }
}

impl ListeningSocket {
    fn accept(&self) -> io::Result<(Stream, Origin)> {
        match self {
            ListeningSocket::Tcp(port) => {
                let (stream, peer) = port.accept()?;
                let _ = stream.set_nodelay(true);
                // If this fails, only heartbeats show that a peer is gone.
                let _ = keep_alive(&stream);
                Ok((Stream::Tcp(stream), Origin::Address(peer.ip())))
            }
            ListeningSocket::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                let from = Origin::of_user(&stream);
                Ok((Stream::Unix(stream), from))
            }
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket that is registered with the readiness queue as long as it lives.
struct Registered {
    stream: Stream,
    registry: Arc<Registry>,
}

impl Registered {
    fn new(mut stream: Stream, registry: Arc<Registry>, conn: ConnId) -> io::Result<Registered> {
        let token = Token(usize::try_from(conn.0).map_err(io::Error::other)?);
        let both = Interest::READABLE | Interest::WRITABLE;
        match &mut stream {
            Stream::Tcp(stream) => registry.register(stream, token, both)?,
            Stream::Unix(stream) => registry.register(stream, token, both)?,
        }
        Ok(Registered { stream, registry })
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _ = match &mut self.stream {
            Stream::Tcp(stream) => self.registry.deregister(stream),
            Stream::Unix(stream) => self.registry.deregister(stream),
        };
    }
}

impl Read for Registered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Registered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for Registered {
    fn shut_down(&mut self) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn notes_what_follows(&self) -> bool {
        true
    }
}

fn tokio_only() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "HTTP/2 and QUIC are served by arcp-tokio-adapter")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use arcp_host::registry::Registry as Agents;
    use arcp_proto::runtime::Config;

    use super::*;

    fn server() -> Server {
        let host = Host::new(Config::new("test", "1"), Agents::default());
        Server::bind(&ServerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0))), host).expect("a port")
    }

    #[test]
    fn an_answered_request_that_the_peer_leaves_open_gives_nothing_to_do() {
        let mut server = server();
        let mut client = std::net::TcpStream::connect(server.address()).expect("a connection");
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
        let mut events = Events::with_capacity(16);
        let mut steps = 0;
        loop {
            server.step(&mut events, Some(Duration::from_millis(300))).expect("readiness");
            steps += 1;
            assert!(steps < 50, "the loop is kept busy");
            if events.is_empty() && !server.serving.has_work() {
                break;
            }
        }
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer and an end");
        assert!(answer.ends_with("ok\n"), "{answer}");
        assert_eq!(server.serving.connections(), 1, "it may still say something");
    }
}

//! The server: one port, one thread, any number of sessions.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arcp_host::driver::{Host, HostError};
pub use arcp_host::server::{ServerConfig, ServerHandle, Stopped};
use arcp_host::server::{ServerLoop, Socket, descriptors_for_connections, keep_alive};
use arcp_proto::id::ConnId;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token, Waker};

/// The tokens of connections come after these.
const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);

/// What is taken from the system at once.
const EVENTS: usize = 1024;
/// A port that is bound. Who connects waits until it is [served](Server::on).
#[derive(Debug)]
pub struct Port(TcpListener);

impl Port {
    /// Binds it.
    ///
    /// # Errors
    ///
    /// If it cannot be had.
    pub fn bind(listen: SocketAddr) -> io::Result<Port> {
        TcpListener::bind(listen).map(Port)
    }
}

/// A WebSocket server.
///
/// A quarter of the files that the process may open, but no more than 1,024,
/// is kept for the store and for agents; connections beyond the rest wait to be
/// accepted.
pub struct Server {
    poll: Poll,
    registry: Arc<Registry>,
    listener: Option<TcpListener>,
    address: SocketAddr,
    scheme: &'static str,
    serving: ServerLoop<Registered>,
}

impl Server {
    /// Binds the port. Nothing is served before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// If the port cannot be had, the configuration cannot work, or others could
    /// read what is sent to it: [`HostError::Cleartext`].
    pub fn bind(config: &ServerConfig, host: Host) -> Result<Server, HostError> {
        Server::on(Port::bind(config.listen)?, config, host)
    }

    /// Takes a port that is bound, whatever the configuration says of it.
    ///
    /// # Errors
    ///
    /// If the configuration cannot work, others could read what is sent to the
    /// port, or the store cannot be read.
    pub fn on(Port(mut listener): Port, config: &ServerConfig, host: Host) -> Result<Server, HostError> {
        config.allows(listener.local_addr()?)?;
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        // It fails only when the poll is gone, and with it the server.
        let wake = move || drop(waker.wake());
        Ok(Server {
            scheme: config.scheme(),
            address: listener.local_addr()?,
            listener: Some(listener),
            registry: Arc::new(poll.registry().try_clone()?),
            serving: ServerLoop::new(config, descriptors_for_connections(), host, wake)?,
            poll,
        })
    }

    /// The address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its clients connect to.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.address, self.serving.path())
    }

    /// What tells it what to do, from another thread.
    pub fn handle(&self) -> ServerHandle {
        self.serving.handle()
    }

    /// Serves until it is told to stop and everything is closed.
    ///
    /// # Errors
    ///
    /// If the system's readiness queue fails, or the store is somebody else's:
    /// then every connection is dropped as it is.
    pub fn run(mut self) -> Result<Stopped, HostError> {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            if let Some(stopped) = self.serving.stopped()? {
                return Ok(stopped);
            }
            if self.serving.is_ending()
                && let Some(mut listener) = self.listener.take()
            {
                let _ = self.registry.deregister(&mut listener);
            }
            self.step(&mut events, None)?;
        }
    }

    /// Waits until there is something to do, at most this long, and does it.
    fn step(&mut self, events: &mut Events, most: Option<Duration>) -> Result<(), HostError> {
        let wait = self.serving.next_wait().into_iter().chain(most).min();
        match self.poll.poll(events, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        for event in &*events {
            match event.token() {
                LISTENER => self.accept(),
                WAKER => {}
                Token(conn) => {
                    let readable = event.is_readable() || event.is_read_closed();
                    self.serving.note(ConnId(conn as u64), readable, event.is_writable());
                }
            }
        }
        self.serving.turn(events.iter().count() < events.capacity())?;
        if self.serving.accept_is_due() {
            self.accept();
        }
        Ok(())
    }

    fn accept(&mut self) {
        while let Some(listener) = &self.listener
            && self.serving.may_accept()
        {
            match listener.accept() {
                Ok((stream, peer)) => {
                    let registry = self.registry.clone();
                    self.serving.accept(Some(peer.ip()), |conn| Registered::new(stream, registry, conn));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.serving.accepted_all(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.serving.accept_later(&error),
            }
        }
    }
}

/// A socket that the readiness queue knows, as long as it lives.
struct Registered {
    stream: TcpStream,
    registry: Arc<Registry>,
}

impl Registered {
    fn new(mut stream: TcpStream, registry: Arc<Registry>, conn: ConnId) -> io::Result<Registered> {
        let _ = stream.set_nodelay(true);
        // Without it only heartbeats tell that a peer is gone.
        let _ = keep_alive(&stream);
        let token = Token(usize::try_from(conn.0).map_err(io::Error::other)?);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Registered { stream, registry })
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _ = self.registry.deregister(&mut self.stream);
    }
}

impl Read for Registered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Registered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Socket for Registered {
    fn shut_down(&mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }
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

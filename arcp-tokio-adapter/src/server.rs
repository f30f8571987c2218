//! The server: any number of listeners and sessions in one task.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arcp_host::driver::{Host, HostError};
use arcp_host::http::UpgradePolicy;
use arcp_host::server::{
    Begins, Bound, Kept, Origin, ServerConfig, ServerHandle, ServerLoop, Stopped, Vouched, descriptors_for_connections,
    keep_alive,
};
pub use arcp_host::server::{Listen, ListenError, Listener};
use arcp_proto::id::{ConnId, Principal};
use arcp_proto::runtime::Transport;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

#[cfg(any(feature = "http2", feature = "quic"))]
use crate::carrier::{News, Ports};
#[cfg(not(all(feature = "http2", feature = "quic")))]
use crate::dial::unsupported;
use crate::readiness::Readiness;
use crate::socket::{ByteStream, Polled};

/// The most streams that were handed over and not taken up; after that, handing over waits.
const ARRIVALS: usize = 64;
/// The most connections that one listener accepts in a turn.
const ACCEPTED: usize = 64;
/// How long agents may continue after the peer of [`serve`] has left.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// A server on ports, on Unix sockets, and on streams that an [`Acceptor`] hands over.
///
/// One task owns the runtime and all connections, and never blocks: the store, and agents that block, have threads of
/// their own. It reserves as many files for them as the server of `arcp-blocking` does.
pub struct Server {
    serving: ServerLoop<Polled>,
    readiness: Arc<Readiness>,
    listening: Vec<Listening>,
    places: Vec<Listen>,
    acceptor: Acceptor,
    arrivals: mpsc::Receiver<Arrival>,
    /// Things that must live until the last connection is gone, such as the file of a Unix socket.
    kept: Vec<Kept>,
    /// The endpoints of QUIC: they still send packets when all connections are closed.
    #[cfg(feature = "quic")]
    endpoints: Vec<quinn::Endpoint>,
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

/// An accepted stream and its origin.
type Accepted = (Pin<Box<dyn ByteStream>>, Origin);

/// Hands streams over to a running server.
#[derive(Clone, Debug)]
pub struct Acceptor {
    arrivals: mpsc::Sender<Arrival>,
    /// Decides which requests become WebSockets, where another HTTP server reads the requests.
    #[cfg_attr(not(feature = "tower"), allow(dead_code, reason = "nobody else reads requests"))]
    pub(crate) upgrades: Arc<UpgradePolicy>,
    /// The settings of HTTP/2 and QUIC ports.
    #[cfg(any(feature = "http2", feature = "quic"))]
    pub(crate) ports: Arc<Ports>,
}

pub(crate) enum Arrival {
    Stream {
        stream: Pin<Box<dyn ByteStream>>,
        from: Origin,
        begins: Begins,
    },
    /// A message of a connection that carries sessions as streams.
    #[cfg(any(feature = "http2", feature = "quic"))]
    OfCarrier(News),
}

impl Server {
    /// Binds all listeners, and reads the store. Nothing is served before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// If a listener cannot be bound, the configuration cannot work, others could read what is sent there
    /// ([`HostError::Cleartext`]), or the store cannot be read.
    pub async fn bind(config: &ServerConfig, host: Host) -> Result<Server, HostError> {
        let places = config.listen.clone();
        // This looks at files, and may wait for locks.
        let bind = move || places.iter().map(Listener::bind).collect::<io::Result<Vec<Listener>>>();
        let bound = tokio::task::spawn_blocking(bind).await.map_err(io::Error::other)??;
        Server::on(bound, config, host).await
    }

    /// Uses listeners that are bound already; those of the configuration are ignored.
    ///
    /// # Errors
    ///
    /// If the configuration cannot work, others could read what is sent to a port, or the store cannot be read.
    pub async fn on(bound: Vec<Listener>, config: &ServerConfig, host: Host) -> Result<Server, HostError> {
        bound.iter().try_for_each(|listener| config.allows(listener.place()))?;
        let mut server = Server::without_port(config, host).await?;
        bound.into_iter().try_for_each(|listener| server.listen(listener, config))?;
        Ok(server)
    }

    fn listen(&mut self, listener: Listener, config: &ServerConfig) -> io::Result<()> {
        let (listen, bound, kept) = listener.into_parts();
        let listen = config.settled(listen);
        let socket = match bound {
            Bound::Tcp(port) => match listen {
                Listen::Http2 { tls, .. } => {
                    self.carry_http2(TcpListener::from_std(port)?, tls)?;
                    self.places.push(listen);
                    return Ok(());
                }
                Listen::WebSocket { .. } | Listen::Quic { .. } | Listen::Unix { .. } | Listen::Stdio => {
                    ListeningSocket::Tcp(TcpListener::from_std(port)?)
                }
            },
            Bound::Udp(socket) => {
                self.carry_quic(socket)?;
                self.places.push(listen);
                return Ok(());
            }
            Bound::Unix(socket) => ListeningSocket::Unix(UnixListener::from_std(socket)?),
            Bound::Peer(stream) => {
                let stream = UnixStream::from_std(stream)?;
                let (from, begins) = (Origin::own(), listen.begins());
                self.take_up(Arrival::Stream { stream: Box::pin(stream), from, begins });
                self.kept.push(kept);
                self.places.push(listen);
                return Ok(());
            }
        };
        self.listening.push(Listening { socket, begins: listen.begins(), _kept: kept });
        self.places.push(listen);
        Ok(())
    }

    #[cfg(feature = "http2")]
    fn carry_http2(&self, port: TcpListener, tls: bool) -> io::Result<()> {
        let tls = if tls { Some(self.acceptor.ports.certificates()?) } else { None };
        tokio::spawn(crate::http2::serve(port, tls, self.acceptor.clone()));
        Ok(())
    }

    #[cfg(not(feature = "http2"))]
    #[allow(clippy::unused_self, reason = "as where it is built in")]
    fn carry_http2(&self, _: TcpListener, _: bool) -> io::Result<()> {
        Err(unsupported("http2"))
    }

    #[cfg(feature = "quic")]
    fn carry_quic(&mut self, socket: UdpSocket) -> io::Result<()> {
        let certificates = self.acceptor.ports.certificates()?;
        let endpoint = crate::quic::endpoint(socket, &certificates, &self.acceptor.ports)?;
        self.endpoints.push(endpoint.clone());
        tokio::spawn(crate::quic::serve(endpoint, certificates, self.acceptor.clone()));
        Ok(())
    }

    #[cfg(not(feature = "quic"))]
    #[allow(clippy::unused_self, reason = "as where it is built in")]
    fn carry_quic(&self, _: UdpSocket) -> io::Result<()> {
        Err(unsupported("quic"))
    }

    /// A server without listeners, only for streams that are handed over.
    ///
    /// # Errors
    ///
    /// As [`on`](Self::on).
    pub async fn without_port(config: &ServerConfig, host: Host) -> Result<Server, HostError> {
        let (readiness, runtime, config) = (Arc::<Readiness>::default(), Handle::current(), config.clone());
        #[cfg(any(feature = "http2", feature = "quic"))]
        let ports = Arc::new(Ports::new(&config, &host.config));
        let host = match host.run_task {
            Some(_) => host,
            None => host.with_tasks_run_by(move |task| drop(runtime.spawn(task))),
        };
        let woken = readiness.clone();
        let start = move || ServerLoop::new(&config, descriptors_for_connections(), host, move || woken.wake());
        let serving: ServerLoop<Polled> = tokio::task::spawn_blocking(start).await.map_err(io::Error::other)??;
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let acceptor = Acceptor {
            arrivals: sender,
            upgrades: Arc::new(serving.upgrades().clone()),
            #[cfg(any(feature = "http2", feature = "quic"))]
            ports,
        };
        Ok(Server {
            serving,
            readiness,
            listening: Vec::new(),
            places: Vec::new(),
            acceptor,
            arrivals,
            kept: Vec::new(),
            #[cfg(feature = "quic")]
            endpoints: Vec::new(),
        })
    }

    /// The address of the first port.
    ///
    /// # Errors
    ///
    /// If it listens on no port.
    pub fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.places.iter().find_map(Listen::address).ok_or(io::ErrorKind::NotConnected)?)
    }

    /// The listeners, with the ports that the system has picked.
    pub fn places(&self) -> &[Listen] {
        &self.places
    }

    /// A handle to control the server.
    pub fn handle(&self) -> ServerHandle {
        self.serving.handle()
    }

    /// A handle to hand streams over to the server.
    pub fn acceptor(&self) -> Acceptor {
        self.acceptor.clone()
    }

    /// Serves until the server is told to stop and all connections are closed.
    ///
    /// If the future is dropped before, all connections are dropped at once. Agents then have up to a second to end,
    /// in which the dropping thread waits.
    ///
    /// # Errors
    ///
    /// If another process has taken over the store: then all connections are dropped at once.
    pub async fn run(mut self) -> Result<Stopped, HostError> {
        let stopped = self.serve(None).await;
        #[cfg(feature = "quic")]
        {
            // No more streams are handed over.
            self.arrivals.close();
            crate::quic::finish(&self.endpoints).await;
        }
        // Dropping the server waits for agents to end.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
        stopped
    }

    /// Serves. With `drain_alone`, starts to drain when there are no connections.
    async fn serve(&mut self, drain_alone: Option<ServerHandle>) -> Result<Stopped, HostError> {
        loop {
            if let Some(stopped) = self.serving.stopped()? {
                return Ok(stopped);
            }
            if self.serving.is_ending() {
                self.listening.clear();
            }
            self.step().await?;
            if let Some(handle) = drain_alone.as_ref().filter(|_| self.serving.connections() == 0) {
                handle.drain();
            }
        }
    }

    /// Waits until there is something to do, and does it.
    async fn step(&mut self) -> Result<(), HostError> {
        let wait = self.serving.next_wait();
        if wait != Some(Duration::ZERO) {
            // Without a deadline, a time that is never reached.
            let mut sleep = pin!(tokio::time::sleep(wait.unwrap_or(Duration::from_secs(u64::from(u32::MAX)))));
            poll_fn(|cx| if self.collect(cx) { Poll::Ready(()) } else { sleep.as_mut().poll(cx) }).await;
        }
        // Let other tasks run, and let bytes arrive: a peer that seems silent may have sent something.
        tokio::task::yield_now().await;
        // A turn has bounds of its own. Under tokio's task budget, it could leave peers unread and then judge them
        // silent.
        let turn = poll_fn(|cx| {
            self.collect(cx);
            Poll::Ready(self.serving.turn(true))
        });
        tokio::task::unconstrained(turn).await?;
        let _ = self.serving.accept_is_due();
        Ok(())
    }

    /// Takes in what is ready; returns whether there was anything.
    fn collect(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        if let Poll::Ready(ready) = self.readiness.poll(cx) {
            ready.into_iter().for_each(|conn| self.serving.note(conn, true, true));
            any = true;
        }
        for _ in 0..ARRIVALS {
            let Poll::Ready(Some(arrival)) = self.arrivals.poll_recv(cx) else {
                break;
            };
            self.take_up(arrival);
            any = true;
        }
        for at in 0..self.listening.len() {
            any |= self.accept(at, cx);
        }
        any
    }

    /// Accepts the connections that wait at a listener; returns whether there were any.
    fn accept(&mut self, at: usize, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        for _ in 0..ACCEPTED {
            if !self.serving.may_accept() {
                break;
            }
            let Listening { socket, begins, .. } = &self.listening[at];
            match socket.poll_accept(cx) {
                Poll::Ready(Ok((stream, from))) => {
                    let begins = begins.clone();
                    self.take_up(Arrival::Stream { stream, from, begins });
                }
                Poll::Ready(Err(error)) => self.serving.accept_later(&error),
                Poll::Pending => {
                    self.serving.accepted_all();
                    break;
                }
            }
            any = true;
        }
        any
    }

    fn take_up(&mut self, arrival: Arrival) {
        let readiness = self.readiness.clone();
        let (stream, from, begins) = match arrival {
            Arrival::Stream { stream, from, begins } => (stream, from, begins),
            #[cfg(any(feature = "http2", feature = "quic"))]
            Arrival::OfCarrier(news) => return news.hear(&mut self.serving, &readiness),
        };
        let socket = move |conn: ConnId| Ok(Polled::new(stream, readiness.waker(conn)));
        self.serving.accept(from, begins, socket);
    }
}

impl ListeningSocket {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        match self {
            ListeningSocket::Tcp(port) => port.poll_accept(cx).map_ok(|(stream, peer)| -> Accepted {
                let _ = stream.set_nodelay(true);
                // If this fails, only heartbeats show that a peer is gone.
                let _ = keep_alive(&stream);
                (Box::pin(stream), Origin::Address(peer.ip()))
            }),
            ListeningSocket::Unix(socket) => socket.poll_accept(cx).map_ok(|(stream, _)| -> Accepted {
                let from = Origin::of_user(&stream);
                (Box::pin(stream), from)
            }),
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("serving", &self.serving).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Hands over a stream that begins with an HTTP request, as on a port without TLS. That others cannot read it is
    /// up to the application.
    ///
    /// # Errors
    ///
    /// If the server has ended.
    pub async fn request(&self, stream: impl ByteStream, address: Option<IpAddr>) -> io::Result<()> {
        self.hand(Arrival::Stream { stream: Box::pin(stream), from: address.into(), begins: Begins::Request }).await
    }

    /// Hands over a stream that is a WebSocket already: its request was judged and answered.
    ///
    /// # Errors
    ///
    /// If the server has ended.
    pub async fn websocket(&self, stream: impl ByteStream, address: Option<IpAddr>) -> io::Result<()> {
        let begins = Begins::Frames(Transport::WebSocket, Vouched::default());
        self.hand(Arrival::Stream { stream: Box::pin(stream), from: address.into(), begins }).await
    }

    /// Hands over a stream with one frame per line. `peer` is its principal; with `None` it must present a credential.
    ///
    /// # Errors
    ///
    /// If the server has ended.
    pub async fn lines(&self, stream: impl ByteStream, peer: Option<Principal>) -> io::Result<()> {
        let begins = Begins::Frames(Transport::Lines, peer.into());
        self.hand(Arrival::Stream { stream: Box::pin(stream), from: Origin::Unknown, begins }).await
    }

    /// Returns when the server has ended.
    #[cfg(any(feature = "http2", feature = "quic"))]
    pub(crate) async fn ended(&self) {
        self.arrivals.closed().await;
    }

    pub(crate) async fn hand(&self, arrival: Arrival) -> io::Result<()> {
        self.arrivals
            .send(arrival)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::NotConnected, "the server has ended"))
    }
}

impl std::fmt::Debug for Arrival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arrival").finish_non_exhaustive()
    }
}

/// Serves one peer with one frame per line until it leaves: for example the parent process on stdin and stdout
/// ([`tokio::io::join`] makes one stream of them), or the other end of an in-memory duplex. `peer` is its principal;
/// with `None` it must present a credential.
///
/// # Errors
///
/// If the configuration cannot work, the store cannot be read, or another process has taken it over.
pub async fn serve(host: Host, peer: Option<Principal>, stream: impl ByteStream) -> Result<(), HostError> {
    let mut config = ServerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.drain_grace = Some(LAST_GRACE);
    let mut server = Server::without_port(&config, host).await?;
    let begins = Begins::Frames(Transport::Lines, peer.into());
    server.take_up(Arrival::Stream { stream: Box::pin(stream), from: Origin::Unknown, begins });
    let handle = server.handle();
    let stopped = server.serve(Some(handle)).await;
    let _ = tokio::task::spawn_blocking(move || drop(server)).await;
    stopped.map(drop)
}

#[cfg(test)]
mod tests {
    use arcp_host::agent::Outcome;
    use arcp_host::registry::Registry;
    use arcp_proto::runtime::Config;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    /// More peers than tokio's task budget lets the task read in one turn.
    const PEERS: usize = 300;

    #[test]
    fn one_turn_hears_everybody_who_is_ready() {
        assert_eq!(runtime().block_on(heard_in_one_turn()), PEERS);
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    const HELLO: &[u8] = b"{\"id\":\"1\",\"type\":\"session.hello\"}\n";
    const SUBMIT: &[u8] = b"{\"id\":\"2\",\"type\":\"job.submit\",\"payload\":{\"agent\":\"a\"}}\n";

    async fn server(registry: Registry, change: impl FnOnce(Host) -> Host) -> Server {
        let host = change(Host::new(Config::new("test", "1"), registry));
        let config = ServerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        Server::without_port(&config, host).await.expect("it starts")
    }

    /// A peer that has sent these bytes by the next turn.
    async fn peer(server: &mut Server, said: &[u8]) -> DuplexStream {
        let (mut near, far) = tokio::io::duplex(4 << 10);
        near.write_all(said).await.expect("there is room");
        let begins = Begins::Frames(Transport::Lines, Principal::new("p").into());
        server.take_up(Arrival::Stream { stream: Box::pin(far), from: Origin::Unknown, begins });
        near
    }

    /// How many of the peers that have sent something are answered.
    async fn heard_in_one_turn() -> usize {
        let mut server = server(Registry::default(), |host| host).await;
        let mut peers = Vec::new();
        for _ in 0..PEERS {
            peers.push(peer(&mut server, HELLO).await);
        }
        server.step().await.expect("a turn");
        let mut answered = 0;
        for peer in &mut peers {
            let mut first = [0];
            let read = tokio::task::unconstrained(tokio::time::timeout(Duration::ZERO, peer.read_exact(&mut first)));
            answered += usize::from(read.await.is_ok());
        }
        answered
    }

    #[test]
    fn whoever_a_host_has_run_its_tasks_runs_them() {
        let (sender, given) = std::sync::mpsc::channel();
        let mut registry = Registry::default();
        registry.add_async("a", None, async |_, _| Ok(Outcome::Empty));
        let run_task = move |task| {
            drop(task);
            let _ = sender.send(());
        };
        runtime().block_on(async {
            let mut server = server(registry, |host| host.with_tasks_run_by(run_task)).await;
            let _peer = peer(&mut server, &[HELLO, SUBMIT].concat()).await;
            server.step().await.expect("a turn");
        });
        assert!(given.try_recv().is_ok());
    }
}

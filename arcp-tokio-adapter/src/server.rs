//! The server: any number of places to listen, one task, any number of sessions.

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

/// Streams that were handed over and are not taken up; whoever hands over more
/// waits.
const ARRIVALS: usize = 64;
/// Connections accepted before others get their turn.
const ACCEPTED: usize = 64;
/// How long agents may go on after the peer of [`serve`] has left.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// A server on ports, on Unix sockets, and on streams that it is [handed](Acceptor).
///
/// One task owns the runtime and every connection. It waits for nobody: the
/// store and agents that block have threads of their own. It keeps as many
/// files free for them as the server of `arcp-blocking` does.
pub struct Server {
    serving: ServerLoop<Polled>,
    readiness: Arc<Readiness>,
    listening: Vec<Listening>,
    places: Vec<Listen>,
    acceptor: Acceptor,
    arrivals: mpsc::Receiver<Arrival>,
    /// Until the last connection is gone.
    kept: Vec<Kept>,
    /// Those of QUIC, which still speak when everything is closed.
    #[cfg(feature = "quic")]
    endpoints: Vec<quinn::Endpoint>,
}

/// A place that is accepted on.
struct Listening {
    socket: ListeningSocket,
    begins: Begins,
    _kept: Kept,
}

enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A stream that was accepted, and where it comes from.
type Accepted = (Pin<Box<dyn ByteStream>>, Origin);

/// Hands streams to a running server.
#[derive(Clone, Debug)]
pub struct Acceptor {
    arrivals: mpsc::Sender<Arrival>,
    /// Which requests become WebSockets, where another server reads them.
    #[cfg_attr(not(feature = "tower"), allow(dead_code, reason = "nobody else reads requests"))]
    pub(crate) upgrades: Arc<UpgradePolicy>,
    /// What ports of connections that carry others are served with.
    #[cfg(any(feature = "http2", feature = "quic"))]
    pub(crate) ports: Arc<Ports>,
}

pub(crate) enum Arrival {
    Stream {
        stream: Pin<Box<dyn ByteStream>>,
        from: Origin,
        begins: Begins,
    },
    /// Of a connection that carries others.
    #[cfg(any(feature = "http2", feature = "quic"))]
    OfCarrier(News),
}

impl Server {
    /// Binds every place, and reads the whole store. Nothing is served before
    /// [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// If a place cannot be had, the configuration cannot work, others could read
    /// what is sent there ([`HostError::Cleartext`]), or the store cannot be
    /// read.
    pub async fn bind(config: &ServerConfig, host: Host) -> Result<Server, HostError> {
        let places = config.listen.clone();
        // Files are looked at, and perhaps waited for.
        let bind = move || places.iter().map(Listener::bind).collect::<io::Result<Vec<Listener>>>();
        let bound = tokio::task::spawn_blocking(bind).await.map_err(io::Error::other)??;
        Server::on(bound, config, host).await
    }

    /// Takes places that are bound, whatever the configuration says of them.
    ///
    /// # Errors
    ///
    /// If the configuration cannot work, others could read what is sent to a
    /// port, or the store cannot be read.
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

    /// A server of the streams it is handed, and no other.
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

    /// The address of its first port.
    ///
    /// # Errors
    ///
    /// If it has none.
    pub fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.places.iter().find_map(Listen::address).ok_or(io::ErrorKind::NotConnected)?)
    }

    /// Where it listens, with the ports that were picked.
    pub fn places(&self) -> &[Listen] {
        &self.places
    }

    /// What tells it what to do, from anywhere.
    pub fn handle(&self) -> ServerHandle {
        self.serving.handle()
    }

    /// What hands streams to it, from anywhere.
    pub fn acceptor(&self) -> Acceptor {
        self.acceptor.clone()
    }

    /// Serves until it is told to stop and everything is closed.
    ///
    /// If this is dropped before, every connection is dropped as it is, and
    /// agents are given up to a second to end, in the thread that drops it.
    ///
    /// # Errors
    ///
    /// If the store is somebody else's: then every connection is dropped as it
    /// is.
    pub async fn run(mut self) -> Result<Stopped, HostError> {
        let stopped = self.serve(None).await;
        #[cfg(feature = "quic")]
        {
            // Nobody else is let in.
            self.arrivals.close();
            crate::quic::finish(&self.endpoints).await;
        }
        // It waits for agents that end.
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
        stopped
    }

    /// Serves; once there are no connections it drains, if it is told how.
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
            // What is never reached is no deadline.
            let mut sleep = pin!(tokio::time::sleep(wait.unwrap_or(Duration::from_secs(u64::from(u32::MAX)))));
            poll_fn(|cx| if self.collect(cx) { Poll::Ready(()) } else { sleep.as_mut().poll(cx) }).await;
        }
        // Others get their turn, and so does what has arrived: whoever was
        // silent may have spoken in it.
        tokio::task::yield_now().await;
        // A turn has bounds of its own. With the budget of a task it would leave
        // peers unheard who have spoken, and call them silent.
        let turn = poll_fn(|cx| {
            self.collect(cx);
            Poll::Ready(self.serving.turn(true))
        });
        tokio::task::unconstrained(turn).await?;
        let _ = self.serving.accept_is_due();
        Ok(())
    }

    /// Takes up what is ready; whether there was anything.
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

    /// Takes up who waits at a place; whether there was anybody.
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
                // Without it only heartbeats tell that a peer is gone.
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
    /// Hands over a stream on which an HTTP request comes first, as on a port
    /// without TLS: what its bytes are kept from others by is its application's
    /// business.
    ///
    /// # Errors
    ///
    /// If the server has ended.
    pub async fn request(&self, stream: impl ByteStream, address: Option<IpAddr>) -> io::Result<()> {
        self.hand(Arrival::Stream { stream: Box::pin(stream), from: address.into(), begins: Begins::Request }).await
    }

    /// Hands over a stream that is a WebSocket by now: its request was judged
    /// and answered.
    ///
    /// # Errors
    ///
    /// If the server has ended.
    pub async fn websocket(&self, stream: impl ByteStream, address: Option<IpAddr>) -> io::Result<()> {
        let begins = Begins::Frames(Transport::WebSocket, Vouched::default());
        self.hand(Arrival::Stream { stream: Box::pin(stream), from: address.into(), begins }).await
    }

    /// Hands over a stream with one frame a line. `peer` is who it is, unless it
    /// has to prove it.
    ///
    /// # Errors
    ///
    /// If the server has ended.
    pub async fn lines(&self, stream: impl ByteStream, peer: Option<Principal>) -> io::Result<()> {
        let begins = Begins::Frames(Transport::Lines, peer.into());
        self.hand(Arrival::Stream { stream: Box::pin(stream), from: Origin::Unknown, begins }).await
    }

    /// Ends once its server has.
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

/// Serves one peer, one frame a line, until it leaves: a child process on its
/// stdin and stdout ([`tokio::io::join`] makes them one stream), or whoever has
/// the other end of a duplex in memory. `peer` is who it is, unless it has to
/// prove it.
///
/// # Errors
///
/// If the configuration cannot work, the store cannot be read, or it is
/// somebody else's.
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

    /// More than the budget of a task lets it hear.
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

    /// A peer that has said this by the next turn.
    async fn peer(server: &mut Server, said: &[u8]) -> DuplexStream {
        let (mut near, far) = tokio::io::duplex(4 << 10);
        near.write_all(said).await.expect("there is room");
        let begins = Begins::Frames(Transport::Lines, Principal::new("p").into());
        server.take_up(Arrival::Stream { stream: Box::pin(far), from: Origin::Unknown, begins });
        near
    }

    /// How many of those that have said something are answered.
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

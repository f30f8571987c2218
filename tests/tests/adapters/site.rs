//! A server over an adapter.

use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use arcp_blocking::{Host, HostError, Listen, Security, Server, ServerConfig, ServerHandle, Target, stdio};
use arcp_host::agent::Inbox;
use arcp_host::registry::Registry;
use arcp_host::store::{MemoryStore, Store};
use arcp_proto::id::SessionId;
use arcp_proto::model::request::Extension;
use arcp_proto::runtime::{Config, Input, Notice, Operator};
use arcp_tests::kept::Folder;
use arcp_tests::raw::hello_payload;
use arcp_tests::server::{PATIENCE, Running, websocket_to};
use tokio::runtime::Runtime;

use crate::carried::{certificates, stream, stream_beside, websocket_over_tls};
use crate::event_loop::EventLoop;
use crate::peer::Peer;
use crate::registry;

/// Who moves the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    Blocking,
    Tokio,
    /// The example of a loop of one's own: it has no HTTP, and no reasons for a close.
    EventLoop,
}

/// What carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    WebSocket,
    /// The same over TLS.
    Tls,
    /// A Unix socket: one frame a line.
    Unix,
    /// HTTP/2, in cleartext, and over TLS: one frame a line.
    H2c,
    H2,
    /// One frame a line.
    Quic,
    /// stdin and stdout, one frame a line: one peer, with whom the server ends.
    Stdio,
}

/// What a scenario is played against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way(pub Adapter, pub Over);

/// A server; it stops with the value.
pub struct Site {
    /// Where it listens.
    pub target: Target,
    /// How its certificate is trusted, if it has one.
    pub security: Security,
    notices: Receiver<Notice>,
    extensions: Receiver<(SessionId, Extension)>,
    handle: Option<Handle>,
    /// Gives how many jobs were cut.
    thread: Option<JoinHandle<Result<usize, HostError>>>,
    /// The other end of stdin and stdout, until somebody has it.
    parent: Mutex<Option<UnixStream>>,
    _folder: Folder,
}

/// Tells a server what to do.
pub enum Handle {
    Server(ServerHandle),
    /// A loop of one's own; whether it is to end whatever goes on, or once every job has ended.
    Loop(Arc<dyn Inbox>, Arc<AtomicBool>, Arc<AtomicBool>),
}

impl Handle {
    pub fn drain(&self) {
        match self {
            Handle::Server(handle) => handle.drain(),
            Handle::Loop(inbox, _, drained) => {
                drained.store(true, Ordering::SeqCst);
                inbox.put(Input::Operator(Operator::Drain));
            }
        }
    }

    pub fn shutdown(&self) {
        match self {
            Handle::Server(handle) => handle.shutdown(),
            Handle::Loop(_, at_once, _) => {
                at_once.store(true, Ordering::SeqCst);
                self.drain();
            }
        }
    }

    fn send_extension(&self, session: SessionId, message: Extension) {
        match self {
            Handle::Server(handle) => handle.send_extension(session, message),
            Handle::Loop(inbox, ..) => inbox.put(Input::SendExtension { session, message }),
        }
    }
}

impl Site {
    pub fn start(way: Way, change: fn(&mut Config)) -> Site {
        Site::start_on(way, Box::<MemoryStore>::default(), change)
    }

    pub fn start_on(way: Way, store: Box<dyn Store>, change: fn(&mut Config)) -> Site {
        Site::with(way, registry(), store, change)
    }

    pub fn with(Way(adapter, over): Way, registry: Registry, store: Box<dyn Store>, change: fn(&mut Config)) -> Site {
        let (sender, notices) = channel();
        let host = Running::host_of(store, registry, |config| {
            config.timing.heartbeat = None;
            config.timing.cancel_grace = Duration::from_millis(100);
            change(config);
        });
        let host = host.observed_by(move |notice| drop(sender.send(notice.clone())));
        let (sender, extensions) = channel();
        let host = host.with_extensions(move |session, message| drop(sender.send((session, message))));
        let folder = folder();
        let mut config = ServerConfig::new(LISTEN);
        let (address, mut security) = (LISTEN, Security::default());
        config.listen = vec![match over {
            Over::WebSocket => Listen::WebSocket { address, tls: Some(false) },
            Over::Tls => Listen::WebSocket { address, tls: Some(true) },
            Over::Unix => Listen::Unix { path: folder.0.join("socket"), mode: 0o600 },
            Over::H2c => Listen::Http2 { address, tls: false },
            Over::H2 => Listen::Http2 { address, tls: true },
            Over::Quic => Listen::Quic { address },
            Over::Stdio => Listen::Stdio,
        }];
        if matches!(over, Over::Tls | Over::H2 | Over::Quic) {
            let (certificates, trusted) = certificates(&folder);
            (config.tls, security) = (Some(certificates), trusted);
        }
        let mut parent = None;
        let (target, handle, thread) = if over == Over::Stdio {
            let (near, far) = UnixStream::pair().expect("a pair");
            near.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            parent = Some(near);
            (Target::Program("its parent".to_string()), None, serve_stdio(adapter, host, far))
        } else {
            match adapter {
                Adapter::Blocking => serve_blocking(&config, host),
                Adapter::Tokio => serve_tokio(config, host),
                Adapter::EventLoop => serve_event_loop(host),
            }
        };
        let parent = Mutex::new(parent);
        Site { target, security, notices, extensions, handle, thread: Some(thread), parent, _folder: folder }
    }

    /// The other end of stdin and stdout, which there is once.
    pub fn parent(&self) -> UnixStream {
        self.parent.lock().expect("no panic").take().expect("it has one peer")
    }

    /// The address of its port.
    pub fn address(&self) -> SocketAddr {
        match &self.target {
            Target::WebSocket { host, port, .. } => format!("{host}:{port}").parse().expect("an address"),
            Target::Http2 { .. } | Target::Quic { .. } | Target::Unix(_) | Target::Program(_) => {
                panic!("{} has no port for WebSockets", self.target)
            }
        }
    }

    /// A peer that has said nothing yet.
    pub fn peer(&self) -> Peer {
        match &self.target {
            Target::Unix(path) => {
                let socket = UnixStream::connect(path).expect("a connection");
                socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                Peer::by_lines(socket)
            }
            Target::Http2 { .. } | Target::Quic { .. } => {
                let socket = stream(&self.target, &self.security);
                socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                Peer::by_lines(socket)
            }
            Target::WebSocket { tls: true, .. } => {
                Peer::by_websocket(websocket_over_tls(self.address(), &self.security))
            }
            Target::WebSocket { .. } => Peer::by_websocket(websocket_to(self.address())),
            Target::Program(_) => Peer::by_lines(self.parent()),
        }
    }

    /// One that has binary messages.
    pub fn peer_beside(&self) -> Peer {
        let Target::Quic { .. } = &self.target else { return self.peer() };
        let socket = stream_beside(&self.target, &self.security);
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Peer::by_lines(socket)
    }

    /// A peer with a session.
    pub fn session(&self) -> Peer {
        let mut peer = self.peer();
        peer.say("h", "session.hello", hello_payload("tok-a"));
        peer.until("session.welcome");
        peer
    }

    pub fn handle(&self) -> &Handle {
        self.handle.as_ref().expect("it can be told to stop")
    }

    /// Sends a message of an extension back to whoever sends one.
    pub fn answer_extension(&self, answer: &Extension) {
        let (session, _) = self.extensions.recv_timeout(PATIENCE).expect("a message comes");
        self.handle().send_extension(session, answer.clone());
    }

    /// Waits for it to end by itself; gives how many jobs were cut.
    pub fn join(mut self) -> usize {
        let thread = self.thread.take().expect("it ends");
        thread.join().expect("no panic").expect("no error")
    }

    pub fn wait_for(&self, found: impl Fn(&Notice) -> bool) {
        while !found(&self.notices.recv_timeout(PATIENCE).expect("it happens")) {}
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.shutdown();
        }
        // A server without one ends with its peer, if there was none now.
        drop(self.parent.lock().expect("no panic").take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Serving = JoinHandle<Result<usize, HostError>>;
type Started = (Target, Option<Handle>, Serving);

pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A folder of its own for each site.
fn folder() -> Folder {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    Folder::new(&format!("site-{}", NEXT.fetch_add(1, Ordering::SeqCst)))
}

fn target(places: &[Listen]) -> Target {
    places[0].url("/arcp").parse().expect("a URL")
}

fn serve_blocking(config: &ServerConfig, host: Host) -> Started {
    let server = Server::bind(config, host).expect("a place");
    let (target, handle) = (target(server.places()), server.handle());
    (target, Some(Handle::Server(handle)), std::thread::spawn(move || Ok(server.run()?.cut.len())))
}

fn serve_tokio(config: ServerConfig, host: Host) -> Started {
    let (started, bound) = channel();
    let serve = async move {
        let server = arcp_tokio_adapter::Server::bind(&config, host).await.expect("a place");
        started.send((target(server.places()), server.handle())).expect("awaited");
        Ok(server.run().await?.cut.len())
    };
    let thread = std::thread::spawn(move || runtime().block_on(serve));
    let (target, handle) = bound.recv().expect("it starts");
    (target, Some(Handle::Server(handle)), thread)
}

fn serve_event_loop(host: Host) -> Started {
    let mut server = EventLoop::bind(LISTEN, host).expect("a port");
    let address = server.address().expect("an address");
    let (inbox, at_once, drained) = (server.inbox(), Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let handle = Handle::Loop(inbox, at_once.clone(), drained.clone());
    let serve = move || {
        while !(at_once.load(Ordering::SeqCst) || drained.load(Ordering::SeqCst) && server.is_idle()) {
            server.turn()?;
        }
        server.shut_down()
    };
    (format!("ws://{address}/arcp").parse().expect("a URL"), Some(handle), std::thread::spawn(serve))
}

/// A server of one peer; nobody counts what it cuts.
fn serve_stdio(adapter: Adapter, host: Host, peer: UnixStream) -> Serving {
    std::thread::spawn(move || {
        if adapter == Adapter::Tokio {
            peer.set_nonblocking(true)?;
            return runtime().block_on(async {
                let peer = tokio::net::UnixStream::from_std(peer)?;
                arcp_tokio_adapter::serve(host, None, peer).await.map(|()| 0)
            });
        }
        let ended = peer.try_clone()?;
        let served = stdio::serve(host, None, peer.try_clone()?, peer);
        // Whoever reads it still has it open.
        ended.shutdown(Shutdown::Both)?;
        served.map(|()| 0)
    })
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

//! A real server on a real socket.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use arcp_blocking::{Client, Host, HostError, Server, ServerConfig, ServerHandle, Stopped, Target};
use arcp_host::auth::BearerTokens;
use arcp_host::process::ProcessAgent;
use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_host::store::{MemoryStore, Store};
use arcp_proto::client::ClientConfig;
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::model::agent::AgentRef;
use arcp_proto::model::request::{Credential, Submit};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// How long a test waits for anything before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running server; it is stopped when this is dropped.
pub struct Running {
    /// The address at which it listens.
    pub address: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<Result<Stopped, HostError>>>,
}

impl Running {
    /// Starts a server with the samples and these shell commands as agents.
    pub fn start(commands: &[(&str, &str)], change: impl FnOnce(&mut Config)) -> Running {
        Running::start_on(Box::<MemoryStore>::default(), commands, change)
    }

    /// As [`Running::start`], with a store.
    pub fn start_on(store: Box<dyn Store>, commands: &[(&str, &str)], change: impl FnOnce(&mut Config)) -> Running {
        Running::serve(Running::host(store, commands, change))
    }

    /// A host with the samples and these shell commands as agents.
    pub fn host(store: Box<dyn Store>, commands: &[(&str, &str)], change: impl FnOnce(&mut Config)) -> Host {
        let mut registry = Registry::default();
        samples::add_to(&mut registry);
        for (name, command) in commands {
            registry.add(name, None, ProcessAgent::shell(command));
        }
        Running::host_of(store, registry, change)
    }

    /// A host with these agents.
    pub fn host_of(store: Box<dyn Store>, registry: Registry, change: impl FnOnce(&mut Config)) -> Host {
        let mut tokens = BearerTokens::default();
        for name in ["a", "b"] {
            tokens.add(&Secret::new(format!("tok-{name}")), Principal::new(name).expect("a name"));
        }
        let mut config = Config::new("test", "1");
        config.timing.cancel_grace = Duration::from_secs(1);
        // Without heartbeats, a slow machine loses no connection.
        config.timing.heartbeat = None;
        change(&mut config);
        Host::new(config, registry).with_authenticator(tokens).with_store(store)
    }

    /// Starts a server for this host.
    pub fn serve(host: Host) -> Running {
        Running::serve_as(host, |_| {})
    }

    /// Starts a server for this host with a changed configuration.
    pub fn serve_as(host: Host, change: impl FnOnce(&mut ServerConfig)) -> Running {
        let mut config = ServerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        change(&mut config);
        let server = Server::bind(&config, host).expect("a port");
        let (address, handle) = (server.address(), server.handle());
        let thread = std::thread::spawn(move || server.run());
        Running { address, handle, thread: Some(thread) }
    }

    /// A connected client of ours.
    pub fn client(&self) -> Client {
        let target: Target = self.url().parse().expect("a URL");
        let credential = Credential::Bearer(Secret::new("tok-a".into()));
        Client::connect(target, ClientConfig::new("test", "1", credential)).expect("a session")
    }

    /// The URL for clients.
    pub fn url(&self) -> String {
        format!("ws://{}/arcp", self.address)
    }

    /// A TCP connection without an upgrade.
    pub fn connect(&self) -> TcpStream {
        connect_to(self.address)
    }

    /// A WebSocket without a session.
    pub fn websocket(&self) -> WebSocket<TcpStream> {
        websocket_to(self.address)
    }

    /// A WebSocket with a session.
    pub fn session(&self, token: &str) -> (WebSocket<TcpStream>, Value) {
        session_with(self.address, token)
    }

    /// Sends the head of a request and returns the whole answer.
    pub fn http(&self, head: &str) -> String {
        let mut socket = self.connect();
        socket.write_all(format!("{head}\r\n\r\n").as_bytes()).expect("written");
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer);
        answer
    }

    /// Tells it to drain.
    pub fn drain(&self) {
        self.handle.drain();
    }

    /// Waits until it has ended by itself.
    pub fn join(mut self) {
        self.thread.take().expect("running").join().expect("no panic").expect("no error");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.shutdown();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A TCP connection to a server.
pub fn connect_to(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("a connection");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.set_nodelay(true).expect("no delay");
    socket
}

/// A WebSocket to a server, without a session.
pub fn websocket_to(address: SocketAddr) -> WebSocket<TcpStream> {
    websocket_on(connect_to(address)).expect("a WebSocket")
}

/// A WebSocket on a connection; `None` if the server refuses it or is silent.
pub fn websocket_on(socket: TcpStream) -> Option<WebSocket<TcpStream>> {
    let url = format!("ws://{}/arcp", socket.peer_addr().ok()?);
    tungstenite::client(url, socket).ok().map(|(socket, _)| socket)
}

/// A WebSocket to a server, with a session.
pub fn session_with(address: SocketAddr, token: &str) -> (WebSocket<TcpStream>, Value) {
    let mut socket = websocket_to(address);
    send(&mut socket, "h", "session.hello", crate::raw::hello_payload(token));
    let welcome = expect(&mut socket, "session.welcome");
    (socket, welcome)
}

/// Sends one message.
pub fn send(socket: &mut WebSocket<TcpStream>, id: &str, kind: &str, payload: Value) {
    let frame = json!({"arcp": "1.1", "id": id, "type": kind, "payload": payload});
    socket.send(Message::text(frame.to_string())).expect("sent");
}

/// The next message; `None` if the connection is closed.
pub fn next(socket: &mut WebSocket<TcpStream>) -> Option<Value> {
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("JSON")),
            Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => return None,
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits for a message of this type.
pub fn expect(socket: &mut WebSocket<TcpStream>, kind: &str) -> Value {
    loop {
        let frame = next(socket).unwrap_or_else(|| panic!("closed before a {kind}"));
        if frame["type"] == kind {
            return frame;
        }
    }
}

/// A submit of an agent with an input.
pub fn submit(agent: &str, input: &str) -> Submit {
    Submit { input: Some(Json::parse(input).expect("JSON")), ..Submit::new(AgentRef::parse(agent).expect("a name")) }
}

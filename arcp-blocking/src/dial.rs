//! Where a client connects to, and how.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arcp_proto::secret::Secret;
use tungstenite::handshake::client::generate_key;
use tungstenite::protocol::Role;

use crate::framing::Framing;
use crate::http::{upgrade_request, upgraded};

/// How long a peer may take nothing before a write is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// A runtime to connect to.
///
/// ```
/// use arcp_blocking::Target;
/// let target: Target = "ws://127.0.0.1:7777/arcp".parse()?;
/// assert_eq!(target.to_string(), "ws://127.0.0.1:7777/arcp");
/// assert!("http://example.com".parse::<Target>().is_err());
/// # Ok::<(), arcp_blocking::TargetError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A WebSocket.
    WebSocket {
        /// The host, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// The path.
        path: String,
    },
    /// A program that speaks on its stdin and stdout; run by the shell.
    Program(String),
}

/// A text that is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Not a `ws://` URL.
    #[error("`{0}` is not of the form ws://HOST[:PORT][/PATH] or exec:COMMAND")]
    NotWebSocket(String),
    /// TLS.
    #[error("`{0}`: wss:// is not supported yet, put a TLS proxy in front and use ws://")]
    Tls(String),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Target, TargetError> {
        let bad = || TargetError::NotWebSocket(text.to_string());
        if let Some(command) = text.strip_prefix("exec:").filter(|command| !command.trim().is_empty()) {
            return Ok(Target::Program(command.to_string()));
        }
        if text.starts_with("wss://") {
            return Err(TargetError::Tls(text.to_string()));
        }
        let rest = text.strip_prefix("ws://").ok_or_else(bad)?;
        let (authority, path) = rest.find('/').map_or((rest, "/arcp"), |at| rest.split_at(at));
        let (host, port) = match authority.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').unwrap_or("80")),
            None => authority.rsplit_once(':').unwrap_or((authority, "80")),
        };
        let plain = path.bytes().all(|b| b.is_ascii_graphic()) && host.bytes().all(|b| b.is_ascii_graphic());
        if host.is_empty() || host.contains('@') || !plain {
            return Err(bad());
        }
        let port = port.parse().map_err(|_| bad())?;
        Ok(Target::WebSocket { host: host.to_string(), port, path: path.to_string() })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::WebSocket { host, port, path } => write!(f, "ws://{}:{port}{path}", bracketed(host)),
            Target::Program(command) => write!(f, "exec:{command}"),
        }
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_string() }
}

/// An open transport.
pub(crate) struct Wire {
    pub(crate) reader: Box<dyn Read + Send>,
    pub(crate) writer: Box<dyn Write + Send>,
    pub(crate) framing: Framing,
    pub(crate) closer: Closer,
}

/// Ends a transport; whoever reads from it notices.
#[derive(Clone)]
pub(crate) enum Closer {
    Socket(Arc<TcpStream>),
    Program(Arc<Mutex<Child>>),
}

impl Closer {
    pub(crate) fn close(&self) {
        match self {
            Closer::Socket(socket) => {
                let _ = socket.shutdown(Shutdown::Both);
            }
            Closer::Program(child) => {
                let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl Target {
    /// Opens the transport.
    pub(crate) fn dial(&self, timeout: Duration, frame_bytes: usize) -> io::Result<Wire> {
        match self {
            Target::WebSocket { host, port, path } => dial_websocket(host, *port, path, timeout, frame_bytes),
            Target::Program(command) => start_program(command, frame_bytes),
        }
    }
}

fn dial_websocket(host: &str, port: u16, path: &str, timeout: Duration, frame_bytes: usize) -> io::Result<Wire> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("`{host}` has no address"));
    let mut socket = None;
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(open) => {
                socket = Some(open);
                break;
            }
            Err(error) => last = error,
        }
    }
    let Some(mut socket) = socket else {
        return Err(last);
    };
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let nonce = Secret::new(generate_key());
    let (request, accept) = upgrade_request(&format!("{}:{port}", bracketed(host)), path, &nonce);
    socket.write_all(request.as_bytes())?;
    let mut framing = Framing::websocket(Role::Client, frame_bytes);
    let mut head = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let n = socket.read(&mut buffer)?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed during the handshake"));
        }
        head.extend_from_slice(&buffer[..n]);
        if let Some(length) = upgraded(&head, &accept).map_err(io::Error::other)? {
            framing.feed(&head[length..]);
            break;
        }
    }
    socket.set_read_timeout(None)?;
    Ok(Wire {
        reader: Box::new(socket.try_clone()?),
        writer: Box::new(socket.try_clone()?),
        framing,
        closer: Closer::Socket(Arc::new(socket)),
    })
}

fn start_program(command: &str, frame_bytes: usize) -> io::Result<Wire> {
    let mut child = Command::new("sh").arg("-c").arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("the program has no pipes"));
    };
    Ok(Wire {
        reader: Box::new(stdout),
        writer: Box::new(stdin),
        framing: Framing::lines(frame_bytes),
        closer: Closer::Program(Arc::new(Mutex::new(child))),
    })
}

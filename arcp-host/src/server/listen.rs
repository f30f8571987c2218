//! The places at which a server listens, and their text form.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;

use arcp_proto::runtime::Transport;

use super::origin::{Begins, Vouched};
use crate::unix;

/// The permissions of a Unix socket by default: its owner only.
const OWN_MODE: u32 = 0o600;
/// The text before a mode.
const MODE: &str = "?mode=";

/// A place at which a server listens.
///
/// | text | place |
/// |---|---|
/// | `HOST:PORT`, `:PORT` | a WebSocket, with TLS if the server has a certificate |
/// | `ws://HOST:PORT`, `wss://HOST:PORT` | a WebSocket without TLS, with TLS |
/// | `h2c://HOST:PORT`, `h2://HOST:PORT` | HTTP/2 without TLS, with TLS |
/// | `quic://HOST:PORT` | QUIC, which has TLS |
/// | `unix:///PATH`, `unix:PATH`, optionally followed by `?mode=660` | a Unix socket |
/// | `stdio:` | stdin and stdout |
///
/// Without a host, it listens on the loopback address only. Host names are resolved when the text
/// is parsed. A path is taken literally: nothing in it is decoded.
///
/// ```
/// use arcp_host::server::Listen;
/// let listen: Listen = "unix:///run/arcp.sock?mode=660".parse()?;
/// assert_eq!(listen, Listen::Unix { path: "/run/arcp.sock".into(), mode: 0o660 });
/// assert_eq!(":7777".parse::<Listen>()?.to_string(), "127.0.0.1:7777");
/// assert_eq!("wss://[::1]:1".parse::<Listen>()?.to_string(), "wss://[::1]:1");
/// assert!("http://localhost:1".parse::<Listen>().is_err());
/// # Ok::<(), arcp_host::server::ListenError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A port for WebSockets, with pages beside them.
    WebSocket {
        /// The address; port 0 picks one.
        address: SocketAddr,
        /// Whether it uses TLS; `None`: if the server has a certificate.
        tls: Option<bool>,
    },
    /// A port for HTTP/2: frames both ways on one stream.
    Http2 {
        /// The address; port 0 picks one.
        address: SocketAddr,
        /// Whether it uses TLS.
        tls: bool,
    },
    /// A port for QUIC.
    Quic {
        /// The address; port 0 picks one.
        address: SocketAddr,
    },
    /// A Unix socket, with one frame per line.
    Unix {
        /// The path of the socket.
        path: PathBuf,
        /// The permissions of the file, within 0o666: they say who may connect.
        mode: u32,
    },
    /// stdin and stdout of this process as one peer, with one frame per line.
    Stdio,
}

/// The text does not name a place to listen at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ListenError(String);

impl Listen {
    /// The address of the port, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Listen::WebSocket { address, .. } | Listen::Http2 { address, .. } | Listen::Quic { address } => {
                Some(*address)
            }
            Listen::Unix { .. } | Listen::Stdio => None,
        }
    }

    /// The same place with another address, such as the one with the port that was picked.
    #[must_use]
    pub fn at(self, address: SocketAddr) -> Listen {
        match self {
            Listen::WebSocket { tls, .. } => Listen::WebSocket { address, tls },
            Listen::Http2 { tls, .. } => Listen::Http2 { address, tls },
            Listen::Quic { .. } => Listen::Quic { address },
            Listen::Unix { .. } | Listen::Stdio => self,
        }
    }

    /// What comes first on its streams. The place must be
    pub fn begins(&self) -> Begins {
        match self {
            Listen::WebSocket { tls: Some(true), .. } => Begins::Handshake,
            Listen::WebSocket { .. } => Begins::Request,
            Listen::Http2 { .. } | Listen::Quic { .. } | Listen::Unix { .. } | Listen::Stdio => {
                Begins::Frames(Transport::Lines, Vouched::default())
            }
        }
    }

    /// The URL for clients. `path` is that of WebSockets and of HTTP/2.
    pub fn url(&self, path: &str) -> String {
        match self {
            Listen::WebSocket { .. } | Listen::Http2 { .. } => format!("{self}{path}"),
            Listen::Unix { path, .. } => unix::url(path),
            Listen::Quic { .. } | Listen::Stdio => self.to_string(),
        }
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Listen::WebSocket { address, tls: None } => write!(f, "{address}"),
            Listen::WebSocket { address, tls: Some(false) } => write!(f, "ws://{address}"),
            Listen::WebSocket { address, tls: Some(true) } => write!(f, "wss://{address}"),
            Listen::Http2 { address, tls: false } => write!(f, "h2c://{address}"),
            Listen::Http2 { address, tls: true } => write!(f, "h2://{address}"),
            Listen::Quic { address } => write!(f, "quic://{address}"),
            Listen::Unix { path, mode: OWN_MODE } => f.write_str(&unix::url(path)),
            Listen::Unix { path, mode } => write!(f, "{}{MODE}{mode:o}", unix::url(path)),
            Listen::Stdio => f.write_str("stdio:"),
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Listen, ListenError> {
        if text == "stdio:" {
            return Ok(Listen::Stdio);
        }
        if let Some(rest) = text.strip_prefix("unix:") {
            return unix_socket(rest);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Listen::WebSocket { address: address(text)?, tls: None });
        };
        let place: fn(SocketAddr) -> Listen = match scheme {
            "ws" => |address| Listen::WebSocket { address, tls: Some(false) },
            "wss" => |address| Listen::WebSocket { address, tls: Some(true) },
            "h2c" => |address| Listen::Http2 { address, tls: false },
            "h2" => |address| Listen::Http2 { address, tls: true },
            "quic" => |address| Listen::Quic { address },
            _ => return Err(ListenError(format!("nothing is served as `{scheme}`: {SCHEMES}"))),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some((address, path)) = rest.split_once('/') {
            let why = format!("`/{path}` is no part of where to listen: give {scheme}://{address}, and the path apart");
            return Err(ListenError(why));
        }
        address(rest).map(place)
    }
}

const SCHEMES: &str = "expected HOST:PORT, ws://HOST:PORT, wss://, h2://, h2c://, quic://, unix:///PATH or stdio:";

fn unix_socket(rest: &str) -> Result<Listen, ListenError> {
    let (path, mode) = rest.rsplit_once(MODE).map_or((rest, None), |(path, mode)| (path, Some(mode)));
    let path = unix::path_of_url(path).map_err(ListenError)?;
    unix::address(&path).map_err(|error| ListenError(error.to_string()))?;
    let read =
        |text: &str| u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o666 == 0 && mode & 0o600 == 0o600);
    let mode = match mode {
        None => OWN_MODE,
        Some(text) => read(text).ok_or_else(|| {
            let why = "expected 600, 660 or 666, or another number of that kind: who may connect needs to write";
            ListenError(format!("the mode `{text}` is none of a Unix socket: {why}"))
        })?,
    };
    Ok(Listen::Unix { path, mode })
}

/// Resolves an address. Without a host it is the loopback address: serving other machines must be
/// requested.
fn address(text: &str) -> Result<SocketAddr, ListenError> {
    let expected = "expected HOST:PORT, such as 127.0.0.1:7777, localhost:7777 or :7777 for this machine alone, \
                    0.0.0.0:7777 for everybody";
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let wrong = |why: String| ListenError(why);
    let port: u16 = port.parse().map_err(|_| wrong(format!("{expected}; a port is a number up to 65535")))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let unknown = || wrong(format!("no address is known for `{host}`; {expected}"));
    let mut found: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(|_| unknown())?.collect();
    // IPv4 first: clients try both addresses, and most of them try this one first.
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_read_as_it_is_written() {
        for text in [
            "127.0.0.1:7777",
            "ws://127.0.0.1:0",
            "wss://[::1]:443",
            "h2://127.0.0.1:1",
            "h2c://127.0.0.1:1",
            "quic://127.0.0.1:1",
            "unix:///run/a b.sock",
            "unix:here.sock?mode=666",
            "stdio:",
        ] {
            let place: Listen = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(place.to_string(), text);
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        let same = |one: &str, other: &str| assert_eq!(one.parse::<Listen>(), other.parse::<Listen>());
        same(":1", "127.0.0.1:1");
        same("ws://:1/", "ws://127.0.0.1:1");
        same("unix:/run/a", "unix:///run/a");
        same("unix:///run/a?mode=0600", "unix:///run/a");
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_to_write() {
        let long = format!("unix:///{}", "x".repeat(200));
        for (text, said) in [
            ("http://localhost:1", "`http`"),
            ("ws://localhost:1/arcp", "`/arcp` is no part"),
            ("ws://localhost", "expected HOST:PORT"),
            ("localhost:70000", "up to 65535"),
            ("nowhere.invalid:1", "no address is known for `nowhere.invalid`"),
            ("unix:", "unix:///PATH"),
            ("unix://run/a", "give unix:///run/a"),
            ("unix:///a?mode=755", "`755`"),
            ("unix:///a?mode=060", "`060`"),
            (&long, "201 bytes"),
            ("stdio:x", "expected HOST:PORT"),
        ] {
            let why = text.parse::<Listen>().expect_err(text).to_string();
            assert!(why.contains(said), "{text}: {why}");
        }
    }
}

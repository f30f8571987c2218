//! The address of a runtime, for clients.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::unix;

/// The ALPN name of HTTP/2.
pub const HTTP2: &[u8] = b"h2";
/// The ALPN name of ARCP over QUIC.
pub const QUIC: &[u8] = b"arcp/1.1";

/// A runtime to connect to.
///
/// ```
/// use arcp_host::client::Target;
/// let target: Target = "ws://127.0.0.1:7777/arcp".parse()?;
/// assert_eq!(target.to_string(), "ws://127.0.0.1:7777/arcp");
/// assert_eq!("wss://example.com".parse::<Target>()?.to_string(), "wss://example.com:443/arcp");
/// assert_eq!("unix:/run/arcp.sock".parse::<Target>()?.to_string(), "unix:///run/arcp.sock");
/// assert_eq!("quic://example.com".parse::<Target>()?.to_string(), "quic://example.com:443");
/// assert!("http://example.com".parse::<Target>().is_err());
/// # Ok::<(), arcp_host::client::TargetError>(())
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
        /// Whether it is over TLS: `wss://`.
        tls: bool,
    },
    /// A Unix socket, by its path.
    Unix(PathBuf),
    /// A stream of HTTP/2. It needs `arcp-tokio-adapter`.
    Http2 {
        /// The host, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// The path.
        path: String,
        /// Whether it is over TLS: `h2://`, else `h2c://`.
        tls: bool,
    },
    /// A stream of QUIC (`quic://`). It needs `arcp-tokio-adapter`.
    Quic {
        /// The host, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A program that speaks on its stdin and stdout; the shell runs it.
    Program(String),
}

/// The text is not a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It is not a URL of a runtime.
    #[error(
        "`{0}` is not of the form SCHEME://HOST[:PORT][/PATH] with ws, wss, h2 or h2c, quic://HOST[:PORT], unix:PATH \
         or exec:COMMAND"
    )]
    NotWebSocket(String),
    /// It is not the path of a Unix socket.
    #[error("`{0}`: {1}")]
    NotUnix(String, String),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Target, TargetError> {
        let bad = || TargetError::NotWebSocket(text.to_string());
        if let Some(command) = text.strip_prefix("exec:").filter(|command| !command.trim().is_empty()) {
            return Ok(Target::Program(command.to_string()));
        }
        if let Some(rest) = text.strip_prefix("unix:") {
            let usable = |path: PathBuf| unix::address(&path).map(|_| path).map_err(|error| error.to_string());
            let path = unix::path_of_url(rest).and_then(usable);
            return path.map(Target::Unix).map_err(|why| TargetError::NotUnix(text.to_string(), why));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let usual = match scheme {
            "wss" | "h2" | "quic" => "443",
            "ws" | "h2c" => "80",
            _ => return Err(bad()),
        };
        let (authority, path) = rest.find('/').map_or((rest, "/arcp"), |at| rest.split_at(at));
        let (host, port) = match authority.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').unwrap_or(usual)),
            None => authority.rsplit_once(':').unwrap_or((authority, usual)),
        };
        let plain = path.bytes().all(|b| b.is_ascii_graphic()) && host.bytes().all(|b| b.is_ascii_graphic());
        if host.is_empty() || host.contains('@') || !plain {
            return Err(bad());
        }
        let (host, port, path) = (host.to_string(), port.parse().map_err(|_| bad())?, path.to_string());
        Ok(match scheme {
            "quic" if rest.contains('/') => return Err(bad()),
            "quic" => Target::Quic { host, port },
            "h2" | "h2c" => Target::Http2 { host, port, path, tls: scheme == "h2" },
            _ => Target::WebSocket { host, port, path, tls: scheme == "wss" },
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::WebSocket { host, port, path, tls } => {
                let scheme = if *tls { "wss" } else { "ws" };
                write!(f, "{scheme}://{}:{port}{path}", bracketed(host))
            }
            Target::Unix(path) => f.write_str(&unix::url(path)),
            Target::Http2 { host, port, path, tls } => {
                let scheme = if *tls { "h2" } else { "h2c" };
                write!(f, "{scheme}://{}:{port}{path}", bracketed(host))
            }
            Target::Quic { host, port } => write!(f, "quic://{}:{port}", bracketed(host)),
            Target::Program(command) => write!(f, "exec:{command}"),
        }
    }
}

impl Target {
    /// Whether what is sent can be read on the network: it leaves this machine without TLS. A name
    /// other than `localhost` may be another machine.
    pub fn is_exposed(&self) -> bool {
        self.address().is_some_and(|(host, _)| !self.has_tls() && !is_loopback(host))
    }

    /// Whether the connection uses TLS.
    pub fn has_tls(&self) -> bool {
        match self {
            Target::WebSocket { tls, .. } | Target::Http2 { tls, .. } => *tls,
            Target::Quic { .. } => true,
            Target::Unix(_) | Target::Program(_) => false,
        }
    }

    /// The host, without brackets, and the port; `None` for a file or a program.
    pub fn address(&self) -> Option<(&str, u16)> {
        match self {
            Target::WebSocket { host, port, .. } | Target::Http2 { host, port, .. } | Target::Quic { host, port } => {
                Some((host, *port))
            }
            Target::Unix(_) | Target::Program(_) => None,
        }
    }

    /// The same target on another host. A file and a program are unchanged.
    #[must_use]
    pub fn with_host(mut self, other: &str) -> Target {
        match &mut self {
            Target::WebSocket { host, .. } | Target::Http2 { host, .. } | Target::Quic { host, .. } => {
                *host = other.to_string();
            }
            Target::Unix(_) | Target::Program(_) => {}
        }
        self
    }

    /// The ALPN name; `None` if the target uses none.
    pub fn protocol(&self) -> Option<&'static [u8]> {
        match self {
            Target::Http2 { tls: true, .. } => Some(HTTP2),
            Target::Quic { .. } => Some(QUIC),
            Target::WebSocket { .. } | Target::Http2 { .. } | Target::Unix(_) | Target::Program(_) => None,
        }
    }
}

/// Whether this name or address (without brackets) is that of this machine.
///
/// ```
/// use arcp_host::client::is_loopback;
/// assert!(is_loopback("localhost") && is_loopback("::1"));
/// assert!(!is_loopback("localhost.example"));
/// ```
pub fn is_loopback(name: &str) -> bool {
    let is_own = |address: IpAddr| address.to_canonical().is_loopback();
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_own)
}

/// A host as it is written in a URL.
pub fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_has_its_port_and_path_and_whether_it_can_be_read_on_its_way() {
        for (text, is, exposed) in [
            ("ws://example.com", "ws://example.com:80/arcp", true),
            ("wss://example.com/a/b", "wss://example.com:443/a/b", false),
            ("h2c://[2001:db8::1]", "h2c://[2001:db8::1]:80/arcp", true),
            ("h2://example.com", "h2://example.com:443/arcp", false),
            ("h2c://[::1]:7/x", "h2c://[::1]:7/x", false),
            ("quic://example.com", "quic://example.com:443", false),
            ("quic://[2001:db8::1]:7", "quic://[2001:db8::1]:7", false),
            ("exec:arcp serve --stdio", "exec:arcp serve --stdio", false),
            ("unix:/run/arcp.sock", "unix:///run/arcp.sock", false),
        ] {
            let target: Target = text.parse().expect(text);
            assert_eq!((target.to_string(), target.is_exposed()), (is.to_string(), exposed), "{text}");
        }
        for text in [
            "",
            "exec:",
            "exec: ",
            "http://a",
            "ws://",
            "ws://a@b",
            "ws://a:x",
            "ws://a b",
            "ws://a/\u{e9}",
            "quic://a/",
            "unix:",
        ] {
            text.parse::<Target>().expect_err(text);
        }
    }

    #[test]
    fn another_host_takes_the_place_of_the_first() {
        let elsewhere = |text: &str| text.parse::<Target>().expect(text).with_host("::1").to_string();
        assert_eq!(elsewhere("wss://a:7/x"), "wss://[::1]:7/x");
        assert_eq!(elsewhere("h2://a"), "h2://[::1]:443/arcp");
        assert_eq!(elsewhere("quic://a"), "quic://[::1]:443");
        assert_eq!(elsewhere("exec:a"), "exec:a");
    }

    #[test]
    fn tls_says_http_2_and_quic_by_name() {
        let protocol = |text: &str| text.parse::<Target>().expect(text).protocol();
        assert_eq!(["h2://a", "quic://a"].map(protocol), [Some(HTTP2), Some(QUIC)]);
        assert_eq!(["h2c://a", "ws://a", "wss://a", "exec:a"].map(protocol), [None; 4]);
    }
}

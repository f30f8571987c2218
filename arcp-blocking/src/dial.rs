//! Where a client connects to, and how.

#[cfg(feature = "stdio")]
mod program;
#[cfg(feature = "websocket")]
mod websocket;

use std::io::{self, Read, Write};
use std::str::FromStr;
use std::time::Duration;

use arcp_host::framing::Framing;

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
pub(crate) struct Closer(Box<dyn Fn() + Send>);

impl Closer {
    pub(crate) fn close(&self) {
        self.0();
    }
}

impl Target {
    /// Opens the transport.
    #[cfg_attr(not(feature = "websocket"), allow(unused_variables, reason = "only a network is waited for"))]
    pub(crate) fn dial(&self, timeout: Duration, frame_bytes: usize) -> io::Result<Wire> {
        match self {
            #[cfg(feature = "websocket")]
            Target::WebSocket { host, port, path } => websocket::dial(host, *port, path, timeout, frame_bytes),
            #[cfg(not(feature = "websocket"))]
            Target::WebSocket { .. } => Err(unsupported("websocket")),
            #[cfg(feature = "stdio")]
            Target::Program(command) => program::start(command, frame_bytes),
            #[cfg(not(feature = "stdio"))]
            Target::Program(_) => Err(unsupported("stdio")),
        }
    }
}

#[cfg(not(all(feature = "websocket", feature = "stdio")))]
fn unsupported(feature: &str) -> io::Error {
    let message = format!("this program was built without the feature `{feature}` of arcp-blocking");
    io::Error::new(io::ErrorKind::Unsupported, message)
}

#[cfg(all(test, not(all(feature = "websocket", feature = "stdio"))))]
mod tests {
    use super::*;

    #[test]
    fn a_transport_that_was_not_built_in_is_refused_with_the_name_of_its_feature() {
        let other =
            if cfg!(feature = "websocket") { ("exec:true", "stdio") } else { ("ws://127.0.0.1:1/", "websocket") };
        let (text, feature) = other;
        let target: Target = text.parse().expect("it is still a target");
        let error = target.dial(Duration::from_secs(1), 1024).expect_err("it cannot be opened");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains(&format!("`{feature}`")), "{error}");
    }
}

//! Where a client connects to.

use std::str::FromStr;

/// A runtime to connect to.
///
/// ```
/// use arcp_host::client::Target;
/// let target: Target = "ws://127.0.0.1:7777/arcp".parse()?;
/// assert_eq!(target.to_string(), "ws://127.0.0.1:7777/arcp");
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

/// A host as it stands in a URL.
pub fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_string() }
}

//! Opens the connections of a client.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

use arcp_host::client::{DialError, Security, Target, bracketed};
use arcp_host::framing::Framing;
use arcp_host::http::{upgrade_request, upgraded};
#[cfg(feature = "tls")]
use arcp_host::tls::{Refusals, config_and_refusals_for};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, duplex, split};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;
#[cfg(feature = "tls")]
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use crate::socket::ByteStream;

/// An open transport, and its framing.
pub(crate) type Opened = (Pin<Box<dyn ByteStream>>, Framing);

/// A transport that is being opened.
pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<Opened, DialError>> + Send>>;

/// Opens one transport after the other.
pub(crate) type Dialer = Box<dyn Fn() -> Opening + Send>;

/// A dialer for a target, with a timeout for each attempt.
///
/// # Errors
///
/// If the target has TLS, and a file of `security` cannot be used.
pub(crate) async fn dialer(
    target: Target,
    security: &Security,
    timeout: Duration,
    frame_bytes: usize,
) -> io::Result<Dialer> {
    let tls = Tls::to(&target, security).await?;
    Ok(Box::new(move || {
        let (target, tls) = (target.clone(), tls.clone());
        Box::pin(async move {
            match tokio::time::timeout(timeout, open(&target, tls, frame_bytes, timeout)).await {
                Ok(opened) => opened.map_err(|error| DialError::new(&target, &error)),
                Err(_) => Err(DialError::new(&target, &io::ErrorKind::TimedOut.into())),
            }
        })
    }))
}

/// Opens a stream with one frame per line to a target, for a client of another adapter. Reads the files of `security`.
///
/// # Errors
///
/// If the stream cannot be opened within the timeout, a file cannot be used, or the target is a WebSocket, which has
/// frames of its own.
pub async fn open_lines(
    target: &Target,
    security: &Security,
    timeout: Duration,
) -> io::Result<impl ByteStream + use<>> {
    if matches!(target, Target::WebSocket { .. }) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a WebSocket has no lines"));
    }
    let opening = async { open(target, Tls::to(target, security).await?, 0, timeout).await };
    let opened = tokio::time::timeout(timeout, opening).await;
    Ok(opened.map_err(|_| io::ErrorKind::TimedOut)??.0)
}

#[cfg_attr(not(feature = "quic"), allow(unused_variables, reason = "only QUIC shares its time out"))]
async fn open(target: &Target, tls: Option<Tls>, frame_bytes: usize, within: Duration) -> io::Result<Opened> {
    match target {
        Target::WebSocket { host, port, path, .. } => {
            upgrade(connect(host, *port, tls).await?, host, *port, path, frame_bytes).await
        }
        #[cfg(feature = "http2")]
        Target::Http2 { host, port, path, tls: is_secure } => {
            let stream = connect(host, *port, tls).await?;
            let stream = crate::http2::dial(stream, host, *port, path, *is_secure).await?;
            Ok((Box::pin(stream), Framing::lines(frame_bytes)))
        }
        #[cfg(not(feature = "http2"))]
        Target::Http2 { .. } => Err(unsupported("http2")),
        #[cfg(feature = "quic")]
        Target::Quic { host, port } => {
            let tls = tls.ok_or(io::ErrorKind::Unsupported)?;
            let beside = arcp_host::framing::Beside::default();
            let sidecars = crate::quic::Sidecars::of_client(beside.clone(), frame_bytes);
            let stream = crate::quic::dial((host, *port), sidecars, tls.config, &tls.refusals, within).await?;
            Ok((Box::pin(stream), Framing::lines_beside(frame_bytes, beside)))
        }
        #[cfg(not(feature = "quic"))]
        Target::Quic { .. } => Err(unsupported("quic")),
        Target::Unix(path) => Ok((Box::pin(UnixStream::connect(path).await?), Framing::lines(frame_bytes))),
        Target::Program(command) => Ok((start(command)?, Framing::lines(frame_bytes))),
    }
}

/// A TCP connection, with TLS if the target has it.
async fn connect(host: &str, port: u16, tls: Option<Tls>) -> io::Result<Pin<Box<dyn ByteStream>>> {
    let socket = TcpStream::connect((host, port)).await?;
    socket.set_nodelay(true)?;
    match tls {
        Some(tls) => tls.over(socket).await,
        None => Ok(Box::pin(socket)),
    }
}

async fn upgrade(
    mut stream: Pin<Box<dyn ByteStream>>,
    host: &str,
    port: u16,
    path: &str,
    frame_bytes: usize,
) -> io::Result<Opened> {
    let (request, accept) = upgrade_request(&format!("{}:{port}", bracketed(host)), path);
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut framing = Framing::websocket_client(frame_bytes);
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed during the handshake"));
        }
        head.extend_from_slice(&buffer[..n]);
        if let Some(length) = upgraded(&head, &accept)? {
            framing.feed(&head[length..]);
            return Ok((stream, framing));
        }
    }
}

#[cfg(not(all(feature = "http2", feature = "quic")))]
pub(crate) fn unsupported(feature: &str) -> io::Error {
    let message = format!("this program was built without the feature `{feature}` of arcp-tokio-adapter");
    io::Error::new(io::ErrorKind::Unsupported, message)
}

/// Starts a program that serves on its stdin and stdout. It is killed when the stream is dropped.
fn start(command: &str) -> io::Result<Pin<Box<dyn ByteStream>>> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = shell.spawn()?;
    let none = || io::Error::other("the program has no pipes");
    let (mut stdin, mut stdout) = (child.stdin.take().ok_or_else(none)?, child.stdout.take().ok_or_else(none)?);
    let (ours, theirs) = duplex(1 << 16);
    let (mut to_program, mut from_program) = split(theirs);
    tokio::spawn(async move {
        let _ = copy(&mut to_program, &mut stdin).await;
        child.kill().await
    });
    tokio::spawn(async move {
        let _ = copy(&mut stdout, &mut from_program).await;
        from_program.shutdown().await
    });
    Ok(Box::pin(ours))
}

/// How a server is verified.
#[cfg(feature = "tls")]
#[derive(Clone)]
struct Tls {
    config: Arc<ClientConfig>,
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "TLS over TCP says so itself"))]
    refusals: Refusals,
    name: ServerName<'static>,
}

#[cfg(feature = "tls")]
impl Tls {
    /// The TLS settings for a target; `None` if the target is without TLS.
    async fn to(target: &Target, security: &Security) -> io::Result<Option<Tls>> {
        let Some((host, _)) = target.address().filter(|_| target.has_tls()) else {
            return Ok(None);
        };
        let name = ServerName::try_from(host.to_string())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("`{host}` is no name of a server")))?;
        let (target, security) = (target.clone(), security.clone());
        // This reads files.
        let config = tokio::task::spawn_blocking(move || config_and_refusals_for(&target, &security)).await;
        let (config, refusals) = config.map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(Some(Tls { config, refusals, name }))
    }

    async fn over(self, socket: TcpStream) -> io::Result<Pin<Box<dyn ByteStream>>> {
        let wanted = self.config.alpn_protocols.first().cloned();
        let stream = TlsConnector::from(self.config).connect(self.name, socket).await?;
        // A server that negotiates no protocol may speak another one.
        if wanted.is_some() && stream.get_ref().1.alpn_protocol() != wanted.as_deref() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the server does not speak HTTP/2 there"));
        }
        Ok(Box::pin(stream))
    }
}

/// TLS was not built in.
#[cfg(not(feature = "tls"))]
#[derive(Clone)]
enum Tls {}

#[cfg(not(feature = "tls"))]
impl Tls {
    #[allow(clippy::unused_async, reason = "as where it is built in")]
    async fn to(target: &Target, _: &Security) -> io::Result<Option<Tls>> {
        if target.has_tls() { Err(unsupported("tls")) } else { Ok(None) }
    }

    #[allow(clippy::unused_async, reason = "as where it is built in")]
    async fn over(self, _: TcpStream) -> io::Result<Pin<Box<dyn ByteStream>>> {
        match self {}
    }
}

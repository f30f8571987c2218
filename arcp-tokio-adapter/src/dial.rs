//! How a client connects.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use arcp_host::client::{DialError, Security, Target, bracketed};
use arcp_host::framing::Framing;
use arcp_host::http::{upgrade_request, upgraded};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, duplex, split};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Command;
#[cfg(feature = "tls")]
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::socket::ByteStream;

/// An open transport, and what frames are on it.
pub(crate) type Opened = (Pin<Box<dyn ByteStream>>, Framing);

/// A transport that is being opened.
pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<Opened, DialError>> + Send>>;

/// Opens transports, one after the other.
pub(crate) type Dialer = Box<dyn Fn() -> Opening + Send>;

/// Dials a target, with this time for each attempt.
///
/// # Errors
///
/// If the target has TLS, and the files of the security cannot be used.
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
            match tokio::time::timeout(timeout, open(&target, tls, frame_bytes)).await {
                Ok(opened) => opened.map_err(|error| DialError::new(&target, &error)),
                Err(_) => Err(DialError::new(&target, &io::ErrorKind::TimedOut.into())),
            }
        })
    }))
}

async fn open(target: &Target, tls: Option<Tls>, frame_bytes: usize) -> io::Result<Opened> {
    let (host, port, path) = match target {
        Target::WebSocket { host, port, path, .. } => (host, *port, path),
        Target::Unix(path) => return Ok((Box::pin(UnixStream::connect(path).await?), Framing::lines(frame_bytes))),
        Target::Program(command) => return Ok((start(command)?, Framing::lines(frame_bytes))),
    };
    let socket = TcpStream::connect((host.as_str(), port)).await?;
    socket.set_nodelay(true)?;
    let mut stream: Pin<Box<dyn ByteStream>> = match tls {
        Some(tls) => tls.over(socket).await?,
        None => Box::pin(socket),
    };
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
        if let Some(length) = upgraded(&head, &accept).map_err(io::Error::other)? {
            framing.feed(&head[length..]);
            return Ok((stream, framing));
        }
    }
}

/// Starts a program that speaks on its stdin and stdout. It is killed once the stream is
/// dropped.
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

/// How a server is known.
#[cfg(feature = "tls")]
#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

#[cfg(feature = "tls")]
impl Tls {
    /// What a target asks for, which may be nothing.
    async fn to(target: &Target, security: &Security) -> io::Result<Option<Tls>> {
        let Target::WebSocket { host, tls: true, .. } = target else {
            return Ok(None);
        };
        let name = ServerName::try_from(host.clone())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("`{host}` is no name of a server")))?;
        let (target, security) = (target.clone(), security.clone());
        // It reads files.
        let config = tokio::task::spawn_blocking(move || arcp_host::tls::config_for(&target, &security)).await;
        let config = config.map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(Some(Tls { connector: config.into(), name }))
    }

    async fn over(self, socket: TcpStream) -> io::Result<Pin<Box<dyn ByteStream>>> {
        Ok(Box::pin(self.connector.connect(self.name, socket).await?))
    }
}

/// What was not built in.
#[cfg(not(feature = "tls"))]
#[derive(Clone)]
enum Tls {}

#[cfg(not(feature = "tls"))]
impl Tls {
    #[allow(clippy::unused_async, reason = "as where it is built in")]
    async fn to(target: &Target, _: &Security) -> io::Result<Option<Tls>> {
        match target {
            Target::WebSocket { tls: true, .. } => {
                let message = "this program was built without the feature `tls` of arcp-tokio-adapter";
                Err(io::Error::new(io::ErrorKind::Unsupported, message))
            }
            Target::WebSocket { .. } | Target::Unix(_) | Target::Program(_) => Ok(None),
        }
    }

    #[allow(clippy::unused_async, reason = "as where it is built in")]
    async fn over(self, _: TcpStream) -> io::Result<Pin<Box<dyn ByteStream>>> {
        match self {}
    }
}

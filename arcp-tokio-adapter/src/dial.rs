//! How a client connects.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use arcp_host::client::{Target, bracketed};
use arcp_host::framing::Framing;
use arcp_host::http::{upgrade_request, upgraded};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::socket::ByteStream;

/// An open transport, and what frames are on it.
pub(crate) type Opened = (Pin<Box<dyn ByteStream>>, Framing);

/// A transport that is being opened.
pub(crate) type Opening = Pin<Box<dyn Future<Output = io::Result<Opened>> + Send>>;

/// Opens transports, one after the other.
pub(crate) type Dialer = Box<dyn Fn() -> Opening + Send>;

/// Dials a target, with this time for each attempt.
pub(crate) fn dialer(target: Target, timeout: Duration, frame_bytes: usize) -> Dialer {
    Box::new(move || {
        let target = target.clone();
        Box::pin(async move {
            let named = |error: io::Error| io::Error::new(error.kind(), format!("{target}: {error}"));
            match tokio::time::timeout(timeout, open(&target, frame_bytes)).await {
                Ok(opened) => opened.map_err(named),
                Err(_) => Err(named(io::ErrorKind::TimedOut.into())),
            }
        })
    })
}

async fn open(target: &Target, frame_bytes: usize) -> io::Result<Opened> {
    let (host, port, path) = match target {
        Target::WebSocket { host, port, path } => (host, *port, path),
        Target::Program(_) => {
            let message = "a program is started by its application: give its pipes to Client::connect_by";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
    };
    let mut socket = TcpStream::connect((host.as_str(), port)).await?;
    socket.set_nodelay(true)?;
    let (request, accept) = upgrade_request(&format!("{}:{port}", bracketed(host)), path);
    socket.write_all(request.as_bytes()).await?;
    let mut framing = Framing::websocket_client(frame_bytes);
    let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let n = socket.read(&mut buffer).await?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed during the handshake"));
        }
        head.extend_from_slice(&buffer[..n]);
        if let Some(length) = upgraded(&head, &accept).map_err(io::Error::other)? {
            framing.feed(&head[length..]);
            return Ok((Box::pin(socket), framing));
        }
    }
}

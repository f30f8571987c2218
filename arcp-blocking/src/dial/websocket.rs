//! A WebSocket as a client opens it.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use arcp_host::client::bracketed;
use arcp_host::framing::Framing;
use arcp_host::http::{upgrade_request, upgraded};

use super::{Closer, Wire};

/// How long a peer may take nothing before a write is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) fn dial(host: &str, port: u16, path: &str, timeout: Duration, frame_bytes: usize) -> io::Result<Wire> {
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
    let (request, accept) = upgrade_request(&format!("{}:{port}", bracketed(host)), path);
    socket.write_all(request.as_bytes())?;
    let mut framing = Framing::websocket_client(frame_bytes);
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
        closer: Closer(Box::new(move || drop(socket.shutdown(Shutdown::Both)))),
    })
}

//! The client's side of a WebSocket.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use arcp_host::client::bracketed;
use arcp_host::framing::Framing;
use arcp_host::http::{page, page_request, upgrade_request, upgraded};
use arcp_proto::secret::Secret;

use super::{Closer, WRITE_TIMEOUT, Wire};

/// A connection for bytes until a deadline; then it becomes [a wire](Channel::into_wire).
pub(super) struct Channel {
    pub(super) reader: Box<dyn Read + Send>,
    pub(super) writer: Box<dyn Write + Send>,
    pub(super) socket: TcpStream,
    pub(super) until: Instant,
}

impl Channel {
    /// A socket without TLS.
    pub(super) fn clear(socket: TcpStream, until: Instant) -> io::Result<Channel> {
        Ok(Channel { reader: Box::new(socket.try_clone()?), writer: Box::new(socket.try_clone()?), socket, until })
    }

    /// Reads, until the deadline at most.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait_until(&self.socket, self.until)?;
        self.reader.read(buffer)
    }

    fn into_wire(self, framing: Framing) -> io::Result<Wire> {
        self.socket.set_read_timeout(None)?;
        let Channel { reader, writer, socket, .. } = self;
        Ok(Wire { reader, writer, framing, closer: Closer(Box::new(move || drop(socket.shutdown(Shutdown::Both)))) })
    }
}

/// Sets the timeout of the socket's next read to the time that is left.
pub(super) fn wait_until(socket: &TcpStream, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    socket.set_read_timeout(Some(left))
}

/// Connects to one of the addresses of a host.
pub(super) fn connect(host: &str, port: u16, until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("`{host}` has no address"));
    for address in (host, port).to_socket_addrs()? {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Upgrades a connection to a WebSocket.
pub(super) fn upgrade(mut channel: Channel, host: &str, port: u16, path: &str, frame_bytes: usize) -> io::Result<Wire> {
    let (request, accept) = upgrade_request(&format!("{}:{port}", bracketed(host)), path);
    channel.writer.write_all(request.as_bytes())?;
    channel.writer.flush()?;
    let mut framing = Framing::websocket_client(frame_bytes);
    let mut head = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let n = channel.read(&mut buffer)?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed during the handshake"));
        }
        head.extend_from_slice(&buffer[..n]);
        if let Some(length) = upgraded(&head, &accept)? {
            framing.feed(&head[length..]);
            return channel.into_wire(framing);
        }
    }
}

/// Requests the counts of a runtime. Reads a bounded number of bytes.
pub(super) fn stats(
    mut channel: Channel,
    host: &str,
    port: u16,
    token: &Secret,
    most: usize,
) -> io::Result<Option<String>> {
    let request = page_request(&format!("{}:{port}", bracketed(host)), "/stats", token);
    channel.writer.write_all(request.as_bytes())?;
    channel.writer.flush()?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    while answer.len() < most {
        match channel.read(&mut buffer)? {
            0 => break,
            n => answer.extend_from_slice(&buffer[..n]),
        }
    }
    Ok(page(&answer).map(str::to_string))
}

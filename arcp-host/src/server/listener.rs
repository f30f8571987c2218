//! Bound places, on which adapters accept.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::listen::Listen;
use super::socket_file::SocketFile;

/// The length of the backlog.
pub(super) const BACKLOG: i32 = 1024;
/// How long the last output to stdout may take, and the interval between two looks at whether it is
/// written.
const LAST_WORDS: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);
/// The most bytes of stdin and of stdout that are forwarded at once.
const PASSED_ON: usize = 64 << 10;

/// A bound place. Clients that connect wait in its backlog.
#[derive(Debug)]
pub struct Listener {
    listen: Listen,
    socket: Bound,
    kept: Kept,
}

/// The socket on which to accept. It is non-blocking.
#[derive(Debug)]
pub enum Bound {
    /// A TCP port.
    Tcp(TcpListener),
    /// A UDP port.
    Udp(UdpSocket),
    /// A Unix socket.
    Unix(UnixListener),
    /// One peer that is already connected.
    Peer(UnixStream),
}

/// To be kept as long as the place is used: the guard that removes the file of a socket, and the
/// thread that writes to stdout, which is awaited for a moment at the end.
#[derive(Debug, Default)]
pub struct Kept {
    _file: Option<SocketFile>,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let until = Instant::now() + LAST_WORDS;
        while self.writer.as_ref().is_some_and(|writer| !writer.is_finished()) && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
    }
}

impl Listener {
    /// Binds a place.
    ///
    /// # Errors
    ///
    /// If it cannot be bound.
    pub fn bind(listen: &Listen) -> io::Result<Listener> {
        match listen {
            Listen::WebSocket { address, .. } => Listener::of_port(TcpListener::bind(address)?, listen.clone()),
            Listen::Http2 { address, .. } => Listener::of_port(TcpListener::bind(address)?, listen.clone()),
            Listen::Quic { address } => {
                let socket = UdpSocket::bind(address)?;
                socket.set_nonblocking(true)?;
                let listen = Listen::Quic { address: socket.local_addr()? };
                Ok(Listener { listen, socket: Bound::Udp(socket), kept: Kept::default() })
            }
            Listen::Unix { path, mode } => {
                let (socket, file) = SocketFile::listen(path, *mode)?;
                let listen = Listen::Unix { path: std::path::absolute(path)?, mode: *mode };
                let kept = Kept { _file: Some(file), writer: None };
                Ok(Listener { listen, socket: Bound::Unix(socket), kept })
            }
            Listen::Stdio => {
                let (peer, writer) = stdio()?;
                let kept = Kept { _file: None, writer: Some(writer) };
                Ok(Listener { listen: Listen::Stdio, socket: Bound::Peer(peer), kept })
            }
        }
    }

    /// A port that is already bound, for WebSockets; with TLS if the server has a certificate.
    ///
    /// # Errors
    ///
    /// If its address cannot be read.
    pub fn on(port: TcpListener) -> io::Result<Listener> {
        let listen = Listen::WebSocket { address: port.local_addr()?, tls: None };
        Listener::of_port(port, listen)
    }

    fn of_port(port: TcpListener, listen: Listen) -> io::Result<Listener> {
        rustix::net::listen(&port, BACKLOG)?;
        port.set_nonblocking(true)?;
        let listen = listen.at(port.local_addr()?);
        Ok(Listener { listen, socket: Bound::Tcp(port), kept: Kept::default() })
    }

    /// The place, with the port that was picked.
    pub fn place(&self) -> &Listen {
        &self.listen
    }

    /// The parts, for an adapter that accepts on the socket.
    pub fn into_parts(self) -> (Listen, Bound, Kept) {
        (self.listen, self.socket, self.kept)
    }
}

/// Forwards everything as soon as it arrives. `io::copy` would let the kernel copy, which may wait
/// for more bytes.
fn pass_on(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; PASSED_ON];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// stdin and stdout as one non-blocking stream, served by two threads.
fn stdio() -> io::Result<(UnixStream, JoinHandle<()>)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (mut to_server, mut from_server) = (theirs.try_clone()?, theirs);
    let input = move || {
        let _ = pass_on(&mut io::stdin().lock(), &mut to_server);
        // The parent sends nothing more, but may still read.
        let _ = to_server.shutdown(Shutdown::Write);
    };
    // Not `io::stdout`, which buffers output up to a line end.
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let output = move || {
        let _ = pass_on(&mut from_server, &mut stdout);
        let _ = from_server.shutdown(Shutdown::Both);
        // Replaces stdout, so that the parent sees the end of the stream.
        let nowhere = File::options().write(true).open("/dev/null");
        let _ = nowhere.map(rustix::stdio::dup2_stdout);
    };
    std::thread::Builder::new().name("stdin".to_string()).spawn(input)?;
    let writer = std::thread::Builder::new().name("stdout".to_string()).spawn(output)?;
    Ok((ours, writer))
}

//! Places that are bound, for adapters to accept on.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::listen::Listen;
use super::socket_file::SocketFile;

/// Connections that may wait to be accepted.
pub(super) const BACKLOG: i32 = 1024;
/// How long the last words to a parent may take, and between two looks whether they are
/// out.
const LAST_WORDS: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);
/// Bytes of stdin and of stdout that are passed on at once.
const PASSED_ON: usize = 64 << 10;

/// A place that is bound. Who connects waits until it is accepted on.
#[derive(Debug)]
pub struct Listener {
    listen: Listen,
    socket: Bound,
    kept: Kept,
}

/// What is accepted on; nothing in it waits.
#[derive(Debug)]
pub enum Bound {
    /// A port.
    Tcp(TcpListener),
    /// A port for datagrams.
    Udp(UdpSocket),
    /// A Unix socket.
    Unix(UnixListener),
    /// Nothing: this is the one peer there will be.
    Peer(UnixStream),
}

/// What has to be kept as long as its place is listened on, and its peer is there: the
/// file of a socket, which is removed with it; whoever writes to stdout, who is waited for
/// a moment.
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
    /// Binds it.
    ///
    /// # Errors
    ///
    /// If it cannot be had.
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

    /// A port that is bound already, for WebSockets, with TLS if its server has a
    /// certificate.
    ///
    /// # Errors
    ///
    /// If the system does not say where it is.
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

    /// Where it is, with the port that was picked.
    pub fn place(&self) -> &Listen {
        &self.listen
    }

    /// Takes it apart, for an adapter to accept on.
    pub fn into_parts(self) -> (Listen, Bound, Kept) {
        (self.listen, self.socket, self.kept)
    }
}

/// Passes everything on as soon as it comes. `io::copy` has the system do that, which may
/// wait for more.
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

/// stdin and stdout as one stream that does not wait: two threads do.
fn stdio() -> io::Result<(UnixStream, JoinHandle<()>)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (mut to_server, mut from_server) = (theirs.try_clone()?, theirs);
    let input = move || {
        let _ = pass_on(&mut io::stdin().lock(), &mut to_server);
        // The parent says nothing more, and may still read.
        let _ = to_server.shutdown(Shutdown::Write);
    };
    // Not by `io::stdout`, which keeps what has no line end to itself.
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let output = move || {
        let _ = pass_on(&mut from_server, &mut stdout);
        let _ = from_server.shutdown(Shutdown::Both);
        // Nobody says anything there any more: the parent sees that it has ended.
        let nowhere = File::options().write(true).open("/dev/null");
        let _ = nowhere.map(rustix::stdio::dup2_stdout);
    };
    std::thread::Builder::new().name("stdin".to_string()).spawn(input)?;
    let writer = std::thread::Builder::new().name("stdout".to_string()).spawn(output)?;
    Ok((ours, writer))
}

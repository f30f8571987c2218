//! Peers without a session that stop at some point. `docs/attackers.md` lists under the same names what servers hold
//! for each of them, and for how long.

mod all;
mod http2;
mod quic;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcp_blocking::{Target, Trust};
use arcp_host::client::HTTP2;
use arcp_host::tls::client_config;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

pub use self::all::ALL;
use crate::server::{PATIENCE, connect_to};
use crate::until::until;

/// The time between two bytes of a peer that sends one at a time.
const DRIBBLE: Duration = Duration::from_millis(100);
/// The least that the system buffers for a Unix socket: what was written beyond that has been read.
const UNREAD: usize = 4 << 10;

/// What a peer sends in steps, each of which is answered, and then a part of the next step.
type Said = (Vec<Vec<u8>>, Vec<u8>);

/// A peer that stops.
#[derive(Clone, Copy)]
pub struct Stranger {
    /// Its row in the page.
    pub row: &'static str,
    /// The kind of listener that it connects to.
    pub at: At,
    /// The point at which it stops.
    pub stops: Stops,
    /// As how many connections without a session it counts.
    pub counts: usize,
    says: fn() -> Said,
    /// How far it goes in a QUIC handshake.
    handshake: quic::Handshake,
    /// What it continues to send, a little at a time, if it does.
    dribble: Option<Dribble>,
}

/// The bytes that a peer sends after so many earlier ones.
type Dribble = fn(u32) -> Vec<u8>;

/// A kind of listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// A port for WebSockets.
    WebSocket,
    /// A port for WebSockets with TLS.
    SecureWebSocket,
    /// A Unix socket.
    Unix,
    /// A port for HTTP/2.
    Http2,
    /// A port for HTTP/2 with TLS.
    SecureHttp2,
    /// A port for QUIC.
    Quic,
}

impl At {
    /// All kinds.
    pub const ALL: [At; 6] = [At::WebSocket, At::SecureWebSocket, At::Unix, At::Http2, At::SecureHttp2, At::Quic];

    /// Whether a connection begins with TLS.
    pub fn has_tls(self) -> bool {
        match self {
            At::SecureWebSocket | At::SecureHttp2 | At::Quic => true,
            At::WebSocket | At::Unix | At::Http2 => false,
        }
    }

    /// Whether its connections carry sessions as streams, which only the tokio adapter serves.
    pub fn carries(self) -> bool {
        match self {
            At::Http2 | At::SecureHttp2 | At::Quic => true,
            At::WebSocket | At::SecureWebSocket | At::Unix => false,
        }
    }
}

/// The point at which a peer stops, which determines how long it may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stops {
    /// In the handshake of TLS, or of QUIC.
    InTls,
    /// Before its request is complete.
    InRequest,
    /// Before its session is open.
    BeforeSession,
    /// After the server has said goodbye.
    AfterGoodbye,
    /// Before the session of a stream is open: the server closes its connection with the goodbye.
    OnStream,
    /// After the server has said goodbye on a stream: its connection may open another.
    AfterStream,
}

/// The connection of a peer that has stopped.
pub struct Held {
    wire: Wire,
    dribble: Option<Dribble>,
    /// When the step began from which its time is counted.
    pub since: Instant,
}

enum Wire {
    Bytes(Box<dyn Stream>),
    Quic(quic::Held),
}

trait Stream: Read + Write + Send {
    fn wait_for(&self, time: Duration);
}

impl Stream for TcpStream {
    fn wait_for(&self, time: Duration) {
        self.set_read_timeout(Some(time)).expect("set");
    }
}

impl Stream for UnixStream {
    fn wait_for(&self, time: Duration) {
        self.set_read_timeout(Some(time)).expect("set");
    }
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn wait_for(&self, time: Duration) {
        self.sock.wait_for(time);
    }
}

/// The address of a port.
fn port(target: &Target) -> SocketAddr {
    let (host, port) = target.address().expect("it has a port");
    format!("{host}:{port}").parse().expect("an address")
}

impl Stranger {
    /// Whether it continues to send, a little at a time.
    pub fn dribbles(&self) -> bool {
        self.dribble.is_some()
    }

    /// Connects to a server whose certificate it trusts, and sends what it sends before it stops.
    pub fn come(&self, target: &Target, certificate: Option<&Path>) -> Held {
        let mut since = Instant::now();
        let (answered, begun) = (self.says)();
        if self.at == At::Quic {
            let (certificate, says) = (certificate.expect("it has TLS"), answered.into_iter().chain([begun]));
            let held = quic::come(self.handshake, port(target), certificate, says);
            return Held { wire: Wire::Quic(held), dribble: self.dribble, since };
        }
        let mut stream = self.connect(target, certificate, &mut since);
        for (n, step) in answered.into_iter().enumerate() {
            // After the upgrade to a WebSocket, the time starts anew only with a goodbye.
            if n == 0 || self.stops == Stops::AfterGoodbye {
                since = Instant::now();
            }
            stream.write_all(&step).expect("written");
            assert!(stream.read(&mut [0; 4096]).expect("an answer") > 0, "{}: it is closed at once", self.row);
        }
        stream.write_all(&begun).and_then(|()| stream.flush()).expect("written");
        // After a goodbye, the peer sends bytes to notice when the server closes the connection.
        let learns = (self.stops == Stops::AfterGoodbye).then_some(all::BYTE);
        Held { wire: Wire::Bytes(stream), dribble: self.dribble.or(learns), since }
    }

    fn connect(&self, target: &Target, certificate: Option<&Path>, since: &mut Instant) -> Box<dyn Stream> {
        if let Target::Unix(path) = target {
            let socket = UnixStream::connect(path).expect("a connection");
            set_socket_send_buffer_size(&socket, UNREAD).expect("set");
            socket.wait_for(PATIENCE);
            return Box::new(socket);
        }
        let socket = connect_to(port(target));
        let Some(certificate) = certificate.filter(|_| self.at.has_tls() && self.stops != Stops::InTls) else {
            return Box::new(socket);
        };
        let config = client_config(&Trust::Authorities(certificate.to_path_buf()), None).expect("a certificate");
        let mut config = Arc::unwrap_or_clone(config);
        config.alpn_protocols = if self.at == At::SecureHttp2 { vec![HTTP2.to_vec()] } else { Vec::new() };
        let session = ClientConnection::new(Arc::new(config), ServerName::from(port(target).ip()));
        let mut stream = StreamOwned::new(session.expect("a session"), socket);
        *since = Instant::now();
        stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        Box::new(stream)
    }
}

impl Held {
    /// Waits until the server has closed the connection, with or without a message. Returns how long the connection
    /// was open.
    pub fn ends(self) -> Duration {
        let Held { wire, dribble, since } = self;
        match wire {
            Wire::Quic(held) => held.ends(dribble),
            Wire::Bytes(stream) => stream_ends(stream, dribble, since),
        }
        since.elapsed()
    }
}

fn stream_ends(mut stream: Box<dyn Stream>, dribble: Option<Dribble>, since: Instant) {
    if dribble.is_some() {
        stream.wait_for(DRIBBLE);
    }
    let (mut times, mut last) = (0, Instant::now());
    let mut dribbled = |stream: &mut dyn Stream| {
        // Wait between two sends, so that an answer can be read first.
        if times > 0 && last.elapsed() < DRIBBLE {
            return Ok(());
        }
        let more = dribble.map_or_else(Vec::new, |dribble| dribble(times));
        (times, last) = (times + 1, Instant::now());
        stream.write_all(&more).and_then(|()| stream.flush())
    };
    loop {
        let is_over = match stream.read(&mut [0; 4096]) {
            Ok(0) if dribble.is_some() => {
                until("it takes no more", || dribbled(&mut *stream).err());
                true
            }
            Ok(n) => n == 0,
            Err(error) => {
                let late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!late || dribble.is_some(), "it is not closed");
                !late
            }
        };
        if is_over || dribble.is_some() && dribbled(&mut *stream).is_err() {
            return;
        }
        assert!(since.elapsed() < 2 * PATIENCE, "it is not closed, whatever it dribbles");
    }
}

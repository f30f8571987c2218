//! Peers that nobody knows, who go so far and no further: what servers hold for them
//! meanwhile, and for how long, stands in `docs/attackers.md`, by the names that they
//! have here.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcp_blocking::Trust;
use arcp_host::tls::client_config;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};

use crate::server::{PATIENCE, connect_to};
use crate::until::until;

/// Between two bytes of who sends one at a time.
const DRIBBLE: Duration = Duration::from_millis(100);

/// The longest message before a session, as it is announced.
const LONGEST: u64 = 64 << 10;

const REQUEST: &[u8] = b"GET /arcp HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What somebody sends step by step, each answered; then what of the next step.
type Said = (Vec<Vec<u8>>, Vec<u8>);

/// Somebody who stops.
#[derive(Clone, Copy)]
pub struct Stranger {
    /// Its row of the page.
    pub row: &'static str,
    /// Whether it comes to a port with TLS.
    pub tls: bool,
    /// How far it gets.
    pub stops: Stops,
    says: fn() -> Said,
    /// Whether it goes on, a byte at a time.
    pub dribbles: bool,
}

/// Where somebody stops, which says for how long it may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stops {
    /// In the TLS handshake.
    InTls,
    /// Before its request is whole.
    InRequest,
    /// Before its session is open.
    BeforeSession,
    /// After it was told goodbye.
    AfterGoodbye,
}

/// A masked text message.
fn message(kind: &str, payload: Value) -> Vec<u8> {
    let text = json!({"arcp": "1.1", "id": "1", "type": kind, "payload": payload}).to_string();
    let length = u16::try_from(text.len()).expect("it is short").to_be_bytes();
    [&[0x81, 0xfe][..], &length, &[0; 4], text.as_bytes()].concat()
}

fn hello(token: &str) -> Vec<u8> {
    message(
        "session.hello",
        json!({"auth": {"scheme": "bearer", "token": token}, "client": {"name": "s", "version": "1"}}),
    )
}

/// An opening without a proof.
fn open() -> Vec<u8> {
    message("session.open", json!({"auth": {"scheme": "bearer"}, "client": {"kind": "s", "version": "1"}}))
}

/// So much of the longest message.
fn long(bytes: usize) -> Vec<u8> {
    [&[0x81, 0xff][..], &LONGEST.to_be_bytes(), &[0; 4], &vec![b' '; bytes]].concat()
}

/// So much of a TLS record with as much in it as there may be.
fn record(bytes: usize) -> Vec<u8> {
    [&[22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3][..], &vec![7; bytes]].concat()
}

/// So much of a request whose head does not end.
fn request(bytes: usize) -> Vec<u8> {
    [&REQUEST[..REQUEST.len() - 2], b"X: ", &vec![b'x'; bytes]].concat()
}

const IN_REQUEST: Stranger =
    Stranger { row: "", tls: false, stops: Stops::InRequest, says: || (Vec::new(), Vec::new()), dribbles: false };
const BEFORE_SESSION: Stranger =
    Stranger { stops: Stops::BeforeSession, says: || (vec![REQUEST.to_vec()], Vec::new()), ..IN_REQUEST };
const IN_TLS: Stranger = Stranger { tls: true, stops: Stops::InTls, ..IN_REQUEST };

/// Everybody.
pub const ALL: [Stranger; 17] = [
    Stranger { row: "connects and says nothing", ..IN_REQUEST },
    Stranger { row: "sends half a request", says: || (Vec::new(), request(15 << 10)), ..IN_REQUEST },
    Stranger { row: "sends a request byte by byte", says: || (Vec::new(), request(0)), dribbles: true, ..IN_REQUEST },
    Stranger { row: "has a WebSocket and says nothing", ..BEFORE_SESSION },
    Stranger {
        row: "pings and opens nothing",
        says: || (vec![REQUEST.to_vec(), vec![0x89, 0x80, 0, 0, 0, 0]], Vec::new()),
        ..BEFORE_SESSION
    },
    Stranger { row: "announces a message", says: || (vec![REQUEST.to_vec()], long(0)), ..BEFORE_SESSION },
    Stranger { row: "sends half a message", says: || (vec![REQUEST.to_vec()], long(60 << 10)), ..BEFORE_SESSION },
    Stranger {
        row: "sends a message byte by byte",
        says: || (vec![REQUEST.to_vec()], long(0)),
        dribbles: true,
        ..BEFORE_SESSION
    },
    Stranger {
        row: "leaves a challenge unanswered",
        says: || (vec![REQUEST.to_vec(), open()], Vec::new()),
        ..BEFORE_SESSION
    },
    Stranger {
        row: "answers a challenge wrongly",
        says: || {
            let wrong = message("session.authenticate", json!({"response": "wrong"}));
            (vec![REQUEST.to_vec(), open(), wrong], Vec::new())
        },
        ..BEFORE_SESSION
    },
    Stranger {
        row: "is refused and does not close",
        stops: Stops::AfterGoodbye,
        says: || (vec![REQUEST.to_vec(), hello("wrong")], Vec::new()),
        ..IN_REQUEST
    },
    Stranger { row: "connects to TLS and says nothing", ..IN_TLS },
    Stranger { row: "sends half a TLS record", says: || (Vec::new(), record(15 << 10)), ..IN_TLS },
    Stranger { row: "sends a TLS record byte by byte", says: || (Vec::new(), record(0)), dribbles: true, ..IN_TLS },
    Stranger { row: "has TLS and says nothing", tls: true, ..IN_REQUEST },
    Stranger { row: "has a WebSocket over TLS and says nothing", tls: true, ..BEFORE_SESSION },
    Stranger {
        row: "sends half a message over TLS",
        tls: true,
        says: || (vec![REQUEST.to_vec()], long(60 << 10)),
        ..BEFORE_SESSION
    },
];

/// A connection of somebody who has stopped.
pub struct Held {
    stream: Box<dyn Stream>,
    /// Whether it sends on, a byte at a time.
    dribbles: bool,
    /// When it began the step from which its time is counted.
    pub since: Instant,
}

trait Stream: Read + Write + Send {
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for StreamOwned<ClientConnection, TcpStream> {
    fn socket(&self) -> &TcpStream {
        &self.sock
    }
}

impl Stranger {
    /// Comes to a server, of which it knows the certificate, and goes as far as it goes.
    pub fn come(&self, address: SocketAddr, certificate: Option<&Path>) -> Held {
        let mut since = Instant::now();
        let socket = connect_to(address);
        let mut stream: Box<dyn Stream> = match certificate.filter(|_| self.tls && self.stops != Stops::InTls) {
            None => Box::new(socket),
            Some(certificate) => {
                let config =
                    client_config(&Trust::Authorities(certificate.to_path_buf()), None).expect("a certificate");
                let session = ClientConnection::new(Arc::clone(&config), ServerName::from(address.ip()));
                let mut stream = StreamOwned::new(session.expect("a session"), socket);
                since = Instant::now();
                stream.conn.complete_io(&mut stream.sock).expect("a handshake");
                Box::new(stream)
            }
        };
        let (answered, begun) = (self.says)();
        for (n, step) in answered.into_iter().enumerate() {
            // What comes after the WebSocket begins no time anew, but for a goodbye.
            if n == 0 || self.stops == Stops::AfterGoodbye {
                since = Instant::now();
            }
            stream.write_all(&step).expect("written");
            assert!(stream.read(&mut [0; 4096]).expect("an answer") > 0, "{}: it is closed at once", self.row);
        }
        stream.write_all(&begun).and_then(|()| stream.flush()).expect("written");
        // Who was told goodbye learns by that when the server has let go of it.
        Held { stream, dribbles: self.dribbles || self.stops == Stops::AfterGoodbye, since }
    }
}

impl Held {
    /// Waits until the server has closed it, with or without a word; gives how long it
    /// has stayed.
    pub fn ends(mut self) -> Duration {
        if self.dribbles {
            self.stream.socket().set_read_timeout(Some(DRIBBLE)).expect("set");
        }
        let dribble = |stream: &mut dyn Stream| stream.write_all(b"x").and_then(|()| stream.flush());
        loop {
            let is_over = match self.stream.read(&mut [0; 4096]) {
                Ok(0) if self.dribbles => {
                    until("it takes no more", || dribble(&mut *self.stream).err());
                    true
                }
                Ok(n) => n == 0,
                Err(error) => {
                    let late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                    assert!(!late || self.dribbles, "it is not closed");
                    !late
                }
            };
            if is_over || self.dribbles && dribble(&mut *self.stream).is_err() {
                return self.since.elapsed();
            }
            assert!(self.since.elapsed() < 2 * PATIENCE, "it is not closed, whatever it dribbles");
        }
    }
}

//! All peers that stop, by the listener that they connect to.

use serde_json::{Value, json};

use super::http2::{PREFACE, announced_request, begun, data, half_request, ping, request, reset};
use super::quic::Handshake;
use super::{At, Dribble, Stops, Stranger};

/// The announced length of the longest message before a session.
const LONGEST: u64 = 64 << 10;
/// How many bytes of it a peer sends that leaves it unfinished.
const HALF: usize = 60 << 10;
/// A length that is refused.
const TOO_LONG: usize = 65 << 10;
/// The most streams of a connection.
const STREAMS: usize = 16;

const UPGRADE: &[u8] = b"GET /arcp HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// One byte at a time.
pub(super) const BYTE: Dribble = |_| b"x".to_vec();
/// One byte at a time, on a stream.
const DATA_BYTE: Dribble = |_| data(0, b"x");
/// One stream after another; each is reset before the next.
const STREAM_AFTER_STREAM: Dribble = |times| match (times / 20, times % 20) {
    (n, 0) => [reset(n), request(n + 1)].concat(),
    _ => Vec::new(),
};

/// A frame as it is written on a line.
fn frame(kind: &str, payload: Value) -> Vec<u8> {
    json!({"arcp": "1.1", "id": "1", "type": kind, "payload": payload}).to_string().into_bytes()
}

/// A masked text message.
fn message(frame: &[u8]) -> Vec<u8> {
    let length = u16::try_from(frame.len()).expect("it is short").to_be_bytes();
    [&[0x81, 0xfe][..], &length, &[0; 4], frame].concat()
}

fn line(frame: &[u8]) -> Vec<u8> {
    [frame, b"\n"].concat()
}

fn hello(token: &str) -> Vec<u8> {
    frame(
        "session.hello",
        json!({"auth": {"scheme": "bearer", "token": token}, "client": {"name": "s", "version": "1"}}),
    )
}

/// The request that opens a session, without a credential.
fn open() -> Vec<u8> {
    frame("session.open", json!({"auth": {"scheme": "bearer"}, "client": {"kind": "s", "version": "1"}}))
}

/// So many bytes of the longest message.
fn long(bytes: usize) -> Vec<u8> {
    announced(LONGEST, bytes)
}

/// So many bytes of a message of this length.
fn announced(length: u64, bytes: usize) -> Vec<u8> {
    [&[0x81, 0xff][..], &length.to_be_bytes(), &[0; 4], &vec![b' '; bytes]].concat()
}

/// So many bytes of a TLS record of the largest size.
fn record(bytes: usize) -> Vec<u8> {
    [&[22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3][..], &vec![7; bytes]].concat()
}

/// So many bytes of a request whose head does not end.
fn head(bytes: usize) -> Vec<u8> {
    [&UPGRADE[..UPGRADE.len() - 2], b"X: ", &vec![b'x'; bytes]].concat()
}

const IN_REQUEST: Stranger = Stranger {
    row: "",
    at: At::WebSocket,
    stops: Stops::InRequest,
    counts: 1,
    says: || (Vec::new(), Vec::new()),
    handshake: Handshake::Done,
    dribble: None,
};
const BEFORE_SESSION: Stranger =
    Stranger { stops: Stops::BeforeSession, says: || (vec![UPGRADE.to_vec()], Vec::new()), ..IN_REQUEST };
const AFTER_GOODBYE: Stranger = Stranger { stops: Stops::AfterGoodbye, ..IN_REQUEST };
const IN_TLS: Stranger = Stranger { at: At::SecureWebSocket, stops: Stops::InTls, ..IN_REQUEST };
const ON_SOCKET: Stranger = Stranger { at: At::Unix, stops: Stops::BeforeSession, ..IN_REQUEST };
const BEFORE_STREAM: Stranger = Stranger { at: At::Http2, ..IN_REQUEST };
const ON_STREAM: Stranger = Stranger { stops: Stops::OnStream, ..BEFORE_STREAM };
const QUIC: Stranger = Stranger { at: At::Quic, ..IN_REQUEST };
const IN_QUIC: Stranger = Stranger { stops: Stops::InTls, ..QUIC };
const ON_QUIC: Stranger = Stranger { stops: Stops::OnStream, ..QUIC };

/// All peers.
pub const ALL: &[Stranger] = &[
    Stranger { row: "connects and says nothing", ..IN_REQUEST },
    Stranger { row: "sends half a request", says: || (Vec::new(), head(15 << 10)), ..IN_REQUEST },
    Stranger { row: "sends a request byte by byte", says: || (Vec::new(), head(0)), dribble: Some(BYTE), ..IN_REQUEST },
    Stranger { row: "has a WebSocket and says nothing", ..BEFORE_SESSION },
    Stranger {
        row: "pings and opens nothing",
        says: || (vec![UPGRADE.to_vec(), vec![0x89, 0x80, 0, 0, 0, 0]], Vec::new()),
        ..BEFORE_SESSION
    },
    Stranger { row: "announces a message", says: || (vec![UPGRADE.to_vec()], long(0)), ..BEFORE_SESSION },
    Stranger { row: "sends half a message", says: || (vec![UPGRADE.to_vec()], long(HALF)), ..BEFORE_SESSION },
    Stranger {
        row: "sends a message byte by byte",
        says: || (vec![UPGRADE.to_vec()], long(0)),
        dribble: Some(BYTE),
        ..BEFORE_SESSION
    },
    Stranger {
        row: "leaves a challenge unanswered",
        says: || (vec![UPGRADE.to_vec(), message(&open())], Vec::new()),
        ..BEFORE_SESSION
    },
    Stranger {
        row: "answers a challenge wrongly",
        says: || {
            let wrong = frame("session.authenticate", json!({"response": "wrong"}));
            (vec![UPGRADE.to_vec(), message(&open()), message(&wrong)], Vec::new())
        },
        ..BEFORE_SESSION
    },
    Stranger {
        row: "sends a message that is too long",
        says: || (vec![UPGRADE.to_vec(), announced(TOO_LONG as u64, HALF)], Vec::new()),
        ..AFTER_GOODBYE
    },
    Stranger {
        row: "is refused and does not close",
        says: || (vec![UPGRADE.to_vec(), message(&hello("wrong"))], Vec::new()),
        ..AFTER_GOODBYE
    },
    Stranger { row: "connects to TLS and says nothing", ..IN_TLS },
    Stranger { row: "sends half a TLS record", says: || (Vec::new(), record(15 << 10)), ..IN_TLS },
    Stranger {
        row: "sends a TLS record byte by byte",
        says: || (Vec::new(), record(0)),
        dribble: Some(BYTE),
        ..IN_TLS
    },
    Stranger { row: "has TLS and says nothing", at: At::SecureWebSocket, ..IN_REQUEST },
    Stranger { row: "has a WebSocket over TLS and says nothing", at: At::SecureWebSocket, ..BEFORE_SESSION },
    Stranger {
        row: "sends half a message over TLS",
        at: At::SecureWebSocket,
        says: || (vec![UPGRADE.to_vec()], long(HALF)),
        ..BEFORE_SESSION
    },
    Stranger { row: "connects to a Unix socket and says nothing", ..ON_SOCKET },
    Stranger { row: "sends half a line", says: || (Vec::new(), vec![b' '; HALF]), ..ON_SOCKET },
    Stranger { row: "sends a line byte by byte", dribble: Some(BYTE), ..ON_SOCKET },
    Stranger {
        row: "sends a line that is too long",
        says: || (vec![vec![b' '; TOO_LONG]], Vec::new()),
        stops: Stops::AfterGoodbye,
        ..ON_SOCKET
    },
    Stranger {
        row: "is refused on a Unix socket and does not close",
        says: || (vec![line(&hello("wrong"))], Vec::new()),
        stops: Stops::AfterGoodbye,
        ..ON_SOCKET
    },
    Stranger { row: "connects to HTTP/2 and says nothing", ..BEFORE_STREAM },
    Stranger { row: "sends half a preface", says: || (Vec::new(), PREFACE[..10].to_vec()), ..BEFORE_STREAM },
    Stranger { row: "has HTTP/2 and asks for nothing", says: || (vec![begun()], Vec::new()), ..BEFORE_STREAM },
    Stranger {
        row: "pings over HTTP/2 and asks for nothing",
        says: || (vec![begun()], Vec::new()),
        dribble: Some(|_| ping()),
        ..BEFORE_STREAM
    },
    Stranger { row: "sends half a list of headers", says: || (vec![begun()], half_request()), ..BEFORE_STREAM },
    Stranger {
        row: "sends headers byte by byte",
        says: || (vec![begun()], announced_request()),
        dribble: Some(BYTE),
        ..BEFORE_STREAM
    },
    Stranger { row: "has a stream and says nothing", says: || (vec![begun()], request(0)), ..ON_STREAM },
    Stranger {
        row: "sends half a line on a stream",
        says: || (vec![begun()], [request(0), data(0, &vec![b' '; HALF])].concat()),
        ..ON_STREAM
    },
    Stranger {
        row: "sends a line on a stream byte by byte",
        says: || (vec![begun()], request(0)),
        dribble: Some(DATA_BYTE),
        ..ON_STREAM
    },
    Stranger {
        row: "opens one stream after the other",
        says: || (vec![begun()], request(0)),
        dribble: Some(STREAM_AFTER_STREAM),
        ..ON_STREAM
    },
    Stranger {
        row: "has sixteen streams and says nothing",
        counts: STREAMS,
        says: || (vec![begun()], (0..STREAMS as u32).flat_map(request).collect()),
        ..ON_STREAM
    },
    Stranger {
        row: "sends half a line on each of sixteen streams",
        counts: STREAMS,
        says: || {
            let half = |n| data(n, &vec![b' '; HALF]);
            // When these are answered, the window has room for all of it.
            let requests = (0..STREAMS as u32).flat_map(request).collect();
            (vec![begun(), requests], (0..STREAMS as u32).flat_map(half).collect())
        },
        ..ON_STREAM
    },
    Stranger {
        row: "is refused on a stream and does not close",
        says: || (vec![begun()], [request(0), data(0, &line(&hello("wrong")))].concat()),
        stops: Stops::AfterStream,
        ..BEFORE_STREAM
    },
    Stranger { row: "connects to HTTP/2 over TLS and says nothing", at: At::SecureHttp2, ..IN_TLS },
    Stranger {
        row: "sends half a TLS record for HTTP/2",
        at: At::SecureHttp2,
        says: || (Vec::new(), record(15 << 10)),
        ..IN_TLS
    },
    Stranger {
        row: "has HTTP/2 over TLS and asks for nothing",
        at: At::SecureHttp2,
        says: || (vec![begun()], Vec::new()),
        ..BEFORE_STREAM
    },
    Stranger {
        row: "sends half a line on a stream over TLS",
        at: At::SecureHttp2,
        says: || (vec![begun()], [request(0), data(0, &vec![b' '; HALF])].concat()),
        ..ON_STREAM
    },
    Stranger { row: "sends half a handshake of QUIC", handshake: Handshake::Half, ..IN_QUIC },
    Stranger { row: "leaves a handshake of QUIC unanswered", handshake: Handshake::Unanswered, ..IN_QUIC },
    Stranger { row: "has QUIC and opens no stream", ..QUIC },
    Stranger { row: "has a stream of QUIC and says next to nothing", says: || (Vec::new(), b" ".to_vec()), ..ON_QUIC },
    Stranger { row: "sends half a line over QUIC", says: || (Vec::new(), vec![b' '; HALF]), ..ON_QUIC },
    Stranger {
        row: "sends a line over QUIC byte by byte",
        says: || (Vec::new(), b" ".to_vec()),
        dribble: Some(BYTE),
        ..ON_QUIC
    },
    Stranger {
        row: "sends a line over QUIC that is too long",
        says: || (Vec::new(), vec![b' '; TOO_LONG]),
        stops: Stops::AfterGoodbye,
        ..QUIC
    },
    Stranger {
        row: "is refused over QUIC and does not close",
        says: || (Vec::new(), line(&hello("wrong"))),
        stops: Stops::AfterGoodbye,
        ..QUIC
    },
];

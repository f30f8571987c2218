//! A peer by hand.

use std::io::{BufRead as _, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use arcp_proto::model::artifact::BlobDigest;
use arcp_tests::server::send;
use arcp_tests::sidecars::read;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::carried::{bytes, hex};

/// A connection, and everything that came on it.
pub struct Peer {
    wire: Wire,
    pub seen: Vec<Value>,
}

enum Wire {
    WebSocket(Box<WebSocket<TcpStream>>),
    Lines(BufReader<UnixStream>),
}

/// What stands for the type of a binary message among what was seen.
const BINARY: &str = "(binary)";

/// How a frame is written.
pub type Encode = fn(&str) -> Vec<u8>;

/// What came.
enum Came {
    Frame(Value),
    /// The end, and how it is told.
    Closed(Value),
}

impl Peer {
    pub fn by_websocket(socket: WebSocket<TcpStream>) -> Peer {
        Peer { wire: Wire::WebSocket(Box::new(socket)), seen: Vec::new() }
    }

    pub fn by_lines(socket: UnixStream) -> Peer {
        Peer { wire: Wire::Lines(BufReader::new(socket)), seen: Vec::new() }
    }

    pub fn say(&mut self, id: &str, kind: &str, payload: Value) {
        match &mut self.wire {
            Wire::WebSocket(socket) => send(socket, id, kind, payload),
            Wire::Lines(_) => {
                let frame = json!({"arcp": "1.1", "id": id, "type": kind, "payload": payload});
                self.say_text(&frame.to_string());
            }
        }
    }

    /// Says what is perhaps no frame; who is not listened to any more is not told.
    pub fn say_text(&mut self, text: &str) {
        match &mut self.wire {
            Wire::WebSocket(socket) => _ = socket.send(Message::text(text)),
            Wire::Lines(socket) => _ = socket.get_mut().write_all(format!("{text}\n").as_bytes()),
        }
    }

    /// Sends a binary message. Who is not listened to any more is not told.
    pub fn say_binary(&mut self, message: Vec<u8>) {
        match &mut self.wire {
            Wire::WebSocket(socket) => _ = socket.send(Message::binary(message)),
            Wire::Lines(_) => self.say_text(&format!("+{}", hex(&message))),
        }
    }

    /// Reads up to a binary message.
    pub fn until_binary(&mut self) {
        self.until(BINARY);
    }

    /// What it writes to from another thread, and how a short frame is written there.
    pub fn writer(&self) -> (Box<dyn Write + Send>, Encode) {
        match &self.wire {
            Wire::WebSocket(socket) => (Box::new(socket.get_ref().try_clone().expect("a second handle")), |text| {
                let length = u8::try_from(text.len()).expect("it is short");
                assert!(length < 126, "it has a short header");
                [&[0x81, 0x80 | length, 0, 0, 0, 0][..], text.as_bytes()].concat()
            }),
            Wire::Lines(socket) => {
                let writer = socket.get_ref().try_clone().expect("a second handle");
                (Box::new(writer), |text| format!("{text}\n").into_bytes())
            }
        }
    }

    /// Leaves in the middle of a message; gives what it saw.
    pub fn cut(self) -> Vec<Value> {
        match self.wire {
            Wire::WebSocket(mut socket) => socket.get_mut().write_all(&[0x81, 0xfe]),
            Wire::Lines(mut socket) => socket.get_mut().write_all(b"{\"id\": "),
        }
        .expect("written");
        self.seen
    }

    /// Leaves; gives what it saw.
    pub fn leave(self) -> Vec<Value> {
        self.seen
    }

    fn next(&mut self) -> Result<Came, String> {
        match &mut self.wire {
            Wire::WebSocket(socket) => loop {
                match socket.read().map_err(|error| error.to_string())? {
                    Message::Text(text) => return Ok(Came::Frame(serde_json::from_str(&text).expect("JSON"))),
                    Message::Close(why) => {
                        let (code, reason) =
                            why.map_or((0, String::new()), |why| (why.code.into(), why.reason.to_string()));
                        return Ok(Came::Closed(json!({"closed with": code, "reason": reason})));
                    }
                    Message::Binary(bytes) => return Ok(Came::Frame(binary(&bytes))),
                    Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                }
            },
            Wire::Lines(socket) => {
                let mut line = String::new();
                match socket.read_line(&mut line).map_err(|error| error.to_string())? {
                    0 => Ok(Came::Closed(json!("closed"))),
                    _ if line.starts_with('+') => Ok(Came::Frame(binary(&bytes(line[1..].trim())))),
                    _ => Ok(Came::Frame(serde_json::from_str(&line).expect("JSON"))),
                }
            }
        }
    }

    /// Reads up to a message of a type.
    pub fn until(&mut self, kind: &str) -> Value {
        loop {
            match self.next().unwrap_or_else(|error| panic!("no {kind}: {error}, after {:?}", self.seen)) {
                Came::Frame(frame) => {
                    self.seen.push(frame.clone());
                    if frame["type"] == kind {
                        return frame;
                    }
                }
                Came::Closed(why) => panic!("closed before a {kind}: {why}, after {:?}", self.seen),
            }
        }
    }

    /// Reads up to where an agent says that its job stands.
    pub fn until_phase(&mut self, phase: &str) {
        while self.until("job.event")["payload"]["body"]["phase"] != phase {}
    }

    /// Reads up to the end; how the connection was closed counts as seen.
    pub fn until_closed(mut self) -> Vec<Value> {
        loop {
            match self.next().expect("an end in time") {
                Came::Frame(frame) => self.seen.push(frame),
                Came::Closed(why) => {
                    self.seen.push(why);
                    return self.seen;
                }
            }
        }
    }
}

/// A binary message as it is seen.
fn binary(message: &[u8]) -> Value {
    let (id, sequence, bytes) = read(message);
    json!({"type": BINARY, "of": id, "sequence": sequence, "sha256": BlobDigest::of(bytes).to_string()})
}

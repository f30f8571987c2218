//! A non-blocking WebSocket over one TCP connection, for either side: messages of one frame each, no extensions.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::fault::Fault;

/// The key of every handshake: there is no cache that a fixed key could confuse.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to that key by RFC 6455.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The side of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client, which masks what it sends.
    Client,
    /// The server.
    Server,
}

/// The read buffer, shared by all connections of a thread, so that an idle connection holds none.
#[derive(Debug)]
pub struct Scratch(Vec<u8>);

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch(vec![0; 1 << 20])
    }
}

/// The bytes that are to be written.
#[derive(Debug)]
pub struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    side: Side,
}

impl Outbox {
    /// Queues a text message.
    pub fn push(&mut self, text: &[u8]) {
        self.push_frame(0x81, text);
    }

    /// How many bytes wait to be written.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Whether no bytes wait.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that wait.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    fn push_frame(&mut self, head: u8, payload: &[u8]) {
        let masked = if self.side == Side::Client { 0x80 } else { 0 };
        self.bytes.push(head);
        match payload.len() {
            len @ 0..=125 => self.bytes.push(masked | len as u8),
            len @ 126..=0xffff => {
                self.bytes.push(masked | 126);
                self.bytes.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                self.bytes.push(masked | 127);
                self.bytes.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        if self.side == Side::Client {
            // A mask of zeros costs the generator nothing, and the server as much as any other mask.
            self.bytes.extend_from_slice(&[0; 4]);
        }
        self.bytes.extend_from_slice(payload);
    }
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    /// The socket, which the caller registers for readiness.
    pub stream: TcpStream,
    /// The bytes that are to be written.
    pub outbox: Outbox,
    /// The beginning of an incomplete message.
    rest: Vec<u8>,
    upgraded: bool,
    /// How many bytes may be written before the upgrade is answered: published servers refuse a client that does not
    /// wait for their answer.
    asked: usize,
}

impl Link {
    /// Connects and sends the upgrade request.
    ///
    /// # Errors The connection is refused.
    pub fn connect(address: SocketAddr) -> Result<Link, Fault> {
        let stream = std::net::TcpStream::connect(address)?;
        let mut link = Link::new(stream, Side::Client)?;
        let asked = format!(
            "GET /arcp HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        link.outbox.bytes.extend_from_slice(asked.as_bytes());
        link.asked = asked.len();
        Ok(link)
    }

    /// The server's side of a connection that was accepted.
    ///
    /// # Errors
    /// The socket cannot be set up.
    pub fn accepted(stream: std::net::TcpStream) -> Result<Link, Fault> {
        Link::new(stream, Side::Server)
    }

    fn new(stream: std::net::TcpStream, side: Side) -> Result<Link, Fault> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let outbox = Outbox { bytes: Vec::new(), written: 0, side };
        Ok(Link { stream: TcpStream::from_std(stream), outbox, rest: Vec::new(), upgraded: false, asked: 0 })
    }

    /// Reads all that has arrived and passes each message to `each`.
    ///
    /// # Errors The connection failed or was closed, the bytes are no WebSocket, or `each` fails.
    pub fn receive(
        &mut self,
        scratch: &mut Scratch,
        mut each: impl FnMut(&mut Outbox, &[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        loop {
            let held = self.rest.len();
            if scratch.0.len() < 2 * held {
                scratch.0.resize(2 * held, 0);
            }
            scratch.0[..held].copy_from_slice(&self.rest);
            self.rest.clear();
            let (count, room) = match self.stream.read(&mut scratch.0[held..]) {
                Ok(0) => return Err(Fault::Closed),
                Ok(count) => (count, scratch.0.len() - held),
                Err(error) if error.kind() == ErrorKind::WouldBlock => (0, 1),
                Err(error) => return Err(error.into()),
            };
            let whole = self.take(&mut scratch.0[..held + count], &mut each)?;
            self.rest.extend_from_slice(&scratch.0[whole..held + count]);
            // The read did not fill the buffer: what comes later makes the socket ready again.
            if count < room {
                return Ok(());
            }
        }
    }

    /// Takes the complete messages from the front. Returns how many bytes they had.
    fn take(
        &mut self,
        bytes: &mut [u8],
        each: &mut impl FnMut(&mut Outbox, &[u8]) -> Result<(), Fault>,
    ) -> Result<usize, Fault> {
        let mut at = 0;
        if !self.upgraded {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(0) };
            self.upgrade(&bytes[..end])?;
            at = end + 4;
        }
        while let Some((head, payload)) = frame(&mut bytes[at..])? {
            let end = payload.end;
            let payload = &bytes[at..][payload];
            match head {
                0x81 | 0x82 => each(&mut self.outbox, payload)?,
                0x89 => self.outbox.push_frame(0x8a, payload),
                0x8a => {}
                0x88 => return Err(Fault::Closed),
                other => return Err(Fault::NoWebSocket(format!("a frame begins with {other:#04x}"))),
            }
            at += end;
        }
        Ok(at)
    }

    fn upgrade(&mut self, head: &[u8]) -> Result<(), Fault> {
        self.upgraded = true;
        let head = String::from_utf8_lossy(head);
        match self.outbox.side {
            Side::Client if head.starts_with("HTTP/1.1 101 ") && head.contains(ACCEPT) => Ok(()),
            Side::Server if head.contains(KEY) => {
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
                );
                self.outbox.bytes.extend_from_slice(answer.as_bytes());
                Ok(())
            }
            Side::Client | Side::Server => Err(Fault::NoWebSocket(head.into_owned())),
        }
    }

    /// Writes what waits, as far as the socket takes it.
    ///
    /// # Errors The connection failed.
    pub fn flush(&mut self) -> Result<(), Fault> {
        while !self.outbox.is_empty() {
            let may = if self.upgraded { self.outbox.bytes.len() } else { self.asked };
            if may == self.outbox.written {
                return Ok(());
            }
            match self.stream.write(&self.outbox.bytes[self.outbox.written..may]) {
                Ok(count) => self.outbox.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.outbox.written = 0;
        self.outbox.bytes.clear();
        // Ten thousand idle connections are to hold no buffers.
        self.outbox.bytes.shrink_to(1 << 20);
        Ok(())
    }
}

/// The frame at the front, unmasked: its first byte and the range of its payload; `None` until it is complete.
fn frame(bytes: &mut [u8]) -> Result<Option<(u8, std::ops::Range<usize>)>, Fault> {
    let [head, second, ..] = *bytes else { return Ok(None) };
    let (length, mut at) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(length) => (u64::from(u16::from_be_bytes([length[0], length[1]])), 4),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|length| length.try_into().ok()) {
            Some(length) => (u64::from_be_bytes(length), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if length > 64 << 20 {
        return Err(Fault::NoWebSocket(format!("a frame of {length} bytes")));
    }
    let mut mask = [0; 4];
    if second & 0x80 != 0 {
        match bytes.get(at..at + 4) {
            Some(sent) => mask.copy_from_slice(sent),
            None => return Ok(None),
        }
        at += 4;
    }
    let payload = at..at + length as usize;
    let Some(text) = bytes.get_mut(payload.clone()) else { return Ok(None) };
    if mask != [0; 4] {
        for (byte, key) in text.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= key;
        }
    }
    Ok(Some((head, payload)))
}

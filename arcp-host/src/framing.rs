//! Conversion between bytes and frames, in memory. Adapters use it between a transport and the
//! core.

mod beside;
#[cfg(feature = "websocket")]
mod websocket;

use arcp_proto::runtime::CloseReason;
use arcp_proto::wire::{Line, Lines};

pub use self::beside::{Beside, PLACE};
#[cfg(feature = "websocket")]
use self::websocket::WebSocket;

/// Something that the peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framed {
    /// One frame.
    Frame(Vec<u8>),
    /// A binary message of a WebSocket.
    Binary(Vec<u8>),
    /// A frame that was too long; its content is discarded. On a WebSocket nothing follows it.
    TooLong,
    /// The end of the connection, in order or by a fault of the peer. A pipe has no such end.
    End(String),
    /// The end of the connection, because a message of ours was too large for the peer.
    TooLarge(String),
}

/// The framing of one connection.
///
/// ```
/// use arcp_host::framing::{Framed, Framing};
/// let mut framing = Framing::lines(1024);
/// framing.feed(b"{}\n{\"a\"");
/// assert_eq!(framing.next_frame(), Some(Framed::Frame(b"{}".to_vec())));
/// assert_eq!(framing.next_frame(), None);
/// ```
#[derive(Debug)]
pub struct Framing(Kind);

#[derive(Debug)]
enum Kind {
    #[cfg(feature = "websocket")]
    WebSocket(Box<WebSocket>),
    Lines {
        /// Inbound bytes.
        lines: Lines,
        /// Outbound bytes.
        out: Vec<u8>,
        /// The place of binary messages, if they are possible.
        beside: Option<Beside>,
    },
}

impl Framing {
    /// One frame per line, each of at most `frame_bytes` bytes.
    pub fn lines(frame_bytes: usize) -> Framing {
        Framing(Kind::Lines { lines: Lines::new(frame_bytes), out: Vec::new(), beside: None })
    }

    /// One frame per line, with binary messages beside them. A [`PLACE`] marks the position of a
    /// binary message among the lines.
    pub fn lines_beside(frame_bytes: usize, beside: Beside) -> Framing {
        Framing(Kind::Lines { lines: Lines::new(frame_bytes), out: Vec::new(), beside: Some(beside) })
    }

    /// WebSocket messages of at most `frame_bytes` bytes, on the server's side, after the
    /// handshake.
    #[cfg(feature = "websocket")]
    pub fn websocket_server(frame_bytes: usize) -> Framing {
        Framing(Kind::WebSocket(Box::new(WebSocket::server(frame_bytes))))
    }

    /// WebSocket messages on the client's side.
    #[cfg(feature = "websocket")]
    pub fn websocket_client(frame_bytes: usize) -> Framing {
        Framing(Kind::WebSocket(Box::new(WebSocket::client(frame_bytes))))
    }

    /// Takes bytes from the transport.
    pub fn feed(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            #[cfg(feature = "websocket")]
            Kind::WebSocket(ws) => ws.feed(bytes),
            Kind::Lines { lines, .. } => lines.push(bytes),
        }
    }

    /// The next whole frame in what was fed.
    pub fn next_frame(&mut self) -> Option<Framed> {
        match &mut self.0 {
            #[cfg(feature = "websocket")]
            Kind::WebSocket(ws) => ws.next(),
            Kind::Lines { lines, beside, .. } => match lines.next_line()? {
                Line::Frame(frame) => match beside.as_ref().filter(|_| frame == [PLACE]) {
                    Some(beside) => Some(Framed::Binary(beside.take())),
                    None => Some(Framed::Frame(frame)),
                },
                Line::TooLong => Some(Framed::TooLong),
            },
        }
    }

    /// Adds a frame to the outbound bytes.
    pub fn write(&mut self, frame: &str) {
        match &mut self.0 {
            #[cfg(feature = "websocket")]
            Kind::WebSocket(ws) => ws.write(frame),
            Kind::Lines { out, .. } => {
                out.extend_from_slice(frame.as_bytes());
                out.push(b'\n');
            }
        }
    }

    /// Adds a binary message to the outbound bytes. Lines without a [`Beside`] have none: no peer
    /// agrees to binary messages there.
    pub fn write_binary(&mut self, message: Vec<u8>) {
        match &mut self.0 {
            #[cfg(feature = "websocket")]
            Kind::WebSocket(ws) => ws.write_binary(message),
            Kind::Lines { out, beside: Some(beside), .. } => {
                beside.queue(message);
                out.extend_from_slice(&[PLACE, b'\n']);
            }
            Kind::Lines { beside: None, .. } => debug_assert!(message.is_empty(), "a line is a frame"),
        }
    }

    /// Adds the goodbye of the framing, if it has one. Nothing may follow it.
    pub fn close(&mut self, reason: CloseReason) {
        match &mut self.0 {
            #[cfg(feature = "websocket")]
            Kind::WebSocket(ws) => ws.close(reason),
            Kind::Lines { .. } => _ = reason,
        }
    }

    /// Whether frames are lines. The reading side can then end by itself, while the peer still
    /// reads.
    #[cfg(feature = "websocket")]
    pub(crate) fn is_lines(&self) -> bool {
        matches!(self.0, Kind::Lines { .. })
    }

    /// Whether binary messages can follow frames.
    pub(crate) fn has_binary(&self) -> bool {
        match &self.0 {
            #[cfg(feature = "websocket")]
            Kind::WebSocket(_) => true,
            Kind::Lines { beside, .. } => beside.is_some(),
        }
    }

    /// The bytes to write; [`wrote`](Self::wrote) removes them.
    pub fn output(&mut self) -> &mut Vec<u8> {
        match &mut self.0 {
            #[cfg(feature = "websocket")]
            Kind::WebSocket(ws) => ws.output(),
            Kind::Lines { out, .. } => out,
        }
    }

    /// Removes what was written from the output.
    pub fn wrote(&mut self, bytes: usize) {
        match &mut self.0 {
            #[cfg(feature = "websocket")]
            Kind::WebSocket(ws) => ws.wrote(bytes),
            Kind::Lines { out, .. } => drop(out.drain(..bytes)),
        }
    }
}

/// Functions that only network peers need.
#[cfg(feature = "websocket")]
impl Framing {
    /// Accepts messages and lines of this size from this call on.
    pub fn take_up_to(&mut self, frame_bytes: usize) {
        match &mut self.0 {
            Kind::WebSocket(ws) => ws.take_up_to(frame_bytes),
            Kind::Lines { lines, beside, .. } => {
                lines.take_up_to(frame_bytes);
                beside.iter().for_each(Beside::open);
            }
        }
    }

    /// Sends messages in WebSocket frames of at most so many bytes.
    pub fn fragment(&mut self, bytes: usize) {
        if let Kind::WebSocket(ws) = &mut self.0 {
            ws.fragment(bytes);
        }
    }

    /// The number of received bytes that belong to an unfinished frame.
    pub fn partial(&self) -> usize {
        match &self.0 {
            Kind::WebSocket(ws) => ws.partial(),
            Kind::Lines { lines, beside, .. } => lines.partial() + beside.as_ref().map_or(0, Beside::came),
        }
    }

    /// The number of bytes of binary messages that were written beside lines since the last call.
    pub(crate) fn written_beside(&self) -> usize {
        match &self.0 {
            Kind::WebSocket(_) => 0,
            Kind::Lines { beside, .. } => beside.as_ref().map_or(0, Beside::written),
        }
    }

    /// Holds at most so many bytes of unwritten pongs.
    pub fn hold_pongs_up_to(&mut self, bytes: usize) {
        if let Kind::WebSocket(ws) = &mut self.0 {
            ws.hold_pongs_up_to(bytes);
        }
    }

    /// The bytes of unwritten pongs, and whether the newest one had to be held back.
    pub fn pongs(&self) -> (usize, bool) {
        match &self.0 {
            Kind::WebSocket(ws) => ws.pongs(),
            Kind::Lines { .. } => (0, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_told_and_the_next_one_is_read() {
        let mut framing = Framing::lines(8);
        framing.feed(b"{\"a\":1}\n{\"long\":1}\n{}\n");
        let frame = |text: &str| Some(Framed::Frame(text.as_bytes().to_vec()));
        assert_eq!(framing.next_frame(), frame(r#"{"a":1}"#));
        assert_eq!(framing.next_frame(), Some(Framed::TooLong));
        assert_eq!(framing.next_frame(), frame("{}"));
        assert_eq!(framing.next_frame(), None);
    }
}

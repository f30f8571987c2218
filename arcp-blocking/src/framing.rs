//! Bytes to frames and back, in memory.

#[cfg(feature = "websocket")]
mod websocket;

use arcp_proto::wire::{Line, Lines};

#[cfg(feature = "websocket")]
use self::websocket::WebSocket;

/// What the other side sent.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "websocket"), allow(dead_code, reason = "a pipe ends by itself"))]
pub(crate) enum Framed {
    /// One frame.
    Frame(Vec<u8>),
    /// One that was longer than what is taken; it is not kept. Nothing
    /// follows it on a WebSocket.
    TooLong,
    /// The end, in order or by a fault of the peer's.
    End(String),
    /// The end, because a message of ours was too large for the peer.
    TooLarge(String),
}

/// One connection's framing.
#[derive(Debug)]
pub(crate) enum Framing {
    /// WebSocket messages.
    #[cfg(feature = "websocket")]
    WebSocket(Box<WebSocket>),
    /// One frame a line.
    #[cfg_attr(not(feature = "stdio"), allow(dead_code, reason = "only programs speak lines"))]
    Lines {
        /// Inbound bytes.
        lines: Lines,
        /// Outbound bytes.
        out: Vec<u8>,
    },
}

impl Framing {
    #[cfg(feature = "stdio")]
    pub(crate) fn lines(frame_bytes: usize) -> Framing {
        Framing::Lines { lines: Lines::new(frame_bytes), out: Vec::new() }
    }

    /// Takes bytes from the transport.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        match self {
            #[cfg(feature = "websocket")]
            Framing::WebSocket(ws) => ws.feed(bytes),
            Framing::Lines { lines, .. } => lines.push(bytes),
        }
    }

    /// The next whole frame in what was fed.
    pub(crate) fn next(&mut self) -> Option<Framed> {
        match self {
            #[cfg(feature = "websocket")]
            Framing::WebSocket(ws) => ws.next(),
            Framing::Lines { lines, .. } => match lines.next_line()? {
                Line::Frame(frame) => Some(Framed::Frame(frame)),
                Line::TooLong => Some(Framed::TooLong),
            },
        }
    }

    /// Adds a frame to the outbound bytes.
    pub(crate) fn write(&mut self, frame: String) {
        match self {
            #[cfg(feature = "websocket")]
            Framing::WebSocket(ws) => ws.write(frame),
            Framing::Lines { out, .. } => {
                out.extend_from_slice(frame.as_bytes());
                out.push(b'\n');
            }
        }
    }

    /// Adds the goodbye of the framing, if it has one.
    pub(crate) fn say_goodbye(&mut self) {
        match self {
            #[cfg(feature = "websocket")]
            Framing::WebSocket(ws) => ws.say_goodbye(),
            Framing::Lines { .. } => {}
        }
    }

    /// Removes what was written from the output.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        match self {
            #[cfg(feature = "websocket")]
            Framing::WebSocket(ws) => ws.wrote(bytes),
            Framing::Lines { out, .. } => drop(out.drain(..bytes)),
        }
    }

    /// The bytes to write; [`wrote`](Self::wrote) removes them.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        match self {
            #[cfg(feature = "websocket")]
            Framing::WebSocket(ws) => ws.output(),
            Framing::Lines { out, .. } => out,
        }
    }
}

#[cfg(all(test, feature = "stdio"))]
mod tests {
    use super::*;

    #[test]
    fn b73_a_line_that_is_too_long_is_told_and_the_next_one_is_read() {
        let mut framing = Framing::lines(8);
        framing.feed(b"{\"a\":1}\n{\"long\":1}\n{}\n");
        let frame = |text: &str| Some(Framed::Frame(text.as_bytes().to_vec()));
        assert_eq!(framing.next(), frame(r#"{"a":1}"#));
        assert_eq!(framing.next(), Some(Framed::TooLong));
        assert_eq!(framing.next(), frame("{}"));
        assert_eq!(framing.next(), None);
    }
}

//! Bytes to frames and back, in memory. tungstenite has no split that is
//! safe to share, so its context works on two buffers instead of a socket.

use std::io::{self, Read, Write};

use arcp_proto::wire::frame::{Line, Lines};
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

/// What the other side sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framed {
    /// One frame.
    Frame(Vec<u8>),
    /// The end, in order or by a fault of the peer's.
    End(String),
}

/// One connection's framing.
#[derive(Debug)]
pub(crate) enum Framing {
    /// WebSocket messages.
    WebSocket(Box<WebSocket>),
    /// One frame a line.
    Lines {
        /// Inbound bytes.
        lines: Lines,
        /// Outbound bytes.
        out: Vec<u8>,
    },
}

#[derive(Debug)]
pub(crate) struct WebSocket {
    context: WebSocketContext,
    pipe: Pipe,
    closing: bool,
}

/// A duplex without another end: what is not there yet would block.
#[derive(Debug, Default)]
struct Pipe {
    input: Vec<u8>,
    read: usize,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = &self.input[self.read..];
        if left.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = left.len().min(buffer.len());
        buffer[..n].copy_from_slice(&left[..n]);
        self.read += n;
        if self.read == self.input.len() {
            // An idle connection holds no memory here.
            self.input = Vec::new();
            self.read = 0;
        }
        Ok(n)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Framing {
    pub(crate) fn websocket(role: Role, frame_bytes: usize) -> Framing {
        let config = WebSocketConfig::default()
            .read_buffer_size(4 << 10)
            .write_buffer_size(0)
            .max_write_buffer_size(64 << 20)
            .max_message_size(Some(frame_bytes))
            .max_frame_size(Some(frame_bytes));
        let context = WebSocketContext::new(role, Some(config));
        Framing::WebSocket(Box::new(WebSocket { context, pipe: Pipe::default(), closing: false }))
    }

    /// Takes frames of this size from now on.
    pub(crate) fn take_up_to(&mut self, frame_bytes: usize) {
        if let Framing::WebSocket(ws) = self {
            ws.context.set_config(|config| {
                config.max_message_size = Some(frame_bytes);
                config.max_frame_size = Some(frame_bytes);
            });
        }
    }

    pub(crate) fn lines(frame_bytes: usize) -> Framing {
        Framing::Lines { lines: Lines::new(frame_bytes), out: Vec::new() }
    }

    /// Takes bytes from the transport.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        match self {
            Framing::WebSocket(ws) => ws.pipe.input.extend_from_slice(bytes),
            Framing::Lines { lines, .. } => lines.push(bytes),
        }
    }

    /// The next whole frame in what was fed.
    pub(crate) fn next(&mut self) -> Option<Framed> {
        match self {
            Framing::WebSocket(ws) => ws.next(),
            Framing::Lines { lines, .. } => match lines.next_line()? {
                Line::Frame(frame) => Some(Framed::Frame(frame)),
                // The core answers what it cannot read.
                Line::TooLong => Some(Framed::Frame(b"a line that was too long".to_vec())),
            },
        }
    }

    /// Adds a frame to the outbound bytes.
    pub(crate) fn write(&mut self, frame: String) {
        match self {
            Framing::WebSocket(ws) => {
                // The pipe takes everything: only a closed context refuses.
                let _ = ws.context.write(&mut ws.pipe, Message::text(frame));
                let _ = ws.context.flush(&mut ws.pipe);
            }
            Framing::Lines { out, .. } => {
                out.extend_from_slice(frame.as_bytes());
                out.push(b'\n');
            }
        }
    }

    /// Adds the goodbye of the framing.
    pub(crate) fn close(&mut self, code: CloseCode, reason: &str) {
        if let Framing::WebSocket(ws) = self
            && !ws.closing
        {
            ws.closing = true;
            let frame = CloseFrame { code, reason: reason.to_string().into() };
            let _ = ws.context.close(&mut ws.pipe, Some(frame));
            let _ = ws.context.flush(&mut ws.pipe);
        }
    }

    /// The bytes to write; what was written is to be removed.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Framing::WebSocket(ws) => &mut ws.pipe.output,
            Framing::Lines { out, .. } => out,
        }
    }
}

impl WebSocket {
    fn next(&mut self) -> Option<Framed> {
        loop {
            match self.context.read(&mut self.pipe) {
                Ok(Message::Text(text)) => return Some(Framed::Frame(text.as_bytes().to_vec())),
                Ok(Message::Binary(bytes)) => return Some(Framed::Frame(bytes.to_vec())),
                Ok(Message::Close(_)) => {
                    self.closing = true;
                    let _ = self.context.flush(&mut self.pipe);
                    return Some(Framed::End("the peer closed the WebSocket".to_string()));
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                    let _ = self.context.flush(&mut self.pipe);
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    return Some(Framed::End("the WebSocket is closed".to_string()));
                }
                Err(error) => {
                    let (code, why) = fault(&error);
                    self.closing = true;
                    let frame = CloseFrame { code, reason: why.clone().into() };
                    let _ = self.context.close(&mut self.pipe, Some(frame));
                    let _ = self.context.flush(&mut self.pipe);
                    return Some(Framed::End(why));
                }
            }
        }
    }
}

/// The close code and the words for what a peer did wrong.
#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors, of which two have a code of their own")]
fn fault(error: &Error) -> (CloseCode, String) {
    match error {
        Error::Capacity(_) => (CloseCode::Size, "the message is too large".to_string()),
        Error::Utf8(_) => (CloseCode::Invalid, "a text message is not UTF-8".to_string()),
        other => {
            let mut why = format!("WebSocket: {other}");
            why.truncate(100);
            (CloseCode::Protocol, why)
        }
    }
}

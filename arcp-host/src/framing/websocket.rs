//! WebSocket messages. A tungstenite context works on two buffers in memory instead of a socket,
//! because it has no split that can be shared safely.

use std::io::{self, Read, Write};

use arcp_proto::runtime::CloseReason;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::Framed;

#[derive(Debug)]
pub(super) struct WebSocket {
    context: WebSocketContext,
    /// Whether outgoing frames are masked.
    masks: bool,
    pipe: Pipe,
    closing: bool,
    pongs: Pongs,
    /// The most bytes of a message in one WebSocket frame, if there is a bound.
    fragment_bytes: Option<usize>,
    /// Bytes of messages that have not arrived whole: after a message in fragments, up to
    /// [`READ_BYTES`] too many.
    partial: usize,
    /// Whether a message that was too long came; nothing after it is read.
    deaf: bool,
    /// Bytes that were last written when the output became empty: the next turn may have as many.
    burst: usize,
}

/// Answers to pings that are not written yet.
#[derive(Debug)]
struct Pongs {
    /// Their bytes in the output.
    bytes: usize,
    /// The position in the output at which the last of them ends.
    end: usize,
    /// The most bytes of them.
    most: usize,
    /// The answer to the newest ping, if there was no room for it.
    held: Option<Vec<u8>>,
}

/// The bound for bytes of unwritten pongs, unless another one is set.
const PONG_BYTES: usize = 4 << 10;

/// The bytes that tungstenite takes from its input at once, and keeps allocated.
const READ_BYTES: usize = 1 << 10;
/// The most room that the output reserves in advance: a slow reader keeps it allocated.
const BURST: usize = 64 << 10;

/// A duplex stream in memory: a read would block when the input is empty.
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

impl WebSocket {
    pub(super) fn server(frame_bytes: usize) -> WebSocket {
        WebSocket::new(Role::Server, frame_bytes)
    }

    pub(super) fn client(frame_bytes: usize) -> WebSocket {
        WebSocket::new(Role::Client, frame_bytes)
    }

    fn new(role: Role, frame_bytes: usize) -> WebSocket {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(64 << 20)
            .max_message_size(Some(frame_bytes))
            .max_frame_size(Some(frame_bytes));
        let context = WebSocketContext::new(role, Some(config));
        let pongs = Pongs { bytes: 0, end: 0, most: PONG_BYTES, held: None };
        let pipe = Pipe::default();
        let masks = role == Role::Client;
        let (closing, fragment_bytes, partial, deaf, burst) = (false, None, 0, false, 0);
        WebSocket { context, masks, pipe, closing, pongs, fragment_bytes, partial, deaf, burst }
    }

    pub(super) fn take_up_to(&mut self, frame_bytes: usize) {
        self.context.set_config(|config| {
            config.max_message_size = Some(frame_bytes);
            config.max_frame_size = Some(frame_bytes);
        });
    }

    pub(super) fn partial(&self) -> usize {
        self.partial
    }

    pub(super) fn fragment(&mut self, bytes: usize) {
        self.fragment_bytes = Some(bytes);
    }

    pub(super) fn hold_pongs_up_to(&mut self, bytes: usize) {
        self.pongs.most = bytes;
    }

    pub(super) fn pongs(&self) -> (usize, bool) {
        let held = self.pongs.held.as_ref().map_or(0, Vec::len);
        (self.pongs.bytes + held, held > 0)
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.deaf {
            return;
        }
        self.pipe.input.extend_from_slice(bytes);
        self.partial += bytes.len();
    }

    pub(super) fn write(&mut self, frame: &str) {
        match self.fragment_bytes {
            Some(most) if frame.len() > most => self.write_in_fragments(frame, most),
            _ => self.put(Data::Text, frame, true),
        }
    }

    pub(super) fn write_binary(&mut self, message: Vec<u8>) {
        match self.fragment_bytes {
            Some(most) if message.len() > most => {
                let last = message.len().div_ceil(most) - 1;
                for (at, fragment) in message.chunks(most).enumerate() {
                    let kind = if at == 0 { Data::Binary } else { Data::Continue };
                    self.put(kind, fragment, at == last);
                }
            }
            _ => self.put(Data::Binary, message, true),
        }
    }

    /// Writes a frame. An unmasked frame goes directly to the output: tungstenite would copy it
    /// twice, and keep a buffer of its size allocated.
    fn put(&mut self, kind: Data, payload: impl AsRef<[u8]> + Into<Vec<u8>>, is_final: bool) {
        let opcode = OpCode::Data(kind);
        if self.masks {
            // The pipe accepts everything, so only a closed context refuses.
            let frame = Frame::message(payload.into(), opcode, is_final);
            let _ = self.context.write(&mut self.pipe, Message::Frame(frame));
            let _ = self.context.flush(&mut self.pipe);
        } else if !self.closing {
            let header = FrameHeader { is_final, opcode, ..FrameHeader::default() };
            let (payload, output) = (payload.as_ref(), &mut self.pipe.output);
            let more = payload.len() + header.len(payload.len() as u64);
            // Reserves room for a whole turn, so that the buffer does not grow step by step.
            output.reserve(if output.capacity() == 0 { more.max(self.burst.next_power_of_two()) } else { more });
            // Writing to a vector cannot fail.
            let _ = header.format(payload.len() as u64, output);
            output.extend_from_slice(payload);
        }
    }

    pub(super) fn close(&mut self, reason: CloseReason) {
        if !self.closing {
            self.closing = true;
            let (code, reason) = goodbye(reason);
            let frame = CloseFrame { code, reason: reason.to_string().into() };
            let _ = self.context.close(&mut self.pipe, Some(frame));
            let _ = self.context.flush(&mut self.pipe);
        }
    }

    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.pipe.output
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        if bytes == self.pipe.output.len() {
            self.burst = bytes.min(BURST);
        }
        self.pipe.output.drain(..bytes);
        self.release_pongs(bytes);
    }

    pub(super) fn next(&mut self) -> Option<Framed> {
        if self.deaf {
            return None;
        }
        loop {
            match self.context.read(&mut self.pipe) {
                Ok(Message::Text(text)) => {
                    self.whole(text.len());
                    return Some(Framed::Frame(text.as_bytes().to_vec()));
                }
                Ok(Message::Binary(bytes)) => {
                    self.whole(bytes.len());
                    return Some(Framed::Binary(bytes.into()));
                }
                Ok(Message::Close(frame)) => {
                    self.closing = true;
                    let _ = self.context.flush(&mut self.pipe);
                    return Some(end(frame));
                }
                Ok(Message::Ping(payload)) => {
                    self.took(payload.len());
                    self.pong();
                }
                Ok(Message::Pong(payload)) => self.took(payload.len()),
                Ok(Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    return Some(Framed::End("the WebSocket is closed".to_string()));
                }
                Err(Error::Capacity(_)) => {
                    self.deaf = true;
                    // The connection holds none of the message while the goodbye is sent.
                    (self.pipe.input, self.pipe.read, self.partial) = (Vec::new(), 0, 0);
                    return Some(Framed::TooLong);
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

    /// Notes that a message of so many bytes is complete.
    fn whole(&mut self, message: usize) {
        self.took(message);
        // A message in fragments had more headers than were counted.
        self.partial = self.partial.min(self.pipe.input.len() - self.pipe.read + READ_BYTES);
    }

    /// Counts a masked frame with this payload as read.
    fn took(&mut self, payload: usize) {
        let header = match payload {
            0..126 => 6,
            126..65_536 => 8,
            _ => 14,
        };
        self.partial = self.partial.saturating_sub(header + payload);
    }

    /// Cuts between characters: some readers decode each frame by itself.
    fn write_in_fragments(&mut self, message: &str, most: usize) {
        let (mut rest, mut kind) = (message, Data::Text);
        while !rest.is_empty() {
            let (fragment, after) = rest.split_at(rest.floor_char_boundary(most));
            self.put(kind, fragment, after.is_empty());
            (rest, kind) = (after, Data::Continue);
        }
    }

    /// Answers the ping that was just read. While earlier pongs leave no room, only the newest ping
    /// is answered (RFC 6455 §5.5.3).
    fn pong(&mut self) {
        let at = self.pipe.output.len();
        let _ = self.context.flush(&mut self.pipe);
        let bytes = self.pipe.output.len() - at;
        let full = self.pongs.bytes > 0 && self.pongs.bytes + bytes > self.pongs.most;
        if full || self.pongs.held.is_some() {
            self.pongs.held = Some(self.pipe.output.split_off(at));
        } else {
            self.pongs.bytes += bytes;
            self.pongs.end = self.pipe.output.len();
        }
    }

    /// Adds a pong that was held back once the others are written.
    fn release_pongs(&mut self, bytes: usize) {
        self.pongs.end = self.pongs.end.saturating_sub(bytes);
        if self.pongs.end > 0 {
            return;
        }
        self.pongs.bytes = 0;
        // Nothing may follow a close.
        if let Some(pong) = self.pongs.held.take().filter(|_| !self.closing) {
            self.pongs.bytes = pong.len();
            self.pipe.output.extend(pong);
            self.pongs.end = self.pipe.output.len();
        }
    }
}

/// Every close is clean and has a reason.
fn goodbye(reason: CloseReason) -> (CloseCode, &'static str) {
    match reason {
        CloseReason::Goodbye => (CloseCode::Normal, "goodbye"),
        CloseReason::Refused => (CloseCode::Normal, "refused"),
        CloseReason::HandshakeTimeout => (CloseCode::Normal, "no session was opened in time"),
        CloseReason::HeartbeatLost => (CloseCode::Normal, "heartbeat lost"),
        CloseReason::Evicted => (CloseCode::Normal, "the session was taken back"),
        CloseReason::TakenOver => (CloseCode::Normal, "resumed on another connection"),
        CloseReason::SlowReader => (CloseCode::Policy, "reading too slowly"),
        CloseReason::Flood => (CloseCode::Policy, "asking faster than reading"),
        CloseReason::TooMany => (CloseCode::Again, "too many connections"),
        CloseReason::HistoryLost => (CloseCode::Error, "history is no longer kept"),
        CloseReason::StoreFailed => (CloseCode::Again, "history cannot be read now"),
        CloseReason::Shutdown => (CloseCode::Away, "shutting down"),
        CloseReason::TooLong => (CloseCode::Size, "a message was too long"),
    }
}

/// The end that a peer's close frame means.
fn end(frame: Option<CloseFrame>) -> Framed {
    match frame {
        Some(CloseFrame { code: CloseCode::Size, reason }) => Framed::TooLarge(format!("closed with 1009: {reason}")),
        Some(CloseFrame { code, reason }) if !reason.is_empty() => {
            Framed::End(format!("the peer closed the WebSocket with {}: {reason}", u16::from(code)))
        }
        Some(_) | None => Framed::End("the peer closed the WebSocket".to_string()),
    }
}

/// The close code and the text for a fault of the peer.
#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors, of which one has a code of its own")]
fn fault(error: &Error) -> (CloseCode, String) {
    match error {
        Error::Utf8(_) => (CloseCode::Invalid, "a text message is not UTF-8".to_string()),
        other => {
            let mut why = format!("WebSocket: {other}");
            why.truncate(100);
            (CloseCode::Protocol, why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Framing;
    use super::*;

    fn ping(n: u8) -> Vec<u8> {
        vec![0x89, 0x81, 0, 0, 0, 0, n]
    }

    fn pong(n: u8) -> Vec<u8> {
        vec![0x8a, 1, n]
    }

    /// A framing that has received these pings and has room for two pongs.
    fn pinged(pings: std::ops::Range<u8>) -> Framing {
        let mut framing = Framing::websocket_server(1024);
        framing.hold_pongs_up_to(6);
        pings.for_each(|n| framing.feed(&ping(n)));
        assert_eq!(framing.next_frame(), None);
        framing
    }

    #[test]
    fn pings_beyond_the_room_are_answered_by_the_newest_pong() {
        let mut framing = pinged(0..100);
        assert_eq!(*framing.output(), [pong(0), pong(1)].concat());
        assert_eq!(framing.pongs(), (9, true));
        framing.wrote(4);
        assert_eq!(framing.output()[..], pong(1)[1..], "the newest waits until those before it are written");
        framing.wrote(2);
        assert_eq!(*framing.output(), pong(99));
        framing.wrote(3);
        assert_eq!((framing.output().len(), framing.pongs()), (0, (0, false)));
    }

    #[test]
    fn a_pong_leaves_although_frames_follow_without_end() {
        let mut framing = pinged(0..3);
        framing.write("frame");
        framing.wrote(6);
        framing.write("frame");
        assert!(framing.output().ends_with(b"\x81\x05frame"));
        assert!(framing.output().windows(3).any(|bytes| bytes == pong(2)));
    }

    #[test]
    fn what_is_of_no_whole_message_is_counted() {
        let mut framing = pinged(0..3);
        assert_eq!(framing.partial(), 0);
        let whole = [&[0x81, 0x85, 0, 0, 0, 0][..], b"frame"].concat();
        framing.feed(&[&whole[..], &whole[..7]].concat());
        assert_eq!(framing.next_frame(), Some(Framed::Frame(b"frame".to_vec())));
        assert_eq!((framing.next_frame(), framing.partial()), (None, 7));
        framing.feed(&whole[7..]);
        assert_eq!(framing.next_frame(), Some(Framed::Frame(b"frame".to_vec())));
        assert_eq!((framing.next_frame(), framing.partial()), (None, 0));
        // A fragment, and a ping between it and the next.
        framing.feed(&[&[0x01, 0x85, 0, 0, 0, 0][..], b"frame", &ping(9)].concat());
        assert_eq!((framing.next_frame(), framing.partial()), (None, 11));
    }

    #[test]
    fn what_is_left_of_a_message_is_counted_however_long_the_head_of_the_one_before_is() {
        let head = |length: usize| match length {
            0..126 => vec![0x81, 0x80 | length as u8],
            126..65_536 => [&[0x81, 0xfe][..], &(length as u16).to_be_bytes()].concat(),
            _ => [&[0x81, 0xff][..], &(length as u64).to_be_bytes()].concat(),
        };
        for length in [0, 125, 126, 65_535, 65_536] {
            let mut framing = Framing::websocket_server(100_000);
            let message = [head(length), vec![0; 4], vec![b'a'; length]].concat();
            framing.feed(&[&message[..], &[0x81, 0x85, 0, 0, 0, 0, b'f']].concat());
            assert_eq!(framing.next_frame(), Some(Framed::Frame(vec![b'a'; length])));
            assert_eq!((framing.next_frame(), framing.partial()), (None, 7), "after one of {length} bytes");
        }
    }

    #[test]
    fn nothing_is_held_of_a_message_that_is_too_long() {
        let mut server = WebSocket::server(1000);
        server.feed(&[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        server.feed(&[b'x'; 60_000]);
        assert_eq!(server.next(), Some(Framed::TooLong));
        server.feed(&[b'x'; 5000]);
        assert_eq!((server.next(), server.partial(), server.pipe.input.capacity()), (None, 0, 0));
    }

    #[test]
    fn no_pong_follows_a_close() {
        let mut framing = pinged(0..3);
        framing.close(CloseReason::Goodbye);
        let bytes = framing.output().len();
        framing.wrote(bytes);
        assert!(framing.output().is_empty());
    }
}

//! One connection of a server, from the first byte of its request to the last byte of the goodbye.

use std::io::{self, Write as _};
use std::time::Instant;

use arcp_proto::id::ConnId;

use super::Socket;
use super::channel::Channel;
use super::origin::Origin;
use crate::driver::WriteWindow;
use crate::framing::Framing;

/// An empty output buffer keeps at most this capacity, in bytes.
const KEPT_OUTPUT: usize = 512;

pub(super) struct Connection<S> {
    pub(super) socket: Channel<S>,
    /// Whether its TLS handshake is not yet done.
    pub(super) handshaking: bool,
    pub(super) from: Origin,
    pub(super) stage: Stage,
    pub(super) phase: Phase,
    pub(super) writable: bool,
    pub(super) paused: bool,
    /// The time at which the pause began.
    pub(super) paused_at: Option<Instant>,
    /// Whether bytes came while it was paused.
    pub(super) unread: bool,
    pub(super) window: WriteWindow,
    pub(super) deadline: Option<Instant>,
    /// The carrier of this connection, if it is a stream.
    pub(super) carrier: Option<ConnId>,
    /// Whether its peer has had a session on it.
    pub(super) proved: bool,
}

pub(super) enum Stage {
    /// An HTTP request head, as far as it has come, and the response.
    Http { head: Vec<u8>, out: Vec<u8> },
    /// A connection that the core knows.
    Open(Framing),
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is read and written.
    Open,
    /// The peer sends nothing more; answers that it is owed are still sent.
    Ended,
    /// The remaining output is written; input is discarded.
    Goodbye,
    /// Everything is written and our side is shut down; the peer has yet to close.
    Shut,
}

impl<S: Socket> Connection<S> {
    pub(super) fn new(socket: Channel<S>, from: Origin, stage: Stage) -> Connection<S> {
        Connection {
            handshaking: socket.is_handshaking(),
            socket,
            from,
            stage,
            phase: Phase::Open,
            writable: true,
            paused: false,
            paused_at: None,
            unread: false,
            window: WriteWindow::default(),
            deadline: None,
            carrier: None,
            proved: false,
        }
    }

    /// The framing; `None` before the request was answered.
    pub(super) fn framing(&mut self) -> Option<&mut Framing> {
        match &mut self.stage {
            Stage::Http { .. } => None,
            Stage::Open(framing) => Some(framing),
        }
    }

    /// Whether the core knows the connection, or knew it until the goodbye.
    pub(super) fn is_known(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// Whether a peer that has ended its side may still read. That is so for lines: a pipe has two
    /// ends, and the last output is still written.
    pub(super) fn may_write_on(&mut self) -> bool {
        let written = self.is_written();
        match (&self.stage, self.phase) {
            (Stage::Open(framing), Phase::Open | Phase::Ended) => framing.is_lines(),
            (Stage::Open(framing), Phase::Goodbye) => framing.is_lines() && !written,
            (Stage::Http { .. }, Phase::Open | Phase::Ended | Phase::Goodbye | Phase::Shut)
            | (Stage::Open(_), Phase::Shut) => false,
        }
    }

    pub(super) fn output(&mut self) -> &mut Vec<u8> {
        match &mut self.stage {
            Stage::Http { out, .. } => out,
            Stage::Open(framing) => framing.output(),
        }
    }

    pub(super) fn is_written(&mut self) -> bool {
        self.output().is_empty()
    }

    /// The bytes of unwritten pongs, and whether one had to be held back.
    pub(super) fn pongs(&self) -> (usize, bool) {
        match &self.stage {
            Stage::Http { .. } => (0, false),
            Stage::Open(framing) => framing.pongs(),
        }
    }

    /// Writes as much as the socket takes; returns the number of bytes.
    pub(super) fn write(&mut self) -> io::Result<usize> {
        let mut written = 0;
        while self.writable && !self.is_written() {
            let out = match &mut self.stage {
                Stage::Http { out, .. } => out,
                Stage::Open(framing) => framing.output(),
            };
            match self.socket.write(out) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    written += n;
                    self.wrote(n);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if let Stage::Open(framing) = &self.stage {
            written += framing.written_beside();
        }
        match self.socket.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let out = self.output();
        if out.is_empty() && out.capacity() > KEPT_OUTPUT {
            // An idle connection holds no memory for output.
            *out = Vec::new();
        }
        Ok(written)
    }

    fn wrote(&mut self, bytes: usize) {
        match &mut self.stage {
            Stage::Http { out, .. } => drop(out.drain(..bytes)),
            Stage::Open(framing) => framing.wrote(bytes),
        }
    }
}

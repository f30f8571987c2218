//! TLS over a non-blocking socket.

use std::io::{self, Read, Write};

use rustls::ServerConnection;

use super::certificates::Shown;
use super::clients::Certified;
use crate::server::Socket;

/// The first byte of a TLS connection: a handshake record.
const HANDSHAKE: u8 = 22;
/// The answer to a peer that begins with anything else.
const CLEARTEXT: &str = "this port takes TLS: use wss:// or https://";

/// The server's end of a TLS connection. The handshake proceeds while reading.
pub(crate) struct TlsChannel<S> {
    session: ServerConnection,
    socket: S,
    begun: bool,
}

impl<S: Socket> TlsChannel<S> {
    pub(crate) fn new(shown: &Shown, socket: S) -> io::Result<TlsChannel<S>> {
        let session = ServerConnection::new(shown.config.clone()).map_err(io::Error::other)?;
        Ok(TlsChannel { session, socket, begun: false })
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// What the client's certificate proves, if it has one that is accepted at present.
    pub(crate) fn certified(&self, shown: &Shown) -> Option<Certified> {
        shown.certified(self.session.peer_certificates()?)
    }

    /// Whether the client's certificate proved a principal before, and proves another one or none
    /// at present.
    pub(crate) fn has_changed(&self, before: &Shown, now: &Shown) -> bool {
        self.session.peer_certificates().is_some_and(|shown| now.has_changed(before, shown))
    }

    /// Reads from the socket; returns the number of bytes.
    fn take(&mut self) -> io::Result<usize> {
        let n = if self.begun {
            self.session.read_tls(&mut self.socket)?
        } else {
            let mut first = [0];
            let n = self.socket.read(&mut first)?;
            if n == 1 && first[0] != HANDSHAKE {
                return Err(self.refuse_cleartext());
            }
            self.begun = true;
            self.session.read_tls(&mut &first[..n])?
        };
        if let Err(error) = self.session.process_new_packets() {
            // The peer is told what it did wrong, if the socket takes that at once.
            let _ = self.push();
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        match self.push() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(n),
        }
    }

    /// Answers a peer that sends cleartext, if the socket takes that at once.
    fn refuse_cleartext(&mut self) -> io::Error {
        let answer = crate::http::response(400, "Bad Request", CLEARTEXT);
        let _ = self.socket.write(answer.as_bytes());
        let _ = self.socket.shut_down();
        io::Error::new(io::ErrorKind::InvalidData, CLEARTEXT)
    }

    /// Writes the encrypted output.
    fn push(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(&mut self.socket)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.socket.flush()
    }
}

impl<S: Socket> Read for TlsChannel<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A peer that closes without a close_notify is gone too.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            if self.take()? == 0 && self.session.is_handshaking() {
                return Ok(0);
            }
        }
    }
}

impl<S: Socket> Write for TlsChannel<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push()?;
        let n = self.session.writer().write(bytes)?;
        match self.push() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(n),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }
}

impl<S: Socket> Socket for TlsChannel<S> {
    fn shut_down(&mut self) -> io::Result<()> {
        // Sent once, however often this is called.
        self.session.send_close_notify();
        self.push()?;
        self.socket.shut_down()
    }
}

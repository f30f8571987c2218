//! The client's side of TLS. One thread reads and another writes. They share the TLS session, and neither locks it
//! while it waits for the network.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arcp_host::client::{Security, Target};
use arcp_host::tls::config_for;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::websocket::{Channel, wait_until};

/// The most bytes of one read from the network.
const READ_BYTES: usize = 16 << 10;

/// How a server is verified.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// The TLS settings for a target; `None` if the target is without TLS.
    pub(super) fn to(target: &Target, security: &Security) -> io::Result<Option<Tls>> {
        let Target::WebSocket { host, tls: true, .. } = target else {
            return Ok(None);
        };
        let config = config_for(target, security).map_err(io::Error::other)?;
        let name = ServerName::try_from(host.clone())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("`{host}` is no name of a server")))?;
        Ok(Some(Tls { config, name }))
    }
}

/// Performs the handshake.
pub(super) fn open(tls: Option<&Tls>, mut socket: TcpStream, until: Instant) -> io::Result<Channel> {
    let tls = tls.ok_or(io::ErrorKind::Unsupported)?;
    let mut session = ClientConnection::new(tls.config.clone(), tls.name.clone()).map_err(io::Error::other)?;
    while session.is_handshaking() {
        wait_until(&socket, until)?;
        // At most one read in each turn, so that the deadline is checked before each.
        while session.wants_write() {
            session.write_tls(&mut socket)?;
        }
        if session.is_handshaking() && session.wants_read() {
            if session.read_tls(&mut socket)? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed during the TLS handshake"));
            }
            if let Err(error) = session.process_new_packets() {
                // The server is sent the alert.
                let _ = session.write_tls(&mut socket);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
    let session = Arc::new(Mutex::new(session));
    let reader = Reader { session: session.clone(), socket: socket.try_clone()?, came: Vec::new() };
    let writer = Writer { session, socket: socket.try_clone()? };
    Ok(Channel { reader: Box::new(reader), writer: Box::new(writer), socket, until })
}

struct Reader {
    session: Arc<Mutex<ClientConnection>>,
    socket: TcpStream,
    /// Bytes from the network that the TLS session has not taken.
    came: Vec<u8>,
}

struct Writer {
    session: Arc<Mutex<ClientConnection>>,
    socket: TcpStream,
}

/// If a thread panicked, the session is still usable or reports its own errors.
fn locked(session: &Mutex<ClientConnection>) -> MutexGuard<'_, ClientConnection> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    /// Returns decrypted bytes, if necessary after decrypting more of those that came; `None` if these are not enough.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let mut session = locked(&self.session);
        loop {
            match session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(Some),
            }
            if self.came.is_empty() {
                return Ok(None);
            }
            let taken = session.read_tls(&mut self.came.as_slice())?;
            self.came.drain(..taken);
            session.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(n) = self.take(buffer)? {
                return Ok(n);
            }
            let mut bytes = [0; READ_BYTES];
            let n = self.socket.read(&mut bytes)?;
            if n == 0 {
                return Ok(0);
            }
            self.came.extend_from_slice(&bytes[..n]);
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut encrypted = Vec::new();
        let mut session = locked(&self.session);
        let n = session.writer().write(bytes)?;
        while session.wants_write() {
            session.write_tls(&mut encrypted)?;
        }
        drop(session);
        self.socket.write_all(&encrypted)?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Drop for Writer {
    /// Tells the server that the stream ends here and was not cut off.
    fn drop(&mut self) {
        let mut session = locked(&self.session);
        session.send_close_notify();
        let _ = session.write_tls(&mut self.socket);
    }
}

//! TLS over a socket that does not wait.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use crate::server::Socket;

/// The first byte of a TLS connection: a record of a handshake.
const HANDSHAKE: u8 = 22;
/// How often the socket is read for one read of ours: records may be many, and have
/// nothing in them.
const TAKEN_AT_ONCE: usize = 16;
/// What is said to a peer that begins with anything else.
const CLEARTEXT: &str = "this port takes TLS: use wss:// or https://";

/// A server's end of a TLS connection. Its handshake is done by reading.
pub(crate) struct TlsChannel<S> {
    session: ServerConnection,
    socket: S,
    begun: bool,
}

impl<S: Socket> TlsChannel<S> {
    pub(crate) fn new(config: Arc<ServerConfig>, socket: S) -> io::Result<TlsChannel<S>> {
        let session = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(TlsChannel { session, socket, begun: false })
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Takes what came; gives how many bytes that were.
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
            // The peer is told what it did wrong, if it takes that at once.
            let _ = self.push();
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        match self.push() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(n),
        }
    }

    /// Somebody who asks in cleartext is told, if that is taken at once.
    fn refuse_cleartext(&mut self) -> io::Error {
        let answer = crate::http::response(400, "Bad Request", CLEARTEXT);
        let _ = self.socket.write(answer.as_bytes());
        let _ = self.socket.shut_down();
        io::Error::new(io::ErrorKind::InvalidData, CLEARTEXT)
    }

    /// Writes what is encrypted.
    fn push(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(&mut self.socket)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.socket.flush()
    }
}

/// A read that has taken its share and found nothing to give is `Interrupted`.
impl<S: Socket> Read for TlsChannel<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for _ in 0..TAKEN_AT_ONCE {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Who goes without a word of it has gone too.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            if self.take()? == 0 && self.session.is_handshaking() {
                return Ok(0);
            }
        }
        Err(io::ErrorKind::Interrupted.into())
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
        // Said once, however often this is asked.
        self.session.send_close_notify();
        self.push()?;
        self.socket.shut_down()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use rustls::crypto::cipher::{MessageEncrypter, OutboundPlainMessage};
    use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
    use rustls::version::TLS13;
    use rustls::{
        ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion, RootCertStore,
        SupportedCipherSuite,
    };

    use super::*;
    use crate::tls::provider;

    /// A socket in memory, whose peer may send records without an end.
    #[derive(Default)]
    struct Pipe {
        coming: VecDeque<u8>,
        sent: Vec<u8>,
        endless: Option<(Box<dyn MessageEncrypter>, u64)>,
        reads: usize,
    }

    impl Read for Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.reads += 1;
            assert!(self.reads < 10_000, "it is read without an end");
            while let Some((encrypter, seq)) = self.endless.as_mut().filter(|_| self.coming.len() < buffer.len()) {
                let nothing = OutboundPlainMessage {
                    typ: ContentType::ApplicationData,
                    version: ProtocolVersion::TLSv1_2,
                    payload: (&[][..]).into(),
                };
                self.coming.extend(encrypter.encrypt(nothing, *seq).expect("encrypted").encode());
                *seq += 1;
            }
            if self.coming.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.coming.read(buffer) }
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.sent.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Socket for Pipe {
        fn shut_down(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_peer_whose_records_have_nothing_in_them_has_its_turn_and_no_more() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let server = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let server = server.expect("versions").with_no_client_auth();
        let server = server.with_single_cert(vec![certificate.clone()], key.into()).expect("a pair");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a root");
        let client = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let mut client = client.expect("a version").with_root_certificates(roots).with_no_client_auth();
        client.enable_secret_extraction = true;
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(Arc::new(client), name).expect("a client");
        let mut channel = TlsChannel::new(Arc::new(server), Pipe::default()).expect("a server");
        while client.is_handshaking() || channel.is_handshaking() {
            client.write_tls(&mut channel.socket.coming).expect("written");
            let read = channel.read(&mut [0; 64]).expect_err("nothing to read");
            assert_eq!(read.kind(), io::ErrorKind::WouldBlock);
            client.read_tls(&mut &std::mem::take(&mut channel.socket.sent)[..]).expect("read");
            client.process_new_packets().expect("it goes on");
        }
        let Some(SupportedCipherSuite::Tls13(suite)) = client.negotiated_cipher_suite() else { panic!("TLS 1.3") };
        let (seq, secrets) = client.dangerous_extract_secrets().expect("secrets").tx;
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
        else {
            panic!("no other suite is there")
        };
        channel.socket.endless = Some((suite.aead_alg.encrypter(key, iv), seq));
        let read = channel.read(&mut [0; 64]).expect_err("nothing to read");
        assert_eq!(read.kind(), io::ErrorKind::Interrupted);
        let again = channel.read(&mut [0; 64]).expect_err("nothing to read");
        assert_eq!(again.kind(), io::ErrorKind::Interrupted);
    }
}

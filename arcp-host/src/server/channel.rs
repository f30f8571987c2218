//! The layer between a connection and its socket: nothing, or TLS.

use std::io::{self, Read, Write};

#[cfg(feature = "tls")]
use rustls::pki_types::CertificateDer;

use super::Socket;
#[cfg(feature = "tls")]
use crate::tls::{Certified, Shown, TlsChannel};

pub(super) enum Channel<S> {
    Clear(S),
    #[cfg(feature = "tls")]
    Tls(Box<TlsChannel<S>>),
    /// A stream of a carrier, with the certificates of its client.
    #[cfg(feature = "tls")]
    Carried(S, Vec<CertificateDer<'static>>),
}

impl<S: Socket> Channel<S> {
    /// Whether the TLS handshake has yet to be done before frames can be read.
    pub(super) fn is_handshaking(&self) -> bool {
        match self {
            Channel::Clear(_) => false,
            #[cfg(feature = "tls")]
            Channel::Tls(tls) => tls.is_handshaking(),
            #[cfg(feature = "tls")]
            Channel::Carried(..) => false,
        }
    }
}

#[cfg(feature = "tls")]
impl<S: Socket> Channel<S> {
    /// The principal that the client's certificate proves, if it is accepted at present.
    pub(super) fn certified(&self, shown: &Shown) -> Option<Certified> {
        match self {
            Channel::Clear(_) => None,
            Channel::Tls(tls) => tls.certified(shown),
            Channel::Carried(_, certificates) => shown.certified(certificates),
        }
    }

    /// Whether the client's certificate proves another principal, or none, since it was checked.
    pub(super) fn has_changed(&self, before: &Shown, now: &Shown) -> bool {
        match self {
            Channel::Clear(_) => false,
            Channel::Tls(tls) => tls.has_changed(before, now),
            Channel::Carried(_, certificates) => now.has_changed(before, certificates),
        }
    }
}

impl<S: Socket> Read for Channel<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Channel::Clear(socket) => socket.read(buffer),
            #[cfg(feature = "tls")]
            Channel::Tls(tls) => tls.read(buffer),
            #[cfg(feature = "tls")]
            Channel::Carried(socket, _) => socket.read(buffer),
        }
    }
}

impl<S: Socket> Write for Channel<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Channel::Clear(socket) => socket.write(bytes),
            #[cfg(feature = "tls")]
            Channel::Tls(tls) => tls.write(bytes),
            #[cfg(feature = "tls")]
            Channel::Carried(socket, _) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Channel::Clear(socket) => socket.flush(),
            #[cfg(feature = "tls")]
            Channel::Tls(tls) => tls.flush(),
            #[cfg(feature = "tls")]
            Channel::Carried(socket, _) => socket.flush(),
        }
    }
}

impl<S: Socket> Socket for Channel<S> {
    fn shut_down(&mut self) -> io::Result<()> {
        match self {
            Channel::Clear(socket) => socket.shut_down(),
            #[cfg(feature = "tls")]
            Channel::Tls(tls) => tls.shut_down(),
            #[cfg(feature = "tls")]
            Channel::Carried(socket, _) => socket.shut_down(),
        }
    }

    fn notes_what_follows(&self) -> bool {
        match self {
            Channel::Clear(socket) => socket.notes_what_follows(),
            // TLS may have read more from the socket than it has returned.
            #[cfg(feature = "tls")]
            Channel::Tls(_) => false,
            #[cfg(feature = "tls")]
            Channel::Carried(socket, _) => socket.notes_what_follows(),
        }
    }
}

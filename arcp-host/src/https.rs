//! An HTTPS client, by [`ureq`], with the TLS and the authorities of the other connections.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector,
    Transport, TransportAdapter,
};
use ureq::{Agent, Error};

use crate::client::Trust;
use crate::tls::{TlsError, client_config};

/// A client that gives up each request after `answer`. It follows no redirects, because these could
/// send secrets elsewhere. Servers at `https://` addresses are checked by `trust`; without it, all
/// requests are in cleartext. It reads files, so do not call it where waiting is not allowed.
///
/// # Errors
///
/// If a file cannot be read or used, or this machine has no list of authorities.
pub fn agent(answer: Duration, trust: Option<&Trust>) -> Result<Agent, TlsError> {
    let config = Agent::config_builder()
        .timeout_global(Some(answer))
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(concat!("arcp/", env!("CARGO_PKG_VERSION")))
        .build();
    let Some(trust) = trust else {
        return Ok(config.new_agent());
    };
    // The default connector of the library would use its own TLS first.
    let connector = ConnectProxyConnector::default().chain(TcpConnector::default());
    let connector = connector.chain(Tls(client_config(trust, None)?));
    Ok(Agent::with_parts(config, connector, DefaultResolver::default()))
}

/// Adds TLS to connections to `https://` addresses.
#[derive(Debug)]
struct Tls(Arc<ClientConfig>);

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Session>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let Some(plain) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() || plain.is_tls() {
            return Ok(Some(Either::A(plain)));
        }
        // An IPv6 address has brackets only in a URL.
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_string();
        let name = ServerName::try_from(host).map_err(|_| Error::Tls("its host is no name of a server"))?;
        let mut session = ClientConnection::new(self.0.clone(), name).map_err(io::Error::other)?;
        let mut socket = TransportAdapter::new(plain.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        session.complete_io(&mut socket)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Session { buffers, stream: StreamOwned::new(session, socket) })))
    }
}

/// A connection with TLS.
struct Session {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for Session {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let read = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

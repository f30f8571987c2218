//! QUIC: a session is the one bidirectional stream of a connection, with one frame per line. Unidirectional streams
//! carry binary messages beside the frames.

mod stream;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arcp_host::client::QUIC;
use arcp_host::framing::Beside;
use arcp_host::server::CarrierEnd;
use arcp_host::tls::{Certificates, Refusals};
use arcp_proto::limits::Limits;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    Connection, ConnectionError, Endpoint, EndpointConfig, IdleTimeout, Incoming, RecvStream, SendStream, ServerConfig,
    TransportConfig, VarInt,
};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{self, AlertDescription};

use crate::carrier::{Carrier, Ports, first};
use crate::server::Acceptor;

pub(crate) use self::stream::Sidecars;
use self::stream::{STREAMS, Stream};

/// The codes with which connections are closed.
const GOODBYE: VarInt = VarInt::from_u32(0);
const STOPPING: VarInt = VarInt::from_u32(1);
const TOO_MANY: VarInt = VarInt::from_u32(2);
const LATE: VarInt = VarInt::from_u32(3);

/// After this much silence, the peer counts as gone.
const IDLE: Duration = Duration::from_secs(60);
/// How long the end of a server waits until its peers were told.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often a client sends a packet to keep the connection alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The most unread bytes of a client's connection.
const CLIENT_WINDOW: u32 = 1 << 20;
/// The bound for bytes that are written and not acknowledged, as a multiple of the bound for unread bytes. They are
/// held until they are acknowledged, however long the path is.
const UNACKNOWLEDGED: u64 = 4;
/// The share of the handshakes of one network after which addresses must be validated first: one in this many.
const UNPROVED: usize = 4;
/// The most bytes of a connection that is not accepted yet.
const INCOMING_BYTES: u64 = 16 << 10;

/// The error codes of QUIC that are errors of TLS.
const CRYPTO: std::ops::Range<u64> = 0x100..0x200;

/// An endpoint that accepts connections.
pub(crate) fn endpoint(socket: UdpSocket, certificates: &Certificates, ports: &Ports) -> io::Result<Endpoint> {
    let config = config(certificates, &ports.limits)?;
    Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(quinn::TokioRuntime))
}

/// Serves an endpoint until the server has ended.
pub(crate) async fn serve(endpoint: Endpoint, certificates: Arc<Certificates>, acceptor: Acceptor) {
    let handshakes = Arc::<AtomicUsize>::default();
    let trusted = acceptor.ports.limits.connection.tls_handshakes_per_network / UNPROVED;
    while let Ok(Some(incoming)) = first(acceptor.ended(), endpoint.accept()).await {
        // Otherwise a sender with a forged address could use up the share of that address.
        if !incoming.remote_address_validated() && handshakes.load(Ordering::Relaxed) >= trusted {
            let _ = incoming.retry();
            continue;
        }
        // With the present certificates: they may have been read again.
        let Ok(config) = config(&certificates, &acceptor.ports.limits) else {
            incoming.refuse();
            continue;
        };
        let Some(carrier) = Carrier::admit(&acceptor, incoming.remote_address().ip(), true).await else {
            break;
        };
        handshakes.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(carry(incoming, config, carrier, handshakes.clone()));
    }
    endpoint.close(STOPPING, b"the server has ended");
}

/// Waits a bounded time until the last packets of all connections were sent.
pub(crate) async fn finish(endpoints: &[Endpoint]) {
    let all_idle = async {
        for endpoint in endpoints {
            endpoint.wait_idle().await;
        }
    };
    let _ = tokio::time::timeout(LAST_WORDS, all_idle).await;
}

fn config(certificates: &Certificates, limits: &Limits) -> io::Result<ServerConfig> {
    let crypto = QuicServerConfig::try_from(certificates.config_for(QUIC)).map_err(io::Error::other)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport(limits.stream.stream_bytes, 1, 0)))
        .max_incoming(limits.connection.tls_handshakes)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES * limits.connection.tls_handshakes as u64);
    Ok(config)
}

/// The windows of each stream, the number of streams and of sidecar streams; no datagrams.
fn transport(window: u32, streams: u32, sidecars: u32) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(streams.into())
        .max_concurrent_uni_streams(sidecars.into())
        .stream_receive_window(window.into())
        .receive_window((window * (1 + sidecars)).into())
        .send_window(u64::from(window) * UNACKNOWLEDGED)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE.as_millis() as u32))));
    config
}

async fn carry(incoming: Incoming, config: ServerConfig, mut carrier: Carrier, handshakes: Arc<AtomicUsize>) {
    let connecting = incoming.accept_with(Arc::new(config));
    let connected = match connecting {
        Ok(connecting) => carrier.unless_ended(connecting).await,
        Err(error) => Ok(Err(error)),
    };
    handshakes.fetch_sub(1, Ordering::Relaxed);
    if let Ok(Ok(connection)) = connected {
        carrier.is_secure().await;
        let shown = connection.peer_identity().and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
        let stream = carrier.unless_told(connection.accept_bi()).await;
        if let Ok(Ok((send, receive))) = stream {
            let beside = Beside::default();
            let sidecars = Sidecars::of_server(beside.clone(), &carrier.acceptor.ports.limits);
            let stream = Stream::new((send, receive), connection.clone(), sidecars, None);
            carrier.opened(stream, shown.map(|shown| *shown).unwrap_or_default(), Some(beside)).await;
            let _ = carrier.unless_ended(connection.closed()).await.map_err(|why| close(&connection, why));
        } else if let Err(why) = stream {
            close(&connection, why);
        }
    }
    carrier.gone().await;
}

fn close(connection: &Connection, why: CarrierEnd) {
    match why {
        CarrierEnd::Stopping => connection.close(STOPPING, b"the server has ended"),
        CarrierEnd::TooMany | CarrierEnd::Failed => {
            connection.close(TOO_MANY, b"too many connections without a session")
        }
        CarrierEnd::Late => connection.close(LATE, b"no stream or session was opened in time"),
    }
}

/// Opens a connection and its stream, within this time. An address that does not answer uses up only its share of the
/// time.
pub(crate) async fn dial(
    (host, port): (&str, u16),
    sidecars: Sidecars,
    tls: Arc<rustls::ClientConfig>,
    refusals: &Refusals,
    within: Duration,
) -> io::Result<Stream> {
    // End a little before `within`, so that the caller gets the reason and not its own timeout.
    let until = Instant::now() + within * 9 / 10;
    let crypto = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let mut transport = transport(CLIENT_WINDOW, 0, STREAMS);
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("`{host}` has no address"));
    for (left, address) in (1u32..=addresses.len() as u32).rev().zip(addresses) {
        let share = until.saturating_duration_since(Instant::now()) / left;
        let attempt = tokio::time::timeout(share, connect(host, address, config.clone(), refusals)).await;
        match attempt {
            Ok(Ok((streams, connection, endpoint))) => {
                return Ok(Stream::new(streams, connection, sidecars, Some(endpoint)));
            }
            Ok(Err(error)) => last = error,
            Err(_) => {
                let message = format!("nothing answers over QUIC at {address}");
                last = io::Error::new(io::ErrorKind::TimedOut, message);
            }
        }
    }
    Err(last)
}

async fn connect(
    host: &str,
    address: SocketAddr,
    config: quinn::ClientConfig,
    refusals: &Refusals,
) -> io::Result<((SendStream, RecvStream), Connection, Endpoint)> {
    let own: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = Endpoint::client(own)?;
    let connecting = endpoint.connect_with(config, address, host).map_err(io::Error::other)?;
    let connection = connecting.await.map_err(|error| failed(error, refusals))?;
    let streams = connection.open_bi().await.map_err(|error| failed(error, refusals))?;
    Ok((streams, connection, endpoint))
}

/// The error; if it comes from TLS, with the reason that TLS gives.
#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors, of which two are TLS's")]
fn failed(error: ConnectionError, refusals: &Refusals) -> io::Error {
    let error = match error {
        ConnectionError::TransportError(ours) if CRYPTO.contains(&u64::from(ours.code)) => {
            refusals.take().unwrap_or(rustls::Error::General(ours.reason))
        }
        ConnectionError::ConnectionClosed(theirs) if CRYPTO.contains(&u64::from(theirs.error_code)) => {
            let alert = u8::try_from(u64::from(theirs.error_code) - CRYPTO.start).unwrap_or_default();
            rustls::Error::AlertReceived(AlertDescription::from(alert))
        }
        other => return other.into(),
    };
    io::Error::new(io::ErrorKind::InvalidData, error)
}

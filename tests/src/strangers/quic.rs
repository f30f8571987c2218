//! Connections of QUIC that stop at some point.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arcp_blocking::Trust;
use arcp_host::client::QUIC;
use arcp_host::tls::client_config;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig};
use tokio::net::UdpSocket;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use super::{DRIBBLE, Dribble};
use crate::server::PATIENCE;

/// The runtime that drives all of them.
static DRIVEN: LazyLock<Handle> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
});

const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The time between two copies of the first packet.
const AGAIN: Duration = Duration::from_millis(500);
/// How far a peer goes in its handshake.
#[derive(Clone, Copy)]
pub(super) enum Handshake {
    /// To the middle of its first message.
    Half,
    /// Until it is answered; then it sends nothing more.
    Unanswered,
    /// To the end.
    Done,
}

/// Unknown protocol names, which make a handshake long, and the number of packets of half of it.
const FILLERS: u8 = 40;
const HALF: usize = 5;
/// The number of packets of a handshake that is not made longer.
const WHOLE: usize = 2;

pub(super) struct Held {
    ended: JoinHandle<ConnectionError>,
    /// Both directions: the server drops a peer that stops one of them.
    stream: Option<(SendStream, RecvStream)>,
    _endpoint: Endpoint,
    between: Vec<JoinHandle<()>>,
}

/// Connects to a server. What the peer sends goes into one stream, if it sends anything.
pub(super) fn come(
    handshake: Handshake,
    server: SocketAddr,
    certificate: &Path,
    says: impl Iterator<Item = Vec<u8>>,
) -> Held {
    DRIVEN.block_on(async {
        let endpoint = Endpoint::client(HERE).expect("a socket");
        let own = endpoint.local_addr().expect("an address");
        let (fillers, packets) = match handshake {
            Handshake::Half => (FILLERS, HALF),
            Handshake::Unanswered => (0, WHOLE),
            Handshake::Done => {
                let connecting = endpoint.connect_with(config(certificate, 0), server, "127.0.0.1");
                let connection = connecting.expect("a configuration").await.expect("a connection");
                let stream = say(&connection, says).await;
                let ended = tokio::spawn(async move { connection.closed().await });
                return Held { ended, stream, _endpoint: endpoint, between: Vec::new() };
            }
        };
        let (address, passed, between) = keep_apart(server, own, packets).await;
        let connecting = endpoint.connect_with(config(certificate, fillers), address, "127.0.0.1");
        let connecting = connecting.expect("a configuration");
        let ended = tokio::spawn(async {
            match connecting.await {
                Ok(connection) => connection.closed().await,
                Err(why) => why,
            }
        });
        passed.await.expect("it begins");
        Held { ended, stream: None, _endpoint: endpoint, between }
    })
}

fn config(certificate: &Path, fillers: u8) -> ClientConfig {
    let trusted = client_config(&Trust::Authorities(certificate.to_path_buf()), None).expect("a certificate");
    let mut trusted = Arc::unwrap_or_clone(trusted);
    trusted.alpn_protocols = (0..fillers).map(|n| vec![n; 200]).chain([QUIC.to_vec()]).collect();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(trusted).expect("a configuration")));
    let mut transport = TransportConfig::default();
    // The server is to end the connection, not the client's idle timeout.
    transport.max_idle_timeout(None);
    config.transport_config(Arc::new(transport));
    config
}

async fn say(connection: &Connection, says: impl Iterator<Item = Vec<u8>>) -> Option<(SendStream, RecvStream)> {
    let mut stream = None;
    for bytes in says.filter(|bytes| !bytes.is_empty()) {
        let (send, _) = match &mut stream {
            Some(stream) => stream,
            none => none.insert(connection.open_bi().await.expect("a stream")),
        };
        send.write_all(&bytes).await.expect("written");
    }
    stream
}

/// Forwards so many packets to a server, the first again and again, and all packets back. Returns the address for the
/// client, and a receiver that tells when they were forwarded.
async fn keep_apart(
    server: SocketAddr,
    client: SocketAddr,
    packets: usize,
) -> (SocketAddr, oneshot::Receiver<()>, Vec<JoinHandle<()>>) {
    let near = Arc::new(UdpSocket::bind(HERE).await.expect("a socket"));
    let far = Arc::new(UdpSocket::bind(HERE).await.expect("a socket"));
    far.connect(server).await.expect("an address");
    let (tell, passed) = oneshot::channel();
    let address = near.local_addr().expect("an address");
    let forth = {
        let (near, far) = (near.clone(), far.clone());
        async move {
            let (mut buffer, mut first) = ([0; 2048], Vec::new());
            for _ in 0..packets {
                let length = near.recv(&mut buffer).await.expect("a packet");
                let _ = far.send(&buffer[..length]).await;
                if first.is_empty() {
                    first.extend_from_slice(&buffer[..length]);
                }
            }
            let _ = tell.send(());
            let mut again = interval(AGAIN);
            loop {
                again.tick().await;
                let _ = far.send(&first).await;
            }
        }
    };
    let back = async move {
        let mut buffer = [0; 2048];
        loop {
            if let Ok(length) = far.recv(&mut buffer).await {
                let _ = near.send_to(&buffer[..length], client).await;
            }
        }
    };
    (address, passed, vec![tokio::spawn(forth), tokio::spawn(back)])
}

impl Held {
    /// Waits until the server has closed the connection.
    pub(super) fn ends(mut self, dribble: Option<Dribble>) {
        let (mut stream, mut times) = (self.stream.take(), 0);
        DRIVEN.block_on(async {
            for _ in 0..(2 * PATIENCE).as_millis() / DRIBBLE.as_millis() {
                if let Ok(ended) = timeout(DRIBBLE, &mut self.ended).await {
                    let why = ended.expect("no panic");
                    let by_server =
                        matches!(why, ConnectionError::ApplicationClosed(_) | ConnectionError::ConnectionClosed(_));
                    assert!(by_server, "it is closed by itself: {why}");
                    return;
                }
                if let Some((dribble, (send, _))) = dribble.zip(stream.as_mut()) {
                    // A closed connection is noticed next.
                    let _ = send.write_all(&dribble(times)).await;
                    times += 1;
                }
            }
            panic!("it is not closed");
        });
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.between.iter().for_each(JoinHandle::abort);
    }
}

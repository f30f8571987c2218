//! Streams of connections that carry others: TLS, HTTP/2 and QUIC.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use arcp_blocking::{Security, Target, Trust};
use arcp_host::client::QUIC;
use arcp_host::tls::{Certificates, client_config};
use arcp_tests::kept::Folder;
use arcp_tests::server::{PATIENCE, connect_to};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, split};
use tokio_rustls::TlsConnector;
use tungstenite::WebSocket;

use crate::site::{LISTEN, runtime};

/// A certificate in a folder, and how it is trusted.
pub fn certificates(folder: &Folder) -> (Arc<Certificates>, Security) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]).expect("a certificate");
    let (certificate, key) = (folder.0.join("cert.pem"), folder.0.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let certificates = Certificates::read(&certificate, &key).expect("a pair");
    (Arc::new(certificates), Security { trust: Trust::Authorities(certificate), ..Security::default() })
}

/// The bytes of a stream of a connection of its own.
pub fn stream(target: &Target, security: &Security) -> UnixStream {
    let (near, far) = UnixStream::pair().expect("a pair");
    far.set_nonblocking(true).expect("set");
    let (target, security) = (target.clone(), security.clone());
    std::thread::spawn(move || {
        runtime().block_on(async {
            let opened = arcp_tokio_adapter::open_lines(&target, &security, PATIENCE).await;
            let mut stream = Box::pin(opened.expect("a stream"));
            let mut far = tokio::net::UnixStream::from_std(far).expect("a stream");
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut far).await;
        });
    });
    near
}

/// A WebSocket over TLS, which somebody between does.
pub fn websocket_over_tls(address: SocketAddr, security: &Security) -> WebSocket<TcpStream> {
    let between = TcpListener::bind(LISTEN).expect("a port");
    let near = connect_to(between.local_addr().expect("an address"));
    let (far, _) = between.accept().expect("a connection");
    far.set_nonblocking(true).expect("set");
    let connector = TlsConnector::from(client_config(&security.trust, None).expect("a configuration"));
    std::thread::spawn(move || {
        runtime().block_on(async {
            let socket = tokio::net::TcpStream::connect(address).await.expect("a connection");
            let name = ServerName::from(address.ip());
            let mut secured = connector.connect(name, socket).await.expect("it is trusted");
            let mut far = tokio::net::TcpStream::from_std(far).expect("a stream");
            let _ = tokio::io::copy_bidirectional(&mut secured, &mut far).await;
        });
    });
    tungstenite::client(format!("ws://{address}/arcp"), near).expect("a WebSocket").0
}

/// A connection of QUIC by hand, which takes four streams for binary messages.
pub async fn quic(target: &Target, security: &Security) -> (Endpoint, Connection) {
    let mut config = client_config(&security.trust, None).expect("a configuration").as_ref().clone();
    config.alpn_protocols = vec![QUIC.to_vec()];
    let crypto = QuicClientConfig::try_from(config).expect("a configuration");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.max_concurrent_uni_streams(4u32.into());
    config.transport_config(Arc::new(transport));
    let (host, port) = target.address().expect("an address");
    let address = format!("{host}:{port}").parse().expect("an address");
    let endpoint = Endpoint::client(LISTEN).expect("a socket");
    let connection = endpoint.connect_with(config, address, "127.0.0.1").expect("a configuration");
    (endpoint, connection.await.expect("a connection"))
}

/// The same as [`stream`], where a binary message is a line of `+` and its bytes in hexadecimal.
pub fn stream_beside(target: &Target, security: &Security) -> UnixStream {
    let (near, far) = UnixStream::pair().expect("a pair");
    far.set_nonblocking(true).expect("set");
    let (target, security) = (target.clone(), security.clone());
    std::thread::spawn(move || {
        runtime().block_on(async {
            let (_endpoint, connection) = quic(&target, &security).await;
            let (send, receive) = connection.open_bi().await.expect("a stream");
            let (reader, writer) = split(tokio::net::UnixStream::from_std(far).expect("a stream"));
            tokio::select! {
                () = give(&connection, BufReader::new(reader), send) => {}
                () = take(&connection, BufReader::new(receive), writer) => {}
            }
        });
    });
    near
}

async fn give(connection: &Connection, mut from: impl tokio::io::AsyncBufRead + Unpin, mut to: SendStream) {
    let mut line = String::new();
    while from.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        match line.strip_prefix('+') {
            Some(hex) => {
                let _ = to.write_all(b"+\n").await;
                let mut beside = connection.open_uni().await.expect("a stream");
                let _ = beside.write_all(&bytes(hex.trim())).await;
                let _ = beside.finish();
            }
            None => drop(to.write_all(line.as_bytes()).await),
        }
        line.clear();
    }
    let _ = to.finish();
    std::future::pending().await
}

async fn take(connection: &Connection, mut from: BufReader<RecvStream>, mut to: impl tokio::io::AsyncWrite + Unpin) {
    let mut line = String::new();
    while from.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        if line == "+\n" {
            let mut beside = connection.accept_uni().await.expect("a stream");
            line = format!("+{}\n", hex(&beside.read_to_end(8 << 20).await.expect("it is whole")));
        }
        let _ = to.write_all(line.as_bytes()).await;
        line.clear();
    }
}

/// Bytes as a text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of such a text.
pub fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("digits")).collect()
}

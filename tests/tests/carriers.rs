//! Connections that carry sessions as streams, over HTTP/2 and QUIC: what a peer without a session can make a runtime
//! hold, how peers are identified, and what survives a change of network.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arcp_blocking::{HostError, Identity, Listen, Security, ServerConfig, ServerHandle, Stopped, Target, Trust};
use arcp_host::client::{ClientError, QUIC};
use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_host::store::MemoryStore;
use arcp_host::tls::{Certificates, ClientCertificates, KnownRuntimes, client_config};
use arcp_proto::client::{ClientConfig, SessionEnd};
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::{Credential, ListQuery};
use arcp_proto::runtime::{Config, Notice};
use arcp_proto::secret::Secret;
use arcp_tests::kept::Folder;
use arcp_tests::raw::hello_payload;
use arcp_tests::server::{PATIENCE, Running, submit};
use arcp_tests::until::until;
use arcp_tokio_adapter::{Client, Server, open_lines};
use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::Request;
use quinn::crypto::rustls::QuicClientConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::runtime::Runtime;

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// What a connection of HTTP/2 begins with, and settings without any.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A server with every port that carries sessions as streams; it stops with the value.
struct Site {
    h2c: SocketAddr,
    h2: SocketAddr,
    quic: SocketAddr,
    certificates: Arc<Certificates>,
    folder: Folder,
    handle: ServerHandle,
    notices: Receiver<Notice>,
    thread: Option<JoinHandle<Result<Stopped, HostError>>>,
}

impl Site {
    fn start(name: &str, change: impl FnOnce(&mut Config)) -> Site {
        Site::knowing(name, None, change)
    }

    /// One that knows clients by certificates of this authority.
    fn knowing(name: &str, authorities: Option<PathBuf>, change: impl FnOnce(&mut Config)) -> Site {
        let folder = Folder::new(name);
        renew(&folder);
        let (certificate, key) = (folder.0.join("cert.pem"), folder.0.join("key.pem"));
        let read = match authorities {
            None => Certificates::read(&certificate, &key),
            Some(authorities) => {
                let clients = ClientCertificates { authorities, revoked: None, names: None };
                Certificates::read_with_clients(&certificate, &key, clients)
            }
        };
        let certificates = Arc::new(read.expect("a pair"));
        let mut registry = Registry::default();
        samples::add_to(&mut registry);
        let (sender, notices) = channel();
        let host = Running::host_of(Box::<MemoryStore>::default(), registry, change);
        let host = host.observed_by(move |notice| drop(sender.send(notice.clone())));
        let listen = vec![
            Listen::Http2 { address: LISTEN, tls: false },
            Listen::Http2 { address: LISTEN, tls: true },
            Listen::Quic { address: LISTEN },
        ];
        let config = ServerConfig { tls: Some(certificates.clone()), listen, ..ServerConfig::new(LISTEN) };
        let (started, bound) = channel();
        let serve = async move {
            let server = Server::bind(&config, host).await.expect("it starts");
            let addresses: Vec<SocketAddr> = server.places().iter().filter_map(Listen::address).collect();
            started.send((addresses, server.handle())).expect("awaited");
            server.run().await
        };
        let thread = Some(std::thread::spawn(move || runtime().block_on(serve)));
        let (addresses, handle) = bound.recv().expect("it starts");
        let (h2c, h2, quic) = (addresses[0], addresses[1], addresses[2]);
        Site { h2c, h2, quic, certificates, folder, handle, notices, thread }
    }

    fn security(&self) -> Security {
        Security { trust: Trust::Authorities(self.folder.0.join("cert.pem")), ..Security::default() }
    }

    fn targets(&self) -> [Target; 3] {
        let urls = [format!("h2c://{}", self.h2c), format!("h2://{}", self.h2), format!("quic://{}", self.quic)];
        urls.map(|url| url.parse().expect("a URL"))
    }

    fn secure_targets(&self) -> [Target; 2] {
        let [_, h2, quic] = self.targets();
        [h2, quic]
    }

    /// A bare connection to the port without TLS.
    fn connect(&self) -> TcpStream {
        arcp_tests::server::connect_to(self.h2c)
    }

    fn wait_for(&self, found: impl Fn(&Notice) -> bool) {
        while !found(&self.notices.recv_timeout(PATIENCE).expect("it happens")) {}
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.handle.shutdown();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn renew(folder: &Folder) {
    let made =
        rcgen::generate_simple_self_signed(["127.0.0.1", "localhost"].map(str::to_string)).expect("a certificate");
    fs::write(folder.0.join("cert.pem"), made.cert.pem()).expect("written");
    fs::write(folder.0.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::new("test", "1", Credential::Bearer(Secret::new("tok-a".into())));
    config.give_up_after = Some(PATIENCE / 3);
    config
}

async fn client(target: Target, security: &Security) -> Result<Client, ClientError> {
    Client::connect_with(target, security, config()).await
}

async fn works(client: &Client) {
    let mut job = client.submit(submit("echo", "1")).await.expect("accepted");
    assert_eq!(job.wait().await.expect("an end").terminal.status, FinalStatus::Success);
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// The headers of a request for a session, each written out.
fn request() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let given = [(":path", "/arcp"), (":authority", "localhost"), ("content-type", "application/x-ndjson")];
    for (name, value) in given {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("it is short"));
            block.extend(text.bytes());
        }
    }
    block
}

/// What came until the end, frame by frame: kind, stream, payload. `None`: it did not
/// end.
fn frames(socket: &mut TcpStream) -> Option<Vec<(u8, u32, Vec<u8>)>> {
    let mut all = Vec::new();
    match socket.read_to_end(&mut all) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
        Ok(_) | Err(_) => {}
    }
    let (mut found, mut rest) = (Vec::new(), all.as_slice());
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        let stream = u32::from_be_bytes([rest[5], rest[6], rest[7], rest[8]]);
        let payload = rest.get(9..9 + length).unwrap_or_default();
        found.push((rest[3], stream, payload.to_vec()));
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    Some(found)
}

/// Why a connection was ended.
fn goaway(frames: &[(u8, u32, Vec<u8>)]) -> Option<u32> {
    let (_, _, payload) = frames.iter().rev().find(|(kind, _, _)| *kind == GOAWAY)?;
    Some(u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?))
}

const ENHANCE_YOUR_CALM: u32 = 11;

#[test]
fn who_stops_in_any_step_of_the_handshake_of_http2_is_closed_in_time() {
    let site = Site::start("carriers-stops", |config| {
        // Others come in meanwhile, and have as much time.
        config.timing.tls_handshake_timeout = Duration::from_secs(3);
        config.timing.handshake_timeout = Duration::from_secs(3);
    });
    let began = |bytes: &[u8]| {
        let mut socket = site.connect();
        socket.write_all(bytes).expect("written");
        socket
    };
    let headers = frame(HEADERS, 0, 1, &request());
    let open = frame(HEADERS, END_HEADERS, 1, &request());
    let mut stopped = vec![
        ("nothing", began(b"")),
        ("half a preface", began(&PREFACE[..10])),
        ("no settings", began(PREFACE)),
        ("no request", began(&[PREFACE, SETTINGS].concat())),
        ("half a request", began(&[PREFACE, SETTINGS, &headers].concat())),
        ("no session", began(&[PREFACE, SETTINGS, &open].concat())),
    ];
    let mut hello = arcp_tests::server::connect_to(site.h2);
    hello.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).expect("written");
    stopped.push(("a handshake of TLS", hello));
    stopped.push(("no handshake of TLS", arcp_tests::server::connect_to(site.h2)));
    runtime().block_on(async {
        for target in site.targets() {
            works(&client(target, &site.security()).await.expect("nobody waits for them")).await;
        }
    });
    for (what, mut socket) in stopped {
        assert!(frames(&mut socket).is_some(), "{what}: it is still there");
    }
}

#[test]
fn a_flood_of_headers_is_ended_long_before_it_is_held() {
    let site = Site::start("carriers-headers", |_| {});
    let mut socket = site.connect();
    socket.write_all(&[PREFACE, SETTINGS, &frame(HEADERS, 0, 1, &request())].concat()).expect("written");
    let part = frame(CONTINUATION, 0, 1, &[0; 8 << 10]);
    let mut written = 0;
    while socket.write_all(&part).is_ok() {
        written += part.len();
        assert!(written < 16 << 20, "so much was taken");
    }
    // One request with too many headers is answered.
    runtime().block_on(async {
        let (mut requests, _connection) = http2(&site).await;
        let mut asked = asked("POST", "/arcp");
        for n in 0..20 {
            let name: http::HeaderName = format!("x-{n}").parse().expect("a name");
            asked.headers_mut().insert(name, "x".repeat(1000).parse().expect("a value"));
        }
        let (response, _) = requests.send_request(asked, true).expect("sent");
        assert_eq!(response.await.expect("an answer").status(), 431);
    });
}

#[test]
fn streams_that_are_reset_as_soon_as_they_are_opened_end_their_connection() {
    let site = Site::start("carriers-reset", |_| {});
    let mut socket = site.connect();
    let mut all = [PREFACE, SETTINGS].concat();
    for n in 0..5000 {
        all.extend(frame(HEADERS, END_HEADERS, 2 * n + 1, &request()));
        all.extend(frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]));
    }
    let _ = socket.write_all(&all);
    let seen = frames(&mut socket).expect("an end");
    // Where it is cut the rest is perhaps lost.
    assert!(goaway(&seen).is_none_or(|why| why == ENHANCE_YOUR_CALM), "{:?}", goaway(&seen));
    runtime().block_on(async {
        let [target, ..] = site.targets();
        works(&client(target, &site.security()).await.expect("others come in")).await;
    });
}

#[test]
fn a_connection_whose_requests_come_to_no_session_is_ended() {
    let site = Site::start("carriers-failed", |config| config.limits.stream.failed_streams = 5);
    runtime().block_on(async {
        let (mut requests, connection) = http2(&site).await;
        for _ in 0..6 {
            requests = requests.ready().await.expect("ready");
            let (response, _) = requests.send_request(asked("POST", "/elsewhere"), true).expect("sent");
            assert_eq!(response.await.expect("an answer").status(), 404);
        }
        let ended = connection.await.expect("no panic").expect_err("it is told why");
        assert_eq!(ended.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM));
    });
}

#[test]
fn frames_that_carry_nothing_are_bounded_before_a_session_and_in_one() {
    let site = Site::start("carriers-empty", |config| config.limits.stream.empty_frames = 100);
    let hello = json!({"arcp": "1.1", "id": "h", "type": "session.hello", "payload": hello_payload("tok-a")});
    let open = [frame(HEADERS, END_HEADERS, 1, &request()), frame(0, 0, 1, format!("{hello}\n").as_bytes())].concat();
    for (what, empty) in [
        ("PING", frame(6, 0, 0, &[7; 8])),
        ("an answer to a PING", frame(6, 1, 0, &[7; 8])),
        ("SETTINGS", frame(4, 0, 0, &[])),
        ("PRIORITY", frame(2, 0, 3, &[0, 0, 0, 0, 9])),
        ("WINDOW_UPDATE", frame(8, 0, 0, &[0, 0, 0, 1])),
        ("DATA", frame(0, 0, 1, &[])),
        ("an unknown one", frame(99, 0, 0, b"x")),
    ] {
        let begun: &[&[u8]] = if what == "DATA" { &[&open] } else { &[b"", &open] };
        for begun in begun {
            let mut socket = site.connect();
            socket.write_all(&[PREFACE, SETTINGS, begun].concat()).expect("written");
            // Fewer are taken, and what is asked behind them is answered.
            socket.write_all(&[empty.repeat(90), frame(6, 0, 0, b"answered")].concat()).expect("written");
            while next_frame(&mut socket) != (6, 0, b"answered".to_vec()) {}
            let _ = socket.write_all(&empty.repeat(500));
            let seen = frames(&mut socket).unwrap_or_else(|| panic!("{what}: it goes on"));
            assert_eq!(goaway(&seen), Some(ENHANCE_YOUR_CALM), "{what}, {} bytes before it: {seen:?}", begun.len());
        }
    }
    // Who uses its connection gives back room as often as it has to.
    runtime().block_on(async {
        let [target, ..] = site.targets();
        let client = client(target, &site.security()).await.expect("it is let in");
        for _ in 0..60 {
            works(&client).await;
        }
    });
}

/// The next frame: kind, stream, payload.
fn next_frame(socket: &mut TcpStream) -> (u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    socket.read_exact(&mut head).expect("it goes on");
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    socket.read_exact(&mut payload).expect("it goes on");
    (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
}

#[test]
fn a_connection_carries_so_many_streams_and_each_counts_until_it_has_a_session() {
    let site = Site::start("carriers-streams", |config| {
        config.limits.stream.streams_per_connection = 3;
        config.limits.connection.handshaking_connections_per_network = 2;
    });
    let mut socket = site.connect();
    let streams = (0..4).map(|n| frame(HEADERS, END_HEADERS, 2 * n + 1, &request()));
    let all: Vec<u8> = [PREFACE, SETTINGS].concat().into_iter().chain(streams.flatten()).collect();
    socket.write_all(&all).expect("written");
    // Of the network's two places the third stream takes the first one's.
    let reset = |seen: &[(u8, u32, Vec<u8>)]| -> Vec<u32> {
        seen.iter().filter(|(kind, _, _)| *kind == RST_STREAM).map(|(_, stream, _)| *stream).collect()
    };
    let mut seen = Vec::new();
    while reset(&seen).len() < 2 {
        seen.push(next_frame(&mut socket));
    }
    let mut reset = reset(&seen);
    reset.sort_unstable();
    assert_eq!(reset, [1, 7]);
}

#[test]
fn a_stream_takes_the_place_of_its_own_connection_and_no_other() {
    let site = Site::start("carriers-one", |config| {
        config.limits.connection.handshaking_connections_per_network = 1;
    });
    for target in site.targets() {
        runtime().block_on(async {
            let client = client(target, &site.security()).await.expect("its only place is enough");
            works(&client).await;
        });
    }
}

#[test]
fn an_address_that_does_not_answer_over_quic_leaves_time_for_the_others_and_is_named() {
    let site = Site::start("carriers-dead", |_| {});
    let within = Duration::from_secs(4);
    let open = |url: String| {
        let target: Target = url.parse().expect("a URL");
        runtime().block_on(async { open_lines(&target, &site.security(), within).await.map(drop) })
    };
    let dead = UdpSocket::bind(LISTEN).expect("a port");
    let address = dead.local_addr().expect("an address");
    let error = open(format!("quic://{address}")).expect_err("nobody is there");
    assert_eq!(error.to_string(), format!("nothing answers over QUIC at {address}"));
    // Where this name has two addresses, nobody answers at the other.
    let _silent = UdpSocket::bind(("::1", site.quic.port()));
    open(format!("quic://localhost:{}", site.quic.port())).expect("it is at one of them");
}

/// A connection of HTTP/2 of our own.
async fn http2(site: &Site) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let socket = tokio::net::TcpStream::connect(site.h2c).await.expect("a connection");
    let (requests, connection) = h2::client::handshake(socket).await.expect("a handshake");
    (requests, tokio::spawn(connection))
}

fn asked(method: &str, path: &str) -> Request<()> {
    let request = Request::builder().method(method).uri(format!("http://localhost{path}"));
    request.header("content-type", "application/x-ndjson").body(()).expect("a request")
}

fn line(id: &str, kind: &str, payload: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"arcp": "1.1", "id": id, "type": kind, "payload": payload})))
}

/// A session on a stream.
async fn session(requests: &mut h2::client::SendRequest<Bytes>) -> (SendStream<Bytes>, RecvStream) {
    let (response, mut send) = requests.send_request(asked("POST", "/arcp"), false).expect("sent");
    let response = response.await.expect("an answer");
    assert_eq!(response.status(), 200);
    send.send_data(line("h", "session.hello", &hello_payload("tok-a")), false).expect("sent");
    (send, response.into_body())
}

/// The next bytes, with their room given back.
async fn next(body: &mut RecvStream) -> Option<Bytes> {
    let data = tokio::time::timeout(PATIENCE, body.data()).await.expect("in time")?.ok()?;
    let _ = body.flow_control().release_capacity(data.len());
    Some(data)
}

#[test]
fn several_sessions_share_a_connection_and_go_on_without_each_other() {
    let site = Site::start("carriers-share", |_| {});
    runtime().block_on(async {
        let (mut requests, connection) = http2(&site).await;
        let (mut first, mut second) = (session(&mut requests).await, session(&mut requests).await);
        for (_, body) in [&mut first, &mut second] {
            let welcome = next(body).await.expect("a welcome");
            assert!(String::from_utf8_lossy(&welcome).contains("session.welcome"));
        }
        drop(first);
        second.0.send_data(line("p", "session.ping", &json!({"nonce": "n"})), false).expect("sent");
        assert!(String::from_utf8_lossy(&next(&mut second.1).await.expect("a pong")).contains("session.pong"));
        // No more is taken when the server ends; what there is is told goodbye.
        site.handle.shutdown();
        while next(&mut second.1).await.is_some() {}
        drop((second, requests));
        connection.await.expect("no panic").expect("it ends in order");
    });
}

#[test]
fn a_request_that_is_whole_at_once_is_answered_whole() {
    let site = Site::start("carriers-whole", |_| {});
    runtime().block_on(async {
        let (mut requests, _connection) = http2(&site).await;
        let mut unknown = hello_payload("nobody");
        unknown["auth"]["token"] = json!("nobody");
        for (payload, told) in [(hello_payload("tok-a"), "session.welcome"), (unknown, "UNAUTHENTICATED")] {
            let (response, mut send) = requests.send_request(asked("POST", "/arcp"), false).expect("sent");
            send.send_data(line("h", "session.hello", &payload), true).expect("sent");
            let mut body = response.await.expect("an answer").into_body();
            let mut answered = String::new();
            while let Some(data) = next(&mut body).await {
                answered += &String::from_utf8_lossy(&data);
            }
            assert!(answered.contains(told), "{told}: {answered}");
        }
    });
}

#[test]
fn requests_that_are_none_for_a_session_are_answered_with_what_is_wrong() {
    let site = Site::start("carriers-requests", |_| {});
    runtime().block_on(async {
        let (mut requests, _connection) = http2(&site).await;
        let typed = |name: &'static str, value: &'static str| {
            let mut asked = asked("POST", "/arcp");
            asked.headers_mut().insert(name, http::HeaderValue::from_static(value));
            asked
        };
        let elsewhere = Request::post("http://evil.example/arcp").body(()).expect("a request");
        for (asked, expected) in [
            (asked("GET", "/arcp"), 405),
            (asked("POST", "/healthz"), 404),
            (typed("content-type", "application/json"), 415),
            (typed("origin", "https://evil.example"), 403),
            (elsewhere, 421),
        ] {
            let (response, _) = requests.send_request(asked, true).expect("sent");
            let response = response.await.expect("an answer");
            assert_eq!(response.status(), expected);
            assert_eq!(response.headers().get("allow").is_some(), expected == 405);
            let said = next(&mut response.into_body()).await.expect("a reason");
            assert!(said.ends_with(b"\n") && said.len() > 10, "{said:?}");
        }
    });
}

#[test]
fn who_does_not_read_its_answers_is_not_read() {
    let site = Site::start("carriers-room", |config| {
        config.limits.stream.stream_bytes = 16 << 10;
        config.limits.connection.replies_per_connection = 8;
        config.timing.slow_reader_grace = PATIENCE;
    });
    runtime().block_on(async {
        let (mut requests, _connection) = http2(&site).await;
        let (mut send, body) = session(&mut requests).await;
        let ping = line("p", "session.ping", &json!({"nonce": "n".repeat(200)}));
        let mut sent = 0;
        loop {
            send.reserve_capacity(ping.len());
            let room = std::future::poll_fn(|cx| send.poll_capacity(cx));
            // What is not given back in this time is not given back.
            let Ok(room) = tokio::time::timeout(Duration::from_secs(2), room).await else {
                break;
            };
            room.expect("it goes on").expect("it goes on");
            if send.capacity() >= ping.len() {
                send.send_data(ping.clone(), false).expect("sent");
                sent += ping.len();
            }
            assert!(sent < 4 << 20, "so much was taken");
        }
        drop(body);
    });
}

#[test]
fn who_reads_too_slowly_is_let_go_and_an_oversize_frame_is_refused() {
    let site = Site::start("carriers-slow", |config| {
        config.timing.slow_reader_grace = Duration::from_millis(300);
        config.limits.frame.frame_bytes = 80 << 10;
    });
    runtime().block_on(async {
        for target in site.targets() {
            let stream = arcp_tokio_adapter::open_lines(&target, &site.security(), PATIENCE).await.expect("a stream");
            let mut stream = BufReader::new(Box::pin(stream));
            let mut answer = String::new();
            stream.write_all(&line("h", "session.hello", &hello_payload("tok-a"))).await.expect("written");
            stream.read_line(&mut answer).await.expect("a welcome");
            answer.clear();
            stream.write_all(&[b'x'; 81 << 10]).await.expect("written");
            stream.read_line(&mut answer).await.expect("an answer");
            assert!(answer.contains("session.error") && answer.contains("81920"), "{answer}");
            let chatty = json!({"agent": "chatty", "input": {"count": 60, "kind": "log", "pad": 500_000}});
            stream.write_all(b"\n").await.expect("written");
            stream.write_all(&line("1", "job.submit", &chatty)).await.expect("written");
            while !answer.contains("job.accepted") {
                answer.clear();
                stream.read_line(&mut answer).await.expect("it goes on");
            }
            // Nothing of this client's is done meanwhile.
            site.wait_for(|notice| matches!(notice, Notice::SessionDetached { .. }));
        }
        // Before a session a line has less.
        for target in site.targets() {
            let stream = arcp_tokio_adapter::open_lines(&target, &site.security(), PATIENCE).await.expect("a stream");
            let mut stream = BufReader::new(Box::pin(stream));
            let _ = stream.write_all(&[b'x'; 66 << 10]).await;
            let mut answer = String::new();
            tokio::time::timeout(PATIENCE, stream.read_line(&mut answer)).await.expect("in time").expect("an answer");
            assert!(answer.contains("65536"), "{answer}");
        }
    });
}

/// An endpoint of QUIC of our own, and what it connects with.
fn endpoint(site: &Site, protocol: &[u8]) -> (quinn::Endpoint, quinn::ClientConfig) {
    let trust = Trust::Authorities(site.folder.0.join("cert.pem"));
    let mut config = client_config(&trust, None).expect("a configuration").as_ref().clone();
    config.alpn_protocols = vec![protocol.to_vec()];
    let crypto = QuicClientConfig::try_from(config).expect("a configuration");
    (quinn::Endpoint::client(LISTEN).expect("a socket"), quinn::ClientConfig::new(Arc::new(crypto)))
}

async fn connect(site: &Site) -> (quinn::Endpoint, quinn::Connection) {
    let (endpoint, config) = endpoint(site, QUIC);
    let connection = endpoint.connect_with(config, site.quic, "127.0.0.1").expect("a configuration");
    let connection = connection.await.expect("a connection");
    (endpoint, connection)
}

#[test]
fn a_session_over_quic_goes_on_from_another_port() {
    let site = Site::start("carriers-migration", |config| config.timing.heartbeat = None);
    runtime().block_on(async {
        let (endpoint, connection) = connect(&site).await;
        let (mut send, receive) = connection.open_bi().await.expect("a stream");
        let mut receive = BufReader::new(receive);
        let mut answer = String::new();
        send.write_all(&line("h", "session.hello", &hello_payload("tok-a"))).await.expect("written");
        receive.read_line(&mut answer).await.expect("a welcome");
        let before = endpoint.local_addr().expect("an address");
        for n in 0..3 {
            endpoint.rebind(UdpSocket::bind(LISTEN).expect("a port")).expect("rebound");
            let submit = json!({"agent": "chatty", "input": {"count": 200}});
            send.write_all(&line(&n.to_string(), "job.submit", &submit)).await.expect("written");
            let mut seen = 0;
            while !answer.contains("\"job.result\"") {
                answer.clear();
                let read = tokio::time::timeout(PATIENCE, receive.read_line(&mut answer)).await.expect("in time");
                assert!(read.expect("it goes on") > 0);
                seen += 1;
            }
            answer.clear();
            assert!(seen > 200, "{seen}");
        }
        assert_ne!(endpoint.local_addr().expect("an address"), before);
    });
    assert!(
        !site.notices.try_iter().any(|notice| matches!(notice, Notice::SessionDetached { .. })),
        "nothing was lost"
    );
}

#[test]
fn a_connection_of_quic_has_one_stream_in_time_and_nothing_else() {
    let site = Site::start("carriers-quic", |_| {});
    runtime().block_on(async {
        let (_silent, silent) = connect(&site).await;
        let (_endpoint, connection) = connect(&site).await;
        assert_eq!(connection.max_datagram_size(), None);
        let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
        let short = Duration::from_millis(300);
        tokio::time::timeout(short, connection.open_bi()).await.expect_err("one is there");
        tokio::time::timeout(short, connection.open_uni()).await.expect_err("none is taken");
        send.write_all(&line("h", "session.hello", &hello_payload("not a token"))).await.expect("written");
        let refused = receive.read_to_end(1 << 16).await.expect("an answer and an end");
        assert!(String::from_utf8_lossy(&refused).contains("UNAUTHENTICATED"));
        drop((send, receive));
        let code = |ended: quinn::ConnectionError| {
            let quinn::ConnectionError::ApplicationClosed(close) = ended else { panic!("{ended}") };
            u64::from(close.error_code)
        };
        let late = tokio::time::timeout(PATIENCE, silent.closed()).await.expect("in time");
        assert_eq!(code(late), 3);
        let (endpoint, config) = endpoint(&site, b"h3");
        let connection = endpoint.connect_with(config, site.quic, "127.0.0.1").expect("a configuration").await;
        assert!(connection.is_err(), "it speaks another protocol");
        // The server perhaps has not done the handshake.
        let (_endpoint, last) = connect(&site).await;
        site.handle.shutdown();
        assert_eq!(code(tokio::time::timeout(PATIENCE, last.closed()).await.expect("in time")), 1);
    });
}

#[test]
fn under_load_an_address_proves_itself_before_anything_is_held_for_it() {
    // A quarter of it, which is none.
    let site = Site::start("carriers-retry", |config| config.limits.connection.tls_handshakes_per_network = 3);
    let (server, relay) = (site.quic, UdpSocket::bind(LISTEN).expect("a port"));
    let address = relay.local_addr().expect("an address");
    let (sender, first) = channel();
    std::thread::spawn(move || {
        let (mut peer, mut buffer) = (None, [0; 2048]);
        while let Ok((n, from)) = relay.recv_from(&mut buffer) {
            if from == server {
                let _ = sender.send(buffer[0]);
                let _ = relay.send_to(&buffer[..n], peer.expect("it spoke first"));
            } else {
                peer = Some(from);
                let _ = relay.send_to(&buffer[..n], server);
            }
        }
    });
    runtime().block_on(async {
        let target = format!("quic://{address}").parse().expect("a URL");
        works(&client(target, &site.security()).await.expect("a session")).await;
    });
    assert_eq!(first.recv().expect("something") & 0xf0, 0xf0, "a Retry");
}

#[test]
fn handshakes_of_quic_that_stop_are_given_up_and_keep_nobody_waiting() {
    let site = Site::start("carriers-initial", |config| {
        config.timing.tls_handshake_timeout = Duration::from_secs(3);
        config.limits.connection.tls_handshakes_per_network = 16;
    });
    // Who sends from an address that is not its own sees no answer.
    let (server, relay) = (site.quic, UdpSocket::bind(LISTEN).expect("a port"));
    let address = relay.local_addr().expect("an address");
    let (sender, answers) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((n, from)) = relay.recv_from(&mut buffer) {
            if from == server {
                let _ = sender.send(buffer[0] & 0xf0);
            } else {
                let _ = relay.send_to(&buffer[..n], server);
            }
        }
    });
    runtime().block_on(async {
        let mut stopped = Vec::new();
        for _ in 0..20 {
            let (endpoint, config) = endpoint(&site, QUIC);
            let connecting = endpoint.connect_with(config, address, "127.0.0.1").expect("a configuration");
            stopped.push((endpoint, connecting));
        }
        let [_, _, quic] = site.targets();
        works(&client(quic.clone(), &site.security()).await.expect("a session")).await;
        // Beyond a quarter of the share of the network nothing is held for them.
        let retried = async {
            while answers.try_recv() != Ok(0xf0) {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(PATIENCE, retried).await.expect("a Retry");
        works(&client(quic, &site.security()).await.expect("a session")).await;
    });
}

#[test]
fn a_certificate_that_is_read_again_is_shown_to_streams_that_come_and_sessions_stay() {
    let site = Site::start("carriers-again", |_| {});
    runtime().block_on(async {
        for target in site.secure_targets() {
            let known = site.folder.0.join("known_runtimes");
            let security = || Security { known_runtimes: Some(known.clone()), ..site.security() };
            let before = client(target.clone(), &security()).await.expect("a session");
            let said = before.welcome().fingerprint.clone().expect("a fingerprint");
            let name = KnownRuntimes::name_of(&target).expect("a name");
            assert_eq!(KnownRuntimes::at(&known).fingerprint(&name).expect("read"), Some(said));
            renew(&site.folder);
            site.certificates.read_again().expect("a pair");
            site.handle.check_clients();
            works(&before).await;
            let Err(ClientError::Untrusted(why)) = client(target.clone(), &security()).await else {
                panic!("{target}: another key was let pass");
            };
            assert!(why.contains("shows another key"), "{why}");
            works(&client(target.clone(), &site.security()).await.expect("the new one is shown")).await;
            let nobody = Security { trust: Trust::System, ..Security::default() };
            assert!(matches!(client(target, &nobody).await, Err(ClientError::Untrusted(_))));
        }
    });
}

#[test]
fn a_client_is_known_by_its_certificate_on_streams_too() {
    let folder = Folder::new("carriers-clients");
    let file = |name: &str| folder.0.join(name);
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issued = authority.self_signed(&key).expect("a certificate");
    fs::write(file("ca.pem"), issued.pem()).expect("written");
    let issuer = rcgen::Issuer::new(authority, key);
    let own = rcgen::KeyPair::generate().expect("a key");
    let named = rcgen::CertificateParams::new(vec!["alice.example".to_string()]).expect("parameters");
    fs::write(file("alice.pem"), named.signed_by(&own, &issuer).expect("a certificate").pem()).expect("written");
    fs::write(file("alice-key.pem"), own.serialize_pem()).expect("written");
    let site = Site::knowing("carriers-known", Some(file("ca.pem")), |_| {});
    let identity = Identity { certificates: file("alice.pem"), key: file("alice-key.pem") };
    let security = Security { identity: Some(identity), ..site.security() };
    let credential = || Credential::Other { scheme: "mtls".to_string(), token: Secret::new(String::new()) };
    runtime().block_on(async {
        for (before, target) in site.secure_targets().into_iter().enumerate() {
            let config = || ClientConfig { credential: credential(), ..config() };
            let client = Client::connect_with(target.clone(), &security, config()).await.expect("a session");
            works(&client).await;
            assert_eq!(client.list(ListQuery::default()).await.expect("a page").jobs.len(), before + 1);
            let nobody = Client::connect_with(target, &site.security(), config()).await;
            assert!(matches!(nobody, Err(ClientError::Ended(SessionEnd::Denied(_)))), "{nobody:?}");
        }
    });
}

#[test]
fn an_idle_connection_that_has_had_a_session_is_not_kept_for_long() {
    let site = Site::start("carriers-idle", |_| {});
    let begun = Instant::now();
    runtime().block_on(async {
        let (mut requests, connection) = http2(&site).await;
        let (send, mut body) = session(&mut requests).await;
        next(&mut body).await.expect("a welcome");
        drop((send, body));
        let ended = tokio::time::timeout(2 * PATIENCE, connection).await.expect("in time");
        ended.expect("no panic").expect("it ends in order");
    });
    assert!(begun.elapsed() >= Duration::from_secs(5), "another session had its time");
    until("the port to be served", || TcpStream::connect(site.h2c).ok());
}

//! TLS: who is trusted, what a handshake may take, and what changes while
//! sessions go on. The same over each adapter.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use arcp_blocking::{
    Client, ClientError, HostError, Security, Server, ServerConfig, ServerHandle, Stopped, Target, Trust,
};
use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_host::store::MemoryStore;
use arcp_host::tls::{Certificates, TlsError, client_config};
use arcp_proto::client::ClientConfig;
use arcp_proto::model::event::Terminal;
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::{Credential, ListQuery};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;
use arcp_tests::kept::Folder;
use arcp_tests::server::{Running, connect_to, submit};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, ProtocolVersion, StreamOwned};

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

#[derive(Clone, Copy, Debug)]
enum Adapter {
    Blocking,
    Tokio,
}

use Adapter::{Blocking, Tokio};

const BOTH: [Adapter; 2] = [Blocking, Tokio];

/// A certificate that nobody vouches for, and its key.
struct Pair {
    folder: Folder,
}

impl Pair {
    fn new(name: &str, hosts: &[&str]) -> Pair {
        let pair = Pair { folder: Folder::new(name) };
        pair.renew(hosts);
        pair
    }

    /// Makes another, in the same files.
    fn renew(&self, hosts: &[&str]) {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(hosts).expect("a certificate");
        fs::write(self.certificate(), made.cert.pem()).expect("written");
        fs::write(self.key(), made.signing_key.serialize_pem()).expect("written");
    }

    fn certificate(&self) -> PathBuf {
        self.folder.0.join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.0.join("key.pem")
    }

    fn read(&self) -> Arc<Certificates> {
        Arc::new(Certificates::read(&self.certificate(), &self.key()).expect("a pair"))
    }

    fn security(&self) -> Security {
        Security { trust: Trust::Authorities(self.certificate()), insecure: false }
    }
}

/// A server with TLS; it stops with the value.
struct Site {
    address: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<Result<Stopped, HostError>>>,
}

impl Site {
    fn start(adapter: Adapter, certificates: Arc<Certificates>, change: fn(&mut Config)) -> Site {
        let mut registry = Registry::default();
        samples::add_to(&mut registry);
        let host = Running::host_of(Box::<MemoryStore>::default(), registry, change);
        let config = ServerConfig { tls: Some(certificates), ..ServerConfig::new(LISTEN) };
        match adapter {
            Blocking => {
                let server = Server::bind(&config, host).expect("a port");
                assert!(server.url().starts_with("wss://"));
                let (address, handle) = (server.address(), server.handle());
                Site { address, handle, thread: Some(std::thread::spawn(move || server.run())) }
            }
            Tokio => {
                let (started, bound) = channel();
                let serve = async move {
                    let server = arcp_tokio_adapter::Server::bind(&config, host).await.expect("a port");
                    started.send((server.address().expect("an address"), server.handle())).expect("awaited");
                    server.run().await
                };
                let thread = std::thread::spawn(move || runtime().block_on(serve));
                let (address, handle) = bound.recv().expect("it starts");
                Site { address, handle, thread: Some(thread) }
            }
        }
    }

    fn target(&self) -> Target {
        format!("wss://{}/arcp", self.address).parse().expect("a URL")
    }

    fn client(&self, security: &Security) -> Result<Client, ClientError> {
        Client::connect_with(self.target(), security, config())
    }

    /// A bare connection after this handshake.
    fn secured(&self, config: rustls::ClientConfig) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::from(self.address.ip());
        let session = ClientConnection::new(Arc::new(config), name).expect("a session");
        let mut stream = StreamOwned::new(session, connect_to(self.address));
        stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        stream
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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn config() -> ClientConfig {
    ClientConfig::new("test", "1", Credential::Bearer(Secret::new("tok-a".into())))
}

/// Runs a job with a result that takes many records.
fn works(client: &Client) {
    let job = client.submit(submit("chatty", r#"{"count": 2000}"#)).expect("accepted");
    let Terminal { status, .. } = job.wait().expect("an end").terminal;
    assert_eq!(status, FinalStatus::Success);
}

fn ends(mut socket: &TcpStream) -> bool {
    match socket.read(&mut [0; 1024]) {
        Ok(n) => n == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// A handshake that has begun: the head of a record, and no more.
fn begun(site: &Site) -> TcpStream {
    let mut socket = connect_to(site.address);
    socket.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).expect("written");
    socket
}

#[test]
fn a_session_over_tls_does_what_one_without_does() {
    let pair = Pair::new("tls-session", &["127.0.0.1"]);
    for adapter in BOTH {
        let site = Site::start(adapter, pair.read(), |_| {});
        let client = site.client(&pair.security()).expect("a session");
        works(&client);
        client.break_connection().expect("broken");
        works(&client);
        drop(client);
        runtime().block_on(async {
            let security = pair.security();
            let client = arcp_tokio_adapter::Client::connect_with(site.target(), &security, config()).await;
            let client = client.expect("a session");
            let mut job = client.submit(submit("chatty", r#"{"count": 2000}"#)).await.expect("accepted");
            assert_eq!(job.wait().await.expect("an end").terminal.status, FinalStatus::Success);
            client.close().await;
        });
    }
}

#[test]
fn both_versions_are_spoken_and_a_request_is_answered_and_closed_in_order() {
    let pair = Pair::new("tls-versions", &["127.0.0.1"]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    for adapter in BOTH {
        let site = Site::start(adapter, pair.read(), |_| {});
        for (version, expected) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
            let mut roots = rustls::RootCertStore::empty();
            let certificate = fs::read(pair.certificate()).expect("it is there");
            let certificate = rustls::pki_types::pem::PemObject::from_pem_slice(&certificate).expect("one");
            roots.add(certificate).expect("a certificate");
            let config = rustls::ClientConfig::builder_with_provider(provider.clone())
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_root_certificates(roots)
                .with_no_client_auth();
            let mut stream = site.secured(config);
            assert_eq!(stream.conn.protocol_version(), Some(expected), "{adapter:?}");
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
            let mut answer = String::new();
            // An end without a word of TLS would be an error.
            stream.read_to_string(&mut answer).expect("an answer and an end");
            assert!(answer.ends_with("ok\n"), "{adapter:?}: {answer}");
        }
    }
}

#[test]
fn who_never_finishes_a_handshake_is_closed_and_keeps_nobody_waiting() {
    let pair = Pair::new("tls-stalled", &["127.0.0.1"]);
    for adapter in BOTH {
        let change = |config: &mut Config| config.timing.tls_handshake_timeout = Duration::from_millis(500);
        let site = Site::start(adapter, pair.read(), change);
        let silent = connect_to(site.address);
        let stalled: Vec<TcpStream> = (0..64).map(|_| begun(&site)).collect();
        works(&site.client(&pair.security()).expect("a session"));
        assert!(ends(&silent), "{adapter:?}");
        assert!(stalled.iter().all(ends), "{adapter:?}");
    }
}

#[test]
fn handshakes_have_a_bound_of_their_own_in_all_and_for_each_network() {
    let pair = Pair::new("tls-bound", &["127.0.0.1"]);
    for adapter in BOTH {
        let bounds: [fn(&mut Config); 2] = [
            |config| config.limits.connection.tls_handshakes = 3,
            |config| config.limits.connection.tls_handshakes_per_network = 3,
        ];
        for bound in bounds {
            let site = Site::start(adapter, pair.read(), bound);
            // Who has done it counts no more.
            let clients: Vec<Client> = (0..4).map(|_| site.client(&pair.security()).expect("a session")).collect();
            let first = begun(&site);
            let others: Vec<TcpStream> = (0..3).map(|_| begun(&site)).collect();
            assert!(ends(&first), "{adapter:?}");
            for other in &others {
                other.set_nonblocking(true).expect("set");
                assert!(!ends(other), "{adapter:?}: only the first goes");
            }
            clients.iter().for_each(works);
        }
    }
}

#[test]
fn a_certificate_that_is_read_again_is_shown_from_then_on_and_sessions_stay() {
    for adapter in BOTH {
        let pair = Pair::new("tls-again", &["127.0.0.1"]);
        let certificates = pair.read();
        let site = Site::start(adapter, certificates.clone(), |_| {});
        let old = site.client(&pair.security()).expect("a session");
        let kept = pair.folder.0.join("old.pem");
        fs::copy(pair.certificate(), &kept).expect("copied");
        pair.renew(&["127.0.0.1"]);
        let of_old = Security { trust: Trust::Authorities(kept), insecure: false };
        drop(site.client(&of_old).expect("nothing was read yet"));
        certificates.read_again().expect("a pair");
        works(&old);
        works(&site.client(&pair.security()).expect("the new one is shown"));
        assert!(matches!(site.client(&of_old), Err(ClientError::Untrusted(_))), "{adapter:?}");
        // What cannot be used changes nothing.
        fs::write(pair.key(), "no key").expect("written");
        let error = certificates.read_again().expect_err("no pair");
        assert!(error.to_string().contains("key.pem"), "{error}");
        works(&site.client(&pair.security()).expect("the last one that could be used"));
    }
}

#[test]
fn a_server_that_is_not_to_be_trusted_is_refused_at_once_and_gets_no_token() {
    let (pair, other) = (Pair::new("tls-mine", &["127.0.0.1"]), Pair::new("tls-other", &["127.0.0.1"]));
    let named = Pair::new("tls-named", &["arcp.example"]);
    for adapter in BOTH {
        let site = Site::start(adapter, pair.read(), |_| {});
        let elsewhere = Site::start(adapter, named.read(), |_| {});
        for (site, security, said) in
            [(&site, other.security(), "issued by nobody"), (&elsewhere, named.security(), "another name")]
        {
            match site.client(&security) {
                Err(ClientError::Untrusted(why)) => assert!(why.contains(said), "{adapter:?}: {why}"),
                other => panic!("{adapter:?}: {other:?}"),
            }
            let connected = runtime()
                .block_on(arcp_tokio_adapter::Client::connect_with(site.target(), &security, config()))
                .map(|_| ());
            assert!(matches!(connected, Err(ClientError::Untrusted(_))), "{adapter:?}: {connected:?}");
        }
        // Whoever has the file on this machine needs no name.
        let own = Security { trust: Trust::Certificate(named.certificate()), insecure: false };
        works(&elsewhere.client(&own).expect("a session"));
        assert!(matches!(site.client(&own), Err(ClientError::Untrusted(_))), "{adapter:?}");
    }
}

#[test]
fn a_token_leaves_this_machine_in_cleartext_only_if_somebody_says_so() {
    let target: Target = "ws://192.0.2.1:9/arcp".parse().expect("a URL");
    let refused = |security: &Security, credential: &Credential| {
        matches!(security.allows(&target, credential), Err(ClientError::Cleartext(_)))
    };
    let token = Credential::Bearer(Secret::new("t".into()));
    assert!(refused(&Security::default(), &token));
    assert!(!refused(&Security::default(), &Credential::Anonymous));
    assert!(!refused(&Security { insecure: true, ..Security::default() }, &token));
    for (url, exposed) in [
        ("ws://localhost:1", false),
        ("ws://127.0.0.2:1", false),
        ("ws://[::1]:1", false),
        ("ws://localhost.example:1", true),
        ("ws://0.0.0.0:1", true),
        ("wss://arcp.example", false),
        ("exec:true", false),
    ] {
        assert_eq!(url.parse::<Target>().expect("a target").is_exposed(), exposed, "{url}");
    }
    assert!(matches!(Client::connect(target.clone(), config()), Err(ClientError::Cleartext(_))));
    let connected = runtime().block_on(arcp_tokio_adapter::Client::connect(target, config())).map(|_| ());
    assert!(matches!(connected, Err(ClientError::Cleartext(_))));
}

#[test]
fn a_port_for_other_machines_has_tls_unless_somebody_says_so() {
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let pair = Pair::new("tls-open", &["127.0.0.1"]);
    let bare = ServerConfig::new(everywhere);
    let host = || Running::host(Box::<MemoryStore>::default(), &[], |_| {});
    assert!(matches!(Server::bind(&bare, host()), Err(HostError::Cleartext(_))));
    let bound = runtime().block_on(arcp_tokio_adapter::Server::bind(&bare, host())).map(|_| ());
    assert!(matches!(bound, Err(HostError::Cleartext(_))));
    assert!(Server::bind(&ServerConfig { insecure: true, ..bare.clone() }, host()).is_ok());
    assert!(Server::bind(&ServerConfig { tls: Some(pair.read()), ..bare }, host()).is_ok());
}

#[test]
fn who_speaks_no_tls_to_a_port_that_does_is_told() {
    let pair = Pair::new("tls-clear", &["127.0.0.1"]);
    for adapter in BOTH {
        let site = Site::start(adapter, pair.read(), |_| {});
        let mut socket = connect_to(site.address);
        socket.write_all(b"G").expect("written");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer and an end");
        assert!(answer.contains("400") && answer.contains("wss://"), "{adapter:?}: {answer}");
    }
    let clear = Running::start(&[], |_| {});
    let target = clear.url().replace("ws://", "wss://").parse().expect("a URL");
    match Client::connect_with(target, &pair.security(), config()) {
        Err(ClientError::Untrusted(why)) => assert!(why.contains("does not speak TLS"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_wrong_with_a_certificate_or_key_is_said_with_its_file_and_not_its_content() {
    let (pair, other) = (Pair::new("tls-wrong", &["a.example"]), Pair::new("tls-wrong-other", &["b.example"]));
    let read = |certificate: PathBuf, key: PathBuf| Certificates::read(&certificate, &key).map(|_| ());
    let error = read(pair.certificate(), other.key()).expect_err("another key");
    assert!(matches!(error, TlsError::OtherKey { .. }) && error.to_string().contains("key.pem"), "{error}");
    let error = read(pair.key(), pair.key()).expect_err("no certificate");
    assert!(error.to_string().contains("BEGIN CERTIFICATE"), "{error}");
    let error = read(pair.certificate(), pair.certificate()).expect_err("no key");
    assert!(error.to_string().contains("BEGIN PRIVATE KEY"), "{error}");
    let secret = fs::read_to_string(pair.key()).expect("it is there");
    let line = secret.lines().nth(1).expect("a line");
    fs::write(other.key(), secret.replace(line, &format!("{line} !"))).expect("written");
    let error = read(pair.certificate(), other.key()).expect_err("no base64");
    assert!(!format!("{error} {error:?} {:?}", pair.read()).contains(line), "{error}");
    let gone = Trust::Authorities(pair.folder.0.join("gone.pem"));
    assert!(client_config(&gone).map(|_| ()).expect_err("no file").to_string().contains("gone.pem"));
}

#[test]
fn pages_of_jobs_come_whole_in_records_of_any_size() {
    let pair = Pair::new("tls-pages", &["127.0.0.1"]);
    for adapter in BOTH {
        let site = Site::start(adapter, pair.read(), |_| {});
        let client = site.client(&pair.security()).expect("a session");
        for n in 0..20 {
            works_with(&client, &"x".repeat(n * 10_000));
        }
        assert_eq!(client.list(ListQuery::default()).expect("a page").jobs.len(), 20);
    }
}

/// Echoes a text both ways.
fn works_with(client: &Client, text: &str) {
    let job = client.submit(submit("echo", &format!("{text:?}"))).expect("accepted");
    assert_eq!(job.wait().expect("an end").terminal.status, FinalStatus::Success);
}

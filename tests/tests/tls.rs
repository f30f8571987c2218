//! TLS: who is trusted, what a handshake may take, and what changes during sessions. The same over each adapter.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use arcp_blocking::{
    Client, ClientError, HostError, Identity, Security, Server, ServerConfig, ServerHandle, Stopped, Target, Trust,
};
use arcp_host::registry::Registry;
use arcp_host::samples;
use arcp_host::store::MemoryStore;
use arcp_host::tls::{Certificates, KnownRuntimes, TlsError, client_config};
use arcp_proto::client::{ClientConfig, SessionEnd};
use arcp_proto::error::ErrorCode;
use arcp_proto::model::event::Terminal;
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::{Credential, ListQuery};
use arcp_proto::runtime::Config;
use arcp_proto::secret::Secret;
use arcp_proto::wire::Family;
use arcp_tests::certificates::{Authority, Pair};
use arcp_tests::server::{Running, connect_to, submit};
use arcp_tests::until::until;
use rcgen::{CertificateParams, date_time_ymd};
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
        let of_old = Security { trust: Trust::Authorities(kept), ..Security::default() };
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
fn a_runtime_says_the_fingerprint_of_the_key_that_it_shows_and_is_known_by_that_from_then_on() {
    for adapter in BOTH {
        let pair = Pair::new("tls-known", &["127.0.0.1"]);
        let certificates = pair.read();
        let site = Site::start(adapter, certificates.clone(), |_| {});
        let file = pair.folder.0.join("state/known_runtimes");
        let security = || Security { known_runtimes: Some(file.clone()), ..pair.security() };
        let said = |family: Family| {
            let config = ClientConfig { family, ..config() };
            let client = Client::connect_with(site.target(), &security(), config).expect("a session");
            client.welcome().fingerprint.clone().expect("a fingerprint")
        };
        let first = said(Family::Hello);
        assert!(first.starts_with("sha256:") && first.len() == 71, "{first}");
        assert_eq!(said(Family::Open), first);
        let line = format!("{} {first}\n", site.address);
        assert_eq!(fs::read_to_string(&file).expect("it is kept"), line, "{adapter:?}: once");

        // Somebody else is there.
        pair.renew(&["127.0.0.1"]);
        certificates.read_again().expect("a pair");
        let Err(ClientError::Untrusted(why)) = site.client(&security()) else { panic!("{adapter:?}: it is let pass") };
        assert!(why.contains(&first) && why.contains("known_runtimes:1") && why.contains("forget"), "{why}");
        assert_eq!(fs::read_to_string(&file).expect("it is kept"), line);
        works(&site.client(&pair.security()).expect("nobody has to keep any"));
        let known = KnownRuntimes::at(&file);
        let name = site.address.to_string();
        assert!(known.forget(&name).expect("written") && !known.forget(&name).expect("read"));
        assert_ne!(said(Family::Hello), first);
        // What cannot be read is no reason to trust anybody.
        fs::write(&file, [0xff, 0xfe]).expect("written");
        assert!(matches!(site.client(&security()), Err(ClientError::Untrusted(_))), "{adapter:?}");
    }
    let clear = Running::start(&[], |_| {});
    assert_eq!(clear.client().welcome().fingerprint, None, "nothing proves one");
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
        let own = Security { trust: Trust::Certificate(named.certificate()), ..Security::default() };
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
    assert!(client_config(&gone, None).map(|_| ()).expect_err("no file").to_string().contains("gone.pem"));
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

/// A client that shows this, by this credential, and does not try again.
fn showing(
    site: &Site,
    pair: &Pair,
    identity: Option<&Identity>,
    credential: Credential,
) -> Result<Client, ClientError> {
    let security = Security { identity: identity.cloned(), ..pair.security() };
    let mut config = ClientConfig::new("test", "1", credential);
    config.give_up_after = Some(Duration::ZERO);
    Client::connect_with(site.target(), &security, config)
}

fn mtls() -> Credential {
    Credential::Other { scheme: "mtls".to_string(), token: Secret::new(String::new()) }
}

/// Whose a session is, by a job that is submitted in it.
fn principal_of(client: &Client) -> String {
    let job = client.submit(submit("echo", "1")).expect("accepted");
    let page = client.list(ListQuery { limit: Some(1000), ..ListQuery::default() }).expect("a page");
    let listed = page.jobs.into_iter().find(|listed| listed.job == job.id).expect("it is listed");
    listed.owner.expect("a principal")
}

/// Who shows this is, if its connection comes about: a principal, or refused.
fn known(site: &Site, pair: &Pair, identity: &Identity) -> Option<Result<String, ErrorCode>> {
    match showing(site, pair, Some(identity), mtls()) {
        Ok(client) => Some(Ok(principal_of(&client))),
        Err(ClientError::Ended(SessionEnd::Denied(refusal))) => Some(Err(refusal.code)),
        // At once, and not when it is given up.
        Err(ClientError::NotTaken(_)) => None,
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn a_client_is_known_by_a_certificate_that_counts_and_by_no_other() {
    let pair = Pair::new("mtls", &["127.0.0.1"]);
    let (ours, other) = (Authority::new("mtls-ours"), Authority::new("mtls-other"));
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(3000, 1, 1);
    ours.revoke(&[7]);
    let denied = Some(Err(ErrorCode::Unauthenticated));
    let right = ours.issue(1, &["spiffe://example/alice", "alice.example"], |_| {}).0;
    let cases = [
        (right.clone(), Some(Ok("spiffe://example/alice".to_string()))),
        (ours.issue(2, &["bob.example"], |_| {}).0, Some(Ok("bob.example".to_string()))),
        (ours.issue(3, &["spiffe://example/a", "spiffe://example/b"], |_| {}).0, denied.clone()),
        (ours.issue(4, &["a.example", "b.example"], |_| {}).0, denied.clone()),
        (ours.issue(5, &[], |_| {}).0, denied.clone()),
        (ours.issue(6, &["spiffe://example/alice"], expired).0, None),
        (ours.issue(7, &["spiffe://example/alice"], |_| {}).0, None),
        (ours.issue(8, &["spiffe://example/alice"], early).0, None),
        (other.issue(9, &["spiffe://example/alice"], |_| {}).0, None),
        (Identity { certificates: pair.certificate(), key: pair.key() }, None),
    ];
    for adapter in BOTH {
        let site = Site::start(adapter, ours.certificates(&pair, None), |_| {});
        for (n, (identity, expected)) in cases.iter().enumerate() {
            assert_eq!(known(&site, &pair, identity), *expected, "{adapter:?}: {n}");
        }
        // Who shows none is whom a token says, and so is who sends one.
        let token = || Credential::Bearer(Secret::new("tok-a".into()));
        for shown in [None, Some(&right)] {
            assert_eq!(principal_of(&showing(&site, &pair, shown, token()).expect("a session")), "a");
        }
        let wrong = showing(&site, &pair, Some(&right), Credential::Bearer(Secret::new("wrong".into())));
        assert!(matches!(wrong, Err(ClientError::Ended(SessionEnd::Denied(_)))), "{adapter:?}: {wrong:?}");
        let none = showing(&site, &pair, None, mtls());
        let Err(ClientError::Ended(SessionEnd::Denied(refusal))) = none else { panic!("{adapter:?}: {none:?}") };
        assert_eq!(refusal.code, ErrorCode::Unauthenticated);
        // Where nobody asks for one it says nothing.
        let plain = Site::start(adapter, pair.read(), |_| {});
        assert_eq!(known(&plain, &pair, &right), denied);
        runtime().block_on(async {
            let security = Security { identity: Some(right.clone()), ..pair.security() };
            let config = ClientConfig::new("test", "1", mtls());
            let client = arcp_tokio_adapter::Client::connect_with(site.target(), &security, config).await;
            client.expect("a session").close().await;
        });
    }
}

#[test]
fn a_session_ends_with_the_certificate_that_its_client_is_known_by() {
    let pair = Pair::new("mtls-over", &["127.0.0.1"]);
    let ours = Authority::new("mtls-short");
    let soon = |params: &mut CertificateParams| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        params.not_after = date_time_ymd(1970, 1, 1) + (now + Duration::from_secs(5));
    };
    for adapter in BOTH {
        let site = Site::start(adapter, ours.certificates(&pair, None), |_| {});
        let brief = ours.issue(1, &["brief.example"], soon).0;
        let lasting = ours.issue(2, &["lasting.example"], |_| {}).0;
        let brief = showing(&site, &pair, Some(&brief), mtls()).expect("it counts still");
        let lasting = showing(&site, &pair, Some(&lasting), mtls()).expect("a session");
        works_with(&brief, "by now");
        until("its session is over", || brief.submit(submit("echo", "1")).err());
        works_with(&lasting, "others go on");
    }
}

#[test]
fn a_file_says_whose_certificates_are_whose_and_nobody_elses_count() {
    let pair = Pair::new("mtls-names", &["127.0.0.1"]);
    let ours = Authority::new("mtls-named");
    let (by_print, print) = ours.issue(1, &["spiffe://example/x"], |_| {});
    let colons: Vec<String> = print.as_bytes().chunks(2).map(|two| String::from_utf8_lossy(two).into()).collect();
    let by_uri = ours.issue(2, &["spiffe://example/one", "spiffe://example/two"], |_| {}).0;
    let by_name = ours.issue(3, &["Carol.example"], |_| {}).0;
    let unnamed = ours.issue(4, &["spiffe://example/y"], |_| {}).0;
    let names = format!(
        "# who is who\n\nsha256:{}  alice\nuri:spiffe://example/two https://login.example#bob\ndns:carol.EXAMPLE carol\n",
        colons.join(":")
    );
    let site = Site::start(Blocking, ours.certificates(&pair, Some(&names)), |_| {});
    let expected = [Ok("alice"), Ok("https://login.example#bob"), Ok("carol"), Err(ErrorCode::Unauthenticated)];
    let whose = [by_print, by_uri, by_name, unnamed].map(|identity| known(&site, &pair, &identity));
    assert_eq!(whose, expected.map(|expected| Some(expected.map(str::to_string))));
    for (wrong, said) in [
        ("alice", "line 1: expected"),
        ("\nemail:a@example alice", "line 2: expected"),
        ("sha256:12 alice", "no 64 hexadecimal digits"),
        ("uri:x anonymous-01ARZ3NDEKTSV4RRFFQ69G5FAV", "no principal"),
        ("uri:x a\nuri:x b", "line 2: this certificate is somebody's already"),
    ] {
        let clients = ours.clients(Some(wrong));
        let error = Certificates::read_with_clients(&pair.certificate(), &pair.key(), clients).expect_err(wrong);
        assert!(error.to_string().contains("names: ") && error.to_string().contains(said), "{wrong}: {error}");
    }
    fs::write(ours.folder.0.join("crl.pem"), "nothing").expect("written");
    let error = Certificates::read_with_clients(&pair.certificate(), &pair.key(), ours.clients(None));
    assert!(error.expect_err("no list").to_string().contains("BEGIN X509 CRL"));
}

#[test]
fn whose_certificate_is_revoked_or_given_to_another_loses_its_connection_once_that_was_read() {
    let pair = Pair::new("mtls-again", &["127.0.0.1"]);
    for adapter in BOTH {
        let ours = Authority::new("mtls-revoking");
        let identities = [1, 2, 3].map(|serial| ours.issue(serial, &[&format!("spiffe://example/{serial}")], |_| {}).0);
        let names = |third: &str| {
            format!("uri:spiffe://example/1 a\nuri:spiffe://example/2 b\nuri:spiffe://example/3 {third}\n")
        };
        let certificates = ours.certificates(&pair, Some(&names("c")));
        let site = Site::start(adapter, certificates.clone(), |_| {});
        let clients = [0, 1, 2].map(|n| showing(&site, &pair, Some(&identities[n]), mtls()).expect("a session"));
        let jobs = [0, 1, 2].map(|n| clients[n].submit(submit("slow", r#"{"ms": 600000}"#)).expect("accepted"));
        ours.revoke(&[2]);
        fs::write(ours.folder.0.join("names"), names("d")).expect("written");
        certificates.read_again().expect("they can be read");
        site.handle.check_clients();
        for lost in [&jobs[1], &jobs[2]] {
            let ended = lost.wait().map(|_| ());
            assert!(ended.is_err(), "{adapter:?}: {ended:?}");
        }
        works(&clients[0]);
        let now: Vec<_> = identities.iter().map(|identity| known(&site, &pair, identity)).collect();
        assert_eq!(now, [Some(Ok("a".to_string())), None, Some(Ok("d".to_string()))], "{adapter:?}");
    }
}

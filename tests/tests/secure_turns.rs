//! The server and its connections over TLS, turn by turn.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arcp_blocking::{Identity, Trust};
use arcp_host::policy_file;
use arcp_host::server::{Begins, HEAD_TIMEOUT};
use arcp_host::tls::{Certificates, client_config};
use arcp_proto::runtime::{Config, Notice};
use arcp_tests::certificates::{Authority, Pair};
use arcp_tests::raw::{hello_payload, open_payload};
use arcp_tests::turns::{Peer, Site, frame, local, request};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde_json::json;
use std::io::{Read as _, Write as _};

const HOUR: Duration = Duration::from_secs(3600);
const TICK: Duration = Duration::from_millis(1);

/// A client's end.
struct Secure {
    peer: Peer,
    session: ClientConnection,
}

fn site(certificates: &Arc<Certificates>, change: impl FnOnce(&mut Config)) -> Site {
    let shown = certificates.clone();
    let change = |config: &mut Config| {
        config.timing.tls_handshake_timeout = HOUR;
        change(config);
    };
    Site::with(100, change, |config| config.tls = Some(shown))
}

impl Secure {
    fn new(site: &mut Site, trust: &Trust, identity: Option<&Identity>) -> Secure {
        let config = client_config(trust, identity).expect("what a client connects with");
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(config, name).expect("a session");
        Secure { peer: site.accept(local(), Begins::Handshake), session }
    }

    /// Sends what there is to send and takes what comes, until there is no more of either.
    fn go_on(&mut self, site: &mut Site) -> Result<(), rustls::Error> {
        loop {
            let mut sent = Vec::new();
            while self.session.wants_write() {
                self.session.write_tls(&mut sent).expect("there is room");
            }
            if !sent.is_empty() {
                site.say(&self.peer, &sent);
            }
            let came = self.peer.taken();
            if sent.is_empty() && came.is_empty() {
                return Ok(());
            }
            let mut came = came.as_slice();
            while !came.is_empty() {
                self.session.read_tls(&mut came).expect("it is taken");
                self.session.process_new_packets()?;
            }
        }
    }

    /// Sends this; gives what is said.
    fn ask(&mut self, site: &mut Site, bytes: impl AsRef<[u8]>) -> String {
        self.session.writer().write_all(bytes.as_ref()).expect("there is room");
        self.go_on(site).expect("nothing is wrong");
        self.heard()
    }

    fn heard(&mut self) -> String {
        let mut heard = Vec::new();
        // The end of a session is none of the bytes.
        let _ = self.session.reader().read_to_end(&mut heard);
        String::from_utf8_lossy(&heard).into_owned()
    }
}

/// What a client sends that asks for a WebSocket and has these frames.
fn upgraded(frames: &[String]) -> Vec<u8> {
    let (head, _) = arcp_host::http::upgrade_request("localhost", "/arcp");
    [head.into_bytes(), framed(frames)].concat()
}

fn framed(frames: &[String]) -> Vec<u8> {
    let mut framing = arcp_host::framing::Framing::websocket_client(1 << 20);
    frames.iter().for_each(|frame| framing.write(frame.trim_end()));
    framing.output().to_vec()
}

#[test]
fn a_request_over_tls_is_answered_and_both_sides_say_that_they_end() {
    let pair = Pair::new("turns-request", &["localhost"]);
    let mut site = site(&pair.read(), |_| {});
    let mut client = Secure::new(&mut site, &pair.security().trust, None);
    let wait = site.serving.next_wait().expect("it is looked whether something came");
    assert!(wait.is_zero());
    site.turn();
    let wait = site.serving.next_wait().expect("a handshake takes no longer");
    assert!(wait > HEAD_TIMEOUT + TICK && wait <= HOUR + TICK, "{wait:?}");
    client.go_on(&mut site).expect("nothing is wrong");
    assert!(!client.session.is_handshaking());
    let wait = site.serving.next_wait().expect("a head has to come");
    assert!(wait <= HEAD_TIMEOUT + TICK, "{wait:?}");
    let answer = client.ask(&mut site, request("/healthz", ""));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
    assert_eq!(client.peer.wire.borrow().shut, 1);
    client.session.send_close_notify();
    client.go_on(&mut site).expect("nothing is wrong");
    assert!(client.peer.is_gone());
}

#[test]
fn what_is_encrypted_and_did_not_fit_is_written_once_there_is_room() {
    let pair = Pair::new("turns-room", &["localhost"]);
    let mut site = site(&pair.read(), |_| {});
    let mut client = Secure::new(&mut site, &pair.security().trust, None);
    client.go_on(&mut site).expect("nothing is wrong");
    client.peer.wire.borrow_mut().room = 7;
    assert_eq!(client.ask(&mut site, request("/nowhere", "")), "");
    assert_eq!(client.peer.wire.borrow().room, 0);
    site.takes(&client.peer, usize::MAX);
    client.go_on(&mut site).expect("nothing is wrong");
    assert!(client.heard().ends_with("nothing is served at this path\n"));
    assert_eq!(client.peer.wire.borrow().shut, 1);
}

#[test]
fn a_frame_that_did_not_fit_is_written_once_there_is_room_though_nothing_follows_it() {
    let pair = Pair::new("turns-frame", &["localhost"]);
    let mut site = site(&pair.read(), |_| {});
    let mut client = Secure::new(&mut site, &pair.security().trust, None);
    client.go_on(&mut site).expect("nothing is wrong");
    let opened = client.ask(&mut site, upgraded(&[frame("session.open", &open_payload("tok-a"))]));
    assert!(opened.contains("session.accepted"), "{opened}");
    client.peer.wire.borrow_mut().room = 7;
    assert_eq!(client.ask(&mut site, framed(&[frame("ping", &json!({"nonce": "n"}))])), "");
    site.takes(&client.peer, usize::MAX);
    client.go_on(&mut site).expect("nothing is wrong");
    assert!(client.heard().contains("pong"));
}

#[test]
fn who_begins_with_anything_but_a_handshake_is_told_so_and_dropped() {
    let pair = Pair::new("turns-cleartext", &["localhost"]);
    let mut site = site(&pair.read(), |_| {});
    let peer = site.accept(local(), Begins::Handshake);
    site.say(&peer, request("/healthz", "").as_bytes());
    let answer = peer.heard();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port takes TLS"), "{answer}");
    assert!(peer.is_gone());
    let broken = site.accept(local(), Begins::Handshake);
    site.say(&broken, &[22, 9, 9, 0, 1, 0]);
    assert!(broken.is_gone(), "that is no handshake either");
    let silent = site.accept(local(), Begins::Handshake);
    site.end(&silent);
    assert!(silent.is_gone());
}

#[test]
fn handshakes_go_on_for_so_many_in_one_turn_and_for_others_in_the_next() {
    let pair = Pair::new("turns-many", &["localhost"]);
    let mut site = site(&pair.read(), |_| {});
    let mut peers: Vec<Peer> = (0..16).map(|_| site.accept(local(), Begins::Handshake)).collect();
    site.turn();
    assert!(!site.serving.has_work());
    peers.push(site.accept(local(), Begins::Handshake));
    peers.iter().for_each(|peer| site.serving.note(peer.conn, true, false));
    site.turn();
    assert!(site.serving.has_work(), "the last one of 17");
    assert_eq!((peers[15].wire.borrow().reads, peers[16].wire.borrow().reads), (2, 0));
    site.turn();
    assert_eq!(peers[16].wire.borrow().reads, 1);
}

#[test]
fn whoever_may_not_be_more_begins_no_handshake() {
    let pair = Pair::new("turns-bound", &["localhost"]);
    let mut site = site(&pair.read(), |config| config.limits.connection.tls_handshakes_per_network = 1);
    let mut first = Secure::new(&mut site, &pair.security().trust, None);
    first.go_on(&mut site).expect("nothing is wrong");
    let second = Secure::new(&mut site, &pair.security().trust, None);
    let third = Secure::new(&mut site, &pair.security().trust, None);
    assert!(!first.peer.is_gone(), "its handshake is done");
    assert!(second.peer.is_gone() && !third.peer.is_gone());
}

#[test]
fn a_certificate_that_is_known_itself_counts_though_it_is_an_authority_s() {
    let pair = Pair::new("turns-authority", &["localhost"]);
    let mut params = CertificateParams::new(vec!["localhost".to_string()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    fs::write(pair.certificate(), params.self_signed(&key).expect("a certificate").pem()).expect("written");
    fs::write(pair.key(), key.serialize_pem()).expect("written");
    let other = Pair::new("turns-other", &["elsewhere"]);
    for (shown, trusted, counts) in [(&pair, &pair, true), (&pair, &other, false), (&other, &other, false)] {
        let mut site = site(&shown.read(), |_| {});
        let mut client = Secure::new(&mut site, &Trust::Authorities(trusted.certificate()), None);
        assert_eq!(client.go_on(&mut site).is_ok(), counts);
        let mut client = Secure::new(&mut site, &Trust::Certificate(trusted.certificate()), None);
        let is_known = shown.certificate() == trusted.certificate();
        assert_eq!(client.go_on(&mut site).is_ok(), is_known, "whatever it is called");
    }
}

/// Opens a session by a certificate; gives what is answered.
fn open(site: &mut Site, client: &mut Secure) -> String {
    client.go_on(site).expect("nothing is wrong");
    let mut hello = hello_payload("");
    hello["auth"] = json!({"scheme": "mtls"});
    let submit = frame("job.submit", &json!({"agent": "never", "input": {}}));
    client.ask(site, upgraded(&[frame("session.hello", &hello), submit]))
}

/// Whose sessions were opened since.
fn opened(site: &Site) -> Vec<String> {
    let of = |notice| {
        let Notice::SessionOpened { principal, .. } = notice else { return None };
        Some(principal.to_string())
    };
    site.notices.try_iter().filter_map(of).collect()
}

const LEADS: &str = "[[rule]]\nname = \"leads\"\nroles = [\"lead\"]\nagents = [\"never\"]\n";

#[test]
fn who_shows_a_certificate_is_whose_it_is_and_has_the_roles_that_stand_beside_the_name() {
    let (pair, authority) = (Pair::new("turns-known", &["localhost"]), Authority::new("turns-clients"));
    let (lead, _) = authority.issue(1, &["urn:lead"], |_| {});
    let (other, digits) = authority.issue(2, &["urn:other", "other.example"], |_| {});
    let (nobody, _) = authority.issue(3, &["urn:nobody"], |_| {});
    let names = format!("uri:urn:lead alice roles=lead\nsha256:{digits} bob\n");
    let certificates = authority.certificates(&pair, Some(&names));
    let policy = policy_file::parse(Path::new("policy.toml"), LEADS).expect("a policy");
    let mut site = site(&certificates, |config| config.authority.policy = Some(Box::new(policy)));
    let trust = pair.security().trust;
    for (identity, whose, submits) in
        [(&lead, Some("alice"), true), (&other, Some("bob"), false), (&nobody, None, false)]
    {
        let mut client = Secure::new(&mut site, &trust, Some(identity));
        let heard = open(&mut site, &mut client);
        assert_eq!(opened(&site), Vec::from_iter(whose.map(String::from)), "{heard}");
        assert_eq!(heard.contains("job.accepted"), submits, "{heard}");
    }
}

#[test]
fn whose_certificate_is_revoked_has_to_go_once_that_was_read_and_asked_for() {
    let (pair, authority) = (Pair::new("turns-revoked", &["localhost"]), Authority::new("turns-revoking"));
    let (one, _) = authority.issue(1, &["urn:one"], |_| {});
    let (two, _) = authority.issue(2, &["urn:two"], |_| {});
    let certificates = authority.certificates(&pair, None);
    let mut site = site(&certificates, |_| {});
    let trust = pair.security().trust;
    let mut sessions = [&one, &two].map(|identity| {
        let mut client = Secure::new(&mut site, &trust, Some(identity));
        assert!(open(&mut site, &mut client).contains("session.welcome"));
        client
    });
    // It has shown its certificate, and asked for nothing.
    let mut silent = [&one, &two].map(|identity| {
        let mut client = Secure::new(&mut site, &trust, Some(identity));
        client.go_on(&mut site).expect("nothing is wrong");
        client
    });
    assert_eq!(opened(&site), ["urn:one", "urn:two"]);
    authority.revoke(&[1]);
    certificates.read_again().expect("they can be read");
    site.turn();
    assert!(!silent[0].peer.is_gone(), "nobody has asked for that");
    site.serving.handle().check_clients();
    site.turn();
    site.turn();
    assert!(silent[0].peer.is_gone() && !silent[1].peer.is_gone());
    for (client, stays) in sessions.iter_mut().zip([false, true]) {
        // Whoever was told goodbye is heard no more.
        let _ = client.go_on(&mut site);
        assert_eq!(client.peer.wire.borrow().shut == 0, stays);
    }
    let again = Secure::new(&mut site, &trust, Some(&two));
    assert!(!again.peer.is_gone() && silent[1].ask(&mut site, request("/healthz", "")).contains("200 OK"));
}

#[test]
fn without_a_certificate_a_session_is_opened_by_a_token_as_anywhere() {
    let (pair, authority) = (Pair::new("turns-token", &["localhost"]), Authority::new("turns-none"));
    let mut site = site(&authority.certificates(&pair, None), |_| {});
    let mut client = Secure::new(&mut site, &pair.security().trust, None);
    client.go_on(&mut site).expect("nothing is wrong");
    client.ask(&mut site, upgraded(&[frame("session.open", &open_payload("tok-a"))]));
    assert_eq!(opened(&site), ["a"]);
}

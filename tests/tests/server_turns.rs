//! The server and its connections, turn by turn.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use arcp_blocking::{Host, HostError, ServerConfig};
use arcp_host::auth::Authenticator;
use arcp_host::framing::{Framed, Framing};
use arcp_host::http::upgrade_request;
use arcp_host::registry::Registry;
use arcp_host::server::{Begins, CarrierEnd, HEAD_TIMEOUT, Listen, Origin};
use arcp_proto::model::request::Credential;
use arcp_proto::runtime::{Config, Verdict};
use arcp_proto::secret::Secret;
use arcp_tests::raw::hello_payload;
use arcp_tests::server::PATIENCE;
use arcp_tests::turns::{Site, address, frame, local, request};
use arcp_tests::until::until;
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3600);
/// What is added to every wait.
const TICK: Duration = Duration::from_millis(1);
/// So long a peer that takes nothing is waited for at the end.
const LAST_WAIT: Duration = Duration::from_millis(500);
/// Bytes that are taken of one connection in a turn.
const READ_TURN: usize = 256 << 10;

fn ping() -> String {
    frame("session.ping", &json!({"nonce": "n"}))
}

/// What has come about the end of a carrier.
fn told(ends: &Receiver<CarrierEnd>) -> Vec<CarrierEnd> {
    ends.try_iter().collect()
}

#[test]
fn a_request_is_answered_once_it_is_whole_and_its_connection_ends_once_both_sides_have() {
    let mut site = Site::new(10, |_| {});
    let peer = site.asker();
    peer.wire.borrow_mut().busy = 1;
    assert!(site.serving.has_work(), "something may have come already");
    site.say(&peer, b"GET /healthz HTTP/1.1\r\nHost: local");
    assert_eq!((peer.heard(), site.serving.connections()), (String::new(), 1));
    assert!(!site.serving.has_work());
    let wait = site.serving.next_wait().expect("no head may take for ever");
    assert!(wait <= HEAD_TIMEOUT + TICK && !wait.is_zero(), "{wait:?}");
    site.say(&peer, b"host\r\n\r\n");
    assert!(peer.heard().starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(peer.wire.borrow().shut, 1, "it could not be shut yet");
    site.turn();
    assert_eq!(peer.wire.borrow().shut, 1, "nobody says that it can be");
    site.takes(&peer, 1);
    assert_eq!(peer.wire.borrow().shut, 2);
    site.takes(&peer, 1);
    assert_eq!(peer.wire.borrow().shut, 2, "it is shut once");
    site.say(&peer, request("/healthz", "").as_bytes());
    assert_eq!((peer.heard(), peer.wire.borrow().come.len()), (String::new(), 0), "it is read, and thrown away");
    assert_eq!((site.serving.connections(), peer.is_gone()), (1, false));
    site.end(&peer);
    assert_eq!((site.serving.connections(), peer.is_gone()), (0, true));
}

#[test]
fn what_does_not_fit_is_written_once_there_is_room_and_then_the_rest() {
    let mut site = Site::new(10, |_| {});
    let peer = site.asker();
    peer.wire.borrow_mut().room = 10;
    site.say(&peer, request("/nowhere", "").as_bytes());
    assert_eq!((peer.heard().as_str(), peer.wire.borrow().shut), ("HTTP/1.1 4", 0));
    site.turn();
    assert_eq!(peer.heard(), "");
    site.takes(&peer, 5);
    assert_eq!((peer.heard().as_str(), peer.wire.borrow().shut), ("04 No", 0));
    site.takes(&peer, 1000);
    assert!(peer.heard().ends_with("nothing is served at this path\n"));
    assert_eq!(peer.wire.borrow().shut, 1);
}

#[test]
fn a_socket_that_says_when_more_comes_is_not_asked_whether_it_does() {
    for (notes, reads) in [(false, 2), (true, 1)] {
        let mut site = Site::new(10, |_| {});
        let peer = site.session();
        peer.wire.borrow_mut().notes = notes;
        peer.wire.borrow_mut().reads = 0;
        site.say(&peer, ping().as_bytes());
        assert!(peer.heard().contains("session.pong"));
        assert_eq!(peer.wire.borrow().reads, reads);
    }
}

#[test]
fn whoever_sends_much_is_read_so_far_in_one_turn_and_on_in_the_next() {
    let mut site = Site::new(10, |_| {});
    let peer = site.session();
    let long = frame("session.ping", &json!({"nonce": "n", "x": "y".repeat(50 << 10)}));
    let more = 6 * long.len() - READ_TURN;
    peer.wire.borrow_mut().come.extend(long.repeat(6).as_bytes());
    site.serving.note(peer.conn, true, false);
    site.turn();
    assert_eq!(peer.wire.borrow().come.len(), more);
    assert!(site.serving.has_work());
    assert_eq!(site.serving.next_wait(), Some(Duration::ZERO));
    site.turn();
    assert_eq!((peer.heard().lines().count(), peer.wire.borrow().come.len()), (6, 0));
}

#[test]
fn a_peer_that_reads_nothing_is_not_read_and_loses_nothing_of_what_it_asks() {
    let mut site = Site::new(10, |config| config.limits.connection.replies_per_connection = 2);
    let peer = site.session();
    site.takes(&peer, 0);
    // More than are in flight, and than may wait. All of it is read at once.
    site.say(&peer, ping().repeat(512 + 40).as_bytes());
    site.say(&peer, ping().as_bytes());
    assert_eq!(peer.wire.borrow().come.len(), ping().len(), "that stays where it is");
    assert_eq!(peer.heard(), "");
    let mut heard = 0;
    for _ in 0..20 {
        site.takes(&peer, usize::MAX);
        site.turn();
        heard += peer.heard().lines().filter(|line| line.contains("session.pong")).count();
    }
    assert_eq!(heard, 512 + 40 + 1);
    assert!(!site.serving.has_work());
}

#[test]
fn who_says_nothing_more_is_told_what_it_is_owed_and_is_let_go() {
    let mut site = Site::new(10, |_| {});
    let peer = site.session();
    peer.wire.borrow_mut().room = 0;
    peer.wire.borrow_mut().come.extend(ping().as_bytes());
    site.end(&peer);
    assert!(!peer.is_gone() && site.serving.connections() == 1);
    site.takes(&peer, usize::MAX);
    site.turn();
    assert!(peer.heard().contains("session.pong"));
    site.turn();
    assert!(peer.is_gone());
}

/// Says that nobody is anybody, once it is told to.
struct Slow(Mutex<Receiver<()>>);

impl Authenticator for Slow {
    fn verify(&self, _: &Credential) -> Option<Verdict> {
        self.0.lock().expect("nobody panics").recv().expect("it is told");
        None
    }
}

#[test]
fn who_says_nothing_more_is_told_what_becomes_of_its_credential() {
    let (tell, told) = channel();
    let host = Host::new(Config::new("test", "1"), Registry::default()).with_authenticator(Slow(Mutex::new(told)));
    let mut site = Site::of(10, host, |_| {});
    let peer = site.speaker(local());
    site.say(&peer, frame("session.hello", &hello_payload("tok-a")).as_bytes());
    site.end(&peer);
    assert!(!peer.is_gone() && peer.heard().is_empty(), "it is owed that");
    tell.send(()).expect("it waits");
    let mut heard = String::new();
    while heard.is_empty() {
        if site.serving.next_wait() != Some(Duration::ZERO) {
            site.woken.recv_timeout(PATIENCE).expect("an answer");
        }
        site.turn();
        heard += &peer.heard();
    }
    assert!(heard.contains("UNAUTHENTICATED"), "{heard}");
    site.turn();
    assert!(peer.is_gone());
}

#[test]
fn a_websocket_begins_behind_its_head_with_whatever_has_come_already() {
    let mut site = Site::new(10, |_| {});
    let peer = site.asker();
    let (head, accept) = upgrade_request("localhost", "/arcp");
    let mut client = Framing::websocket_client(1 << 20);
    client.write(
        &json!({"arcp": "1.1", "id": "1", "type": "session.hello", "payload": hello_payload("tok-a")}).to_string(),
    );
    let first = [head.as_bytes(), client.output()].concat();
    client.output().clear();
    site.say(&peer, &first);
    let gone = peer.taken();
    let at = gone.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&gone[..at]);
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains(&accept), "{head}");
    client.feed(&gone[at..]);
    let Some(Framed::Frame(welcome)) = client.next_frame() else { panic!("no welcome") };
    assert!(String::from_utf8_lossy(&welcome).contains("session.welcome"));
    // A WebSocket has no half that ends.
    site.end(&peer);
    assert!(peer.is_gone());
}

#[test]
fn who_reads_none_of_its_pongs_is_held_one_more_and_then_dropped() {
    for (pings, is_held) in [(2, false), (3, true)] {
        let mut site = Site::new(10, |config| {
            config.limits.connection.pong_bytes_per_connection = 30;
            config.timing.slow_reader_grace = Duration::ZERO;
        });
        let peer = site.asker();
        site.say(&peer, upgrade_request("localhost", "/arcp").0.as_bytes());
        peer.heard();
        peer.wire.borrow_mut().room = 0;
        // A ping of ten bytes, masked with nothing: twelve bytes of a pong.
        let ping = [&[0x89, 0x80 | 10, 0, 0, 0, 0][..], b"0123456789"].concat();
        site.say(&peer, &ping.repeat(pings));
        site.turn();
        assert_eq!(peer.is_gone(), is_held, "{pings}");
    }
}

#[test]
fn pages_are_for_whom_they_are_meant() {
    let mut site = Site::new(100, |_| {});
    let token = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let (ok, unknown, refused) = ("200 OK", "401 Unauthorized", "403 Forbidden");
    for (from, path, headers, status, text) in [
        (address(1), "/healthz", String::new(), ok, "ok\n"),
        (address(1), "/readyz?x=1", String::new(), ok, "ready\n"),
        (local(), "/stats", String::new(), unknown, "give a token: Authorization: Bearer TOKEN\n"),
        (local(), "/stats", token("no"), refused, "this token is of no operator or auditor\n"),
        (local(), "/stats", token("tok-a"), refused, "this token is of no operator or auditor\n"),
        (address(1), "/stats", token("tok-op"), ok, "\"sessions\":0,"),
        (local(), "/metrics", String::new(), ok, "\narcp_sessions 0\n"),
        (Origin::Unknown, "/metrics", String::new(), unknown, ""),
        (address(1), "/metrics", String::new(), unknown, ""),
        (local(), "/metrics", "Via: 1.1 proxy\r\n".into(), unknown, ""),
        (local(), "/metrics", token("tok-a"), refused, ""),
        (address(1), "/metrics", token("tok-op"), ok, "\narcp_sessions 0\n"),
        (local(), "/elsewhere", String::new(), "404 Not Found", ""),
    ] {
        let (found, body) = site.page(from, path, &headers);
        assert!(found == status && body.contains(text), "{from:?} {path} {headers}: {found}\n{body}");
    }
    let open = site.page(local(), "/metrics", "Accept: text/plain, application/openmetrics-text;version=1.0.0\r\n").1;
    assert!(open.ends_with("# EOF\n") && !site.page(local(), "/metrics", "").1.contains("# EOF"));
}

#[test]
fn where_a_token_is_set_for_what_is_counted_nobody_has_it_without() {
    let own = Secret::new("mine".into());
    let mut site = Site::with(100, |_| {}, |config| config.metrics_token = Some(own));
    for (from, headers, status) in [
        (local(), "", "401 Unauthorized"),
        (address(1), "Authorization: Bearer mine\r\n", "200 OK"),
        (local(), "Authorization: Bearer other\r\n", "403 Forbidden"),
        (local(), "Authorization: Bearer tok-op\r\n", "200 OK"),
    ] {
        assert_eq!(site.page(from, "/metrics", headers).0, status, "{headers}");
    }
}

#[test]
fn who_guesses_at_a_page_is_not_judged_for_a_while() {
    let mut site = Site::new(100, |config| config.limits.connection.wrong_credentials = 2);
    let mut ask = |from, token: &str| site.page(from, "/stats", &format!("Authorization: Bearer {token}\r\n")).0;
    assert_eq!([ask(address(1), "x"), ask(address(1), "y")], ["403 Forbidden", "403 Forbidden"]);
    assert_eq!(ask(address(1), "z"), "429 Too Many Requests");
    assert_eq!([ask(address(2), "z"), ask(Origin::Unknown, "z")], ["403 Forbidden", "403 Forbidden"]);
}

#[test]
fn there_is_room_for_whoever_comes_while_somebody_without_a_session_can_go() {
    let mut site = Site::new(2, |_| {});
    let first = site.session();
    let silent = site.speaker(local());
    site.turn();
    assert!(site.serving.may_accept());
    let second = site.session();
    assert!(silent.is_gone() && !first.is_gone() && site.serving.connections() == 2);
    assert!(!site.serving.may_accept(), "both have sessions");
    assert_eq!(site.carry(local(), false).0, None);
    site.end(&first);
    assert!(first.is_gone() && !second.is_gone());
    // It is looked again after a while.
    assert!(!site.serving.may_accept());
    until("it is looked again", || site.serving.accept_is_due().then_some(()));
    assert!(site.serving.may_accept());
    assert!(!site.serving.accept_is_due(), "once");
    site.serving.accept_later(&"there is no memory");
    assert!(!site.serving.may_accept());
    assert!(site.serving.next_wait().expect("it is tried again") <= Duration::from_millis(100) + TICK);
}

#[test]
fn the_runtime_is_told_of_no_connection_that_it_does_not_know() {
    let mut site = Site::new(1, |_| {});
    let asks = site.asker();
    site.turn();
    site.serving.accept(local(), Begins::Request, |_| Err(ErrorKind::Other.into()));
    assert!(asks.is_gone() && !site.serving.has_work());
    let speaks = site.speaker(local());
    site.turn();
    site.serving.accept(local(), Begins::Request, |_| Err(ErrorKind::Other.into()));
    assert!(speaks.is_gone() && site.serving.has_work());
}

#[test]
fn a_connection_that_carries_others_is_told_why_it_ends() {
    let mut site = Site::new(2, |config| {
        config.limits.stream.failed_streams = 2;
        config.limits.connection.tls_handshakes = 1;
        config.timing.tls_handshake_timeout = HOUR;
    });
    site.turn();
    let (first, ends) = site.carry(address(1), false);
    let first = first.expect("there is room");
    assert!(site.serving.next_wait().expect("a stream has to come") <= HEAD_TIMEOUT + TICK);
    for _ in 0..2 {
        site.serving.stream_failed(first);
    }
    assert_eq!(told(&ends), []);
    site.serving.stream_failed(first);
    assert_eq!(told(&ends), [CarrierEnd::Failed]);
    let (second, ends) = site.carry(address(1), true);
    let wait = site.serving.next_wait().expect("a handshake takes no longer");
    assert!(wait > HEAD_TIMEOUT + TICK && wait <= HOUR + TICK, "{wait:?}");
    let (third, others) = site.carry(address(1), true);
    assert_eq!((told(&ends), third.is_some()), (vec![CarrierEnd::TooMany], true), "one handshake at a time");
    let third = third.expect("it is there");
    site.serving.carrier_is_secure(second.expect("it was there"));
    site.serving.carrier_is_secure(third);
    assert!(site.serving.next_wait().expect("a stream has to come") <= HEAD_TIMEOUT + TICK);
    let (fourth, last) = site.carry(address(1), true);
    assert_eq!((told(&others), fourth.is_some()), (vec![], true));
    let (fifth, _) = site.carry(address(1), false);
    assert_eq!((told(&others), told(&last)), (vec![CarrierEnd::TooMany], vec![]), "who was silent for longest goes");
    site.serving.carrier_is_gone(fifth.expect("it is there"));
    site.serving.carrier_is_gone(fourth.expect("it is there"));
    assert_eq!(site.serving.next_wait(), None);
}

#[test]
fn a_carrier_without_time_is_late() {
    let mut site = Site::new(10, |config| config.timing.tls_handshake_timeout = Duration::ZERO);
    let (_, ends) = site.carry(address(1), true);
    site.turn();
    assert_eq!(told(&ends), [CarrierEnd::Late]);
    assert_eq!(site.serving.next_wait(), None);
}

#[test]
fn streams_count_in_the_place_of_their_carrier_until_one_has_a_session() {
    let mut site = Site::new(3, |config| {
        config.limits.stream.failed_streams = 1;
        config.timing.handshake_timeout = HOUR;
    });
    let (carrier, ends) = site.carry(address(1), false);
    let carrier = carrier.expect("there is room");
    let one = site.stream(carrier);
    site.turn();
    let wait = site.serving.next_wait().expect("its session has to come");
    assert!(wait > HEAD_TIMEOUT + TICK, "{wait:?}");
    site.end(&one);
    assert!(one.is_gone() && told(&ends).is_empty(), "one may fail");
    assert!(site.serving.next_wait().expect("another has to come") <= HEAD_TIMEOUT + TICK);
    let (two, three) = (site.stream(carrier), site.stream(carrier));
    site.turn();
    site.greet(&two);
    // Two streams and their carrier: who has no session goes for whoever comes.
    let asks = site.asker();
    assert!(three.is_gone() && !two.is_gone() && !asks.is_gone());
    assert_eq!(told(&ends), [CarrierEnd::Failed], "the second one that came to nothing");
    assert!(!site.serving.may_accept() || site.serving.connections() == 2);
}

#[test]
fn who_has_had_a_session_may_be_without_a_stream_for_a_while() {
    let mut site = Site::new(10, |config| config.limits.stream.failed_streams = 0);
    let (carrier, ends) = site.carry(address(1), false);
    let carrier = carrier.expect("there is room");
    let one = site.stream(carrier);
    site.turn();
    site.greet(&one);
    site.end(&one);
    assert!(one.is_gone() && told(&ends).is_empty());
    let wait = site.serving.next_wait().expect("not for ever");
    assert!(wait > HEAD_TIMEOUT + TICK && wait <= Duration::from_secs(30) + TICK, "{wait:?}");
    let again = site.stream(carrier);
    site.turn();
    site.end(&again);
    assert_eq!(told(&ends), [CarrierEnd::Failed]);
}

#[test]
fn a_drain_waits_for_jobs_and_a_shutdown_for_nobody() {
    let mut site = Site::with(10, |_| {}, |config| config.drain_grace = None);
    assert_eq!(site.serving.stopped(), Ok(None));
    let peer = site.session();
    site.say(&peer, frame("job.submit", &json!({"agent": "never", "input": {}})).as_bytes());
    assert!(peer.heard().contains("job.accepted"));
    assert_eq!(site.tasks.lock().expect("nobody panics").len(), 1);
    let handle = site.serving.handle();
    handle.drain();
    for _ in 0..3 {
        assert_eq!(site.serving.stopped(), Ok(None));
        site.turn();
        assert!(!site.serving.is_ending() && site.serving.may_accept());
    }
    let (status, why) = site.page(local(), "/readyz", "");
    assert_eq!((status.as_str(), why.contains("about to end")), ("503 Service Unavailable", true), "{why}");
    let (carrier, ends) = site.carry(local(), false);
    handle.shutdown();
    assert_eq!(site.serving.stopped(), Ok(None));
    assert!(site.serving.is_ending() && !site.serving.may_accept());
    assert_eq!((told(&ends), site.carry(local(), false).0), (vec![CarrierEnd::Stopping], None));
    assert!(peer.heard().lines().count() > 0, "it is told goodbye");
    site.end(&peer);
    assert!(peer.is_gone());
    site.serving.carrier_is_gone(carrier.expect("there was room"));
    let stopped = site.serving.stopped().expect("the store is ours").expect("nobody is there");
    assert_eq!(stopped.cut.len(), 1);
}

#[test]
fn a_drain_whose_grace_is_over_ends_and_one_with_nothing_to_do_ends_at_once() {
    for (submits, grace) in [(true, Some(Duration::ZERO)), (false, None)] {
        let mut site = Site::with(10, |_| {}, |config| config.drain_grace = grace);
        let peer = site.session();
        if submits {
            site.say(&peer, frame("job.submit", &json!({"agent": "never", "input": {}})).as_bytes());
        }
        site.serving.handle().drain();
        let since = Instant::now();
        assert_eq!(site.serving.stopped(), Ok(None));
        assert!(site.serving.is_ending(), "{submits}");
        // Nobody closes, and nothing is written any more.
        let stopped = until("enough was waited", || site.serving.stopped().expect("the store is ours"));
        assert!(since.elapsed() >= LAST_WAIT, "its peer may still take what it was told");
        assert_eq!(stopped.cut.len(), usize::from(submits));
    }
}

#[test]
fn a_loop_that_turns_is_not_stuck_and_one_that_does_not_is() {
    let mut site = Site::new(10, |_| {});
    let handle = site.serving.handle();
    assert!(!handle.turns_within(Duration::ZERO));
    while site.woken.try_recv().is_ok() {}
    let asks = std::thread::spawn(move || handle.turns_within(PATIENCE));
    site.woken.recv_timeout(PATIENCE).expect("it is asked for a turn");
    site.turn();
    assert!(asks.join().expect("it says so"));
}

#[test]
fn where_others_could_listen_nothing_is_served_without_tls() {
    let config = |insecure| ServerConfig { insecure, ..ServerConfig::new(([127, 0, 0, 1], 0).into()) };
    for (place, safe, insecure) in [
        ("127.0.0.1:1", Ok(()), Ok(())),
        ("[::1]:1", Ok(()), Ok(())),
        ("[::ffff:127.0.0.1]:1", Ok(()), Ok(())),
        ("10.0.0.1:1", Err("cleartext"), Ok(())),
        ("ws://10.0.0.1:1", Err("cleartext"), Ok(())),
        ("h2c://10.0.0.1:1", Err("cleartext"), Ok(())),
        ("wss://127.0.0.1:1", Err("no certificate"), Err("no certificate")),
        ("h2://10.0.0.1:1", Err("no certificate"), Err("no certificate")),
        ("quic://10.0.0.1:1", Err("no certificate"), Err("no certificate")),
        ("unix:/a", Ok(()), Ok(())),
        ("stdio:", Ok(()), Ok(())),
    ] {
        let place: Listen = place.parse().expect("a place");
        for (config, expected) in [(config(false), safe), (config(true), insecure)] {
            let allowed = config.allows(&place).map_err(|error| match error {
                HostError::Cleartext(_) => "cleartext",
                HostError::NoCertificate(_) => "no certificate",
                other => panic!("{other}"),
            });
            assert_eq!(allowed, expected, "{place}");
        }
    }
    let plain = config(false).settled("10.0.0.1:1".parse().expect("a place"));
    assert_eq!(plain.to_string(), "ws://10.0.0.1:1");
}

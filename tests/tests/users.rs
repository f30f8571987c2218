//! Peers of Unix sockets: they are identified by their user, and what the users share.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};

use arcp_blocking::ServerConfig;
use arcp_host::server::{Begins, FIRST_CONN, Origin, ServerLoop, Socket, Vouched};
use arcp_host::store::MemoryStore;
use arcp_proto::id::{ConnId, Principal};
use arcp_proto::runtime::{Config, Notice, Transport};
use arcp_tests::raw::{hello_payload, open_payload};
use arcp_tests::server::{PATIENCE, Running};
use rustix::process::geteuid;
use serde_json::{Value, json};

/// The near end of a pair, as an adapter has it.
struct Near(UnixStream);

impl Read for Near {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Near {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for Near {
    fn shut_down(&mut self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }
}

/// A server that is told of users as listeners tell of them.
struct Site {
    serving: ServerLoop<Near>,
    notices: Receiver<Notice>,
    /// Told when there is something to do.
    woken: Receiver<()>,
    accepted: u64,
}

/// The far end.
struct Peer(UnixStream);

impl Site {
    fn new(owner: Option<&str>, change: impl FnOnce(&mut Config)) -> Site {
        let (sender, notices) = channel();
        let host = Running::host(Box::<MemoryStore>::default(), &[], change);
        let host = host.observed_by(move |notice| drop(sender.send(notice.clone())));
        let config =
            ServerConfig { owner: owner.and_then(Principal::new), ..ServerConfig::new(([127, 0, 0, 1], 0).into()) };
        let (wake, woken) = channel();
        let serving = ServerLoop::new(&config, 100, host, move || {
            let _ = wake.send(());
        })
        .expect("it starts");
        Site { serving, notices, woken, accepted: 0 }
    }

    /// Somebody who runs as this user.
    fn user(&mut self, user: u32) -> Peer {
        let (near, far) = UnixStream::pair().expect("a pair");
        near.set_nonblocking(true).expect("it does not wait");
        far.set_nonblocking(true).expect("it does not wait");
        let begins = Begins::Frames(Transport::Lines, Vouched::default());
        self.serving.accept(Origin::User(user), begins, |_| Ok(Near(near)));
        self.accepted += 1;
        self.turn();
        Peer(far)
    }

    fn turn(&mut self) {
        for conn in FIRST_CONN..FIRST_CONN + self.accepted {
            self.serving.note(ConnId(conn), true, true);
        }
        self.serving.turn(true).expect("the store is ours");
    }

    /// What is answered to this; `None`: the connection is closed.
    fn ask(&mut self, peer: &mut Peer, kind: &str, payload: &Value) -> Option<Value> {
        let frame = json!({"arcp": "1.1", "id": "1", "type": kind, "payload": payload});
        peer.0.write_all(format!("{frame}\n").as_bytes()).expect("written");
        self.hear(peer)
    }

    fn hear(&mut self, peer: &mut Peer) -> Option<Value> {
        let (mut line, mut byte) = (Vec::new(), [0]);
        self.turn();
        loop {
            match peer.0.read(&mut byte) {
                Ok(0) => return None,
                Ok(_) if byte == *b"\n" => return Some(serde_json::from_slice(&line).expect("JSON")),
                Ok(_) => line.extend(byte),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Credentials are judged in another thread.
                    self.woken.recv_timeout(PATIENCE).expect("an answer");
                    self.turn();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn is_closed(&mut self, peer: &mut Peer) -> bool {
        self.turn();
        match peer.0.read(&mut [0]) {
            Ok(0) => true,
            Ok(_) => panic!("something was said"),
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Whose session was opened last.
    fn opened(&self) -> String {
        let opened = |notice| {
            let Notice::SessionOpened { principal, .. } = notice else { return None };
            Some(principal.to_string())
        };
        self.notices.try_iter().filter_map(opened).last().expect("a session")
    }
}

fn hello(auth: &Value) -> Value {
    let mut hello = hello_payload("");
    hello["auth"] = auth.clone();
    hello
}

fn code(answer: Option<&Value>) -> &str {
    answer.and_then(|answer| answer["payload"]["code"].as_str()).unwrap_or_default()
}

fn own() -> u32 {
    geteuid().as_raw()
}

#[test]
fn a_user_is_a_principal_of_its_own_and_the_runtime_s_is_its_owner() {
    for (owner, user, expected) in [
        (None, own(), format!("unix#{}", own())),
        (Some("local"), own(), "local".to_string()),
        (Some("local"), own() + 1, format!("unix#{}", own() + 1)),
        (Some("local"), 0, if own() == 0 { "local".to_string() } else { "unix#0".to_string() }),
    ] {
        let mut site = Site::new(owner, |_| {});
        let mut peer = site.user(user);
        let welcome = site.ask(&mut peer, "session.hello", &hello(&json!({"scheme": "none"}))).expect("an answer");
        assert_eq!((welcome["type"].as_str(), site.opened()), (Some("session.welcome"), expected), "{welcome}");
    }
}

#[test]
fn a_token_is_judged_whatever_user_brings_it() {
    let mut site = Site::new(Some("local"), |_| {});
    let mut right = site.user(own());
    site.ask(&mut right, "session.hello", &hello_payload("tok-a")).expect("an answer");
    assert_eq!(site.opened(), "a");
    for (kind, payload) in [
        ("session.hello", hello_payload("not a token")),
        ("session.open", open_payload("not a token")),
        ("session.hello", hello(&json!({"scheme": "signed_jwt", "token": "a.b.c"}))),
        ("session.hello", hello(&json!({"scheme": "mtls"}))),
    ] {
        let mut wrong = site.user(own());
        let refused = site.ask(&mut wrong, kind, &payload);
        assert_eq!(code(refused.as_ref()), "UNAUTHENTICATED", "{payload}: {refused:?}");
        assert_eq!(site.hear(&mut wrong), None, "{payload}: and it is closed");
    }
    // Who brings none is asked for none, in either family.
    let mut silent = site.user(own());
    let accepted = site.ask(&mut silent, "session.open", &open_payload("")).expect("an answer");
    assert_eq!((accepted["type"].as_str(), site.opened()), (Some("session.accepted"), "local".to_string()));
}

#[test]
fn a_fingerprint_says_nothing_where_no_certificate_is_shown() {
    let mut site = Site::new(None, |_| {});
    let mut peer = site.user(7);
    let mut open = open_payload("");
    open["client"]["fingerprint"] = json!("sha256:00");
    let accepted = site.ask(&mut peer, "session.open", &open).expect("an answer");
    assert_eq!(accepted["type"], "session.accepted", "as on any port: {accepted}");
}

#[test]
fn whoever_is_another_user_resumes_nothing_with_a_token_that_was_overheard() {
    let mut site = Site::new(Some("local"), |_| {});
    let mut peer = site.user(own());
    let welcome = site.ask(&mut peer, "session.hello", &hello(&json!({"scheme": "none"}))).expect("an answer");
    drop(peer);
    site.turn();
    let mut resume = hello(&json!({"scheme": "none"}));
    resume["resume"] = json!({"resume_token": welcome["payload"]["resume_token"], "last_event_seq": 0});
    let mut other = site.user(own() + 1);
    assert_eq!(code(site.ask(&mut other, "session.hello", &resume).as_ref()), "UNAUTHENTICATED");
    let mut back = site.user(own());
    let welcome = site.ask(&mut back, "session.hello", &resume).expect("an answer");
    assert_eq!(welcome["type"], "session.welcome", "{welcome}");
}

#[test]
fn users_share_their_bounds_with_nobody_else() {
    let mut site = Site::new(None, |config| config.limits.connection.handshaking_connections_per_network = 3);
    let mut one = site.user(1);
    let mut others: Vec<Peer> = (0..4).map(|_| site.user(2)).collect();
    assert!(site.is_closed(&mut others[0]), "the one of them that was silent for longest");
    assert!(!site.is_closed(&mut others[1]) && !site.is_closed(&mut one));
}

#[test]
fn a_user_that_guesses_tokens_is_not_judged_for_a_while_and_others_are() {
    let mut site = Site::new(None, |config| config.limits.connection.wrong_credentials = 2);
    let mut guess = |user, token: &str| {
        let mut peer = site.user(user);
        let answer = site.ask(&mut peer, "session.hello", &hello_payload(token));
        let kind = answer.as_ref().and_then(|answer| answer["type"].as_str()).unwrap_or_default().to_string();
        (kind, code(answer.as_ref()).to_string())
    };
    for _ in 0..2 {
        assert_eq!(guess(1, "wrong").1, "UNAUTHENTICATED");
    }
    let refused = guess(1, "wrong again");
    assert_ne!(refused.1, "UNAUTHENTICATED", "{refused:?}");
    assert_eq!(refused.0, "session.error");
    assert_eq!(guess(2, "wrong").1, "UNAUTHENTICATED", "another user is judged");
    assert_eq!(guess(2, "tok-a").0, "session.welcome");
}

#[test]
fn half_of_a_message_counts_against_its_user() {
    let mut site = Site::new(None, |config| config.limits.connection.partial_bytes = 64 << 10);
    let half = vec![b'x'; 20 << 10];
    let mut one = site.user(1);
    one.0.write_all(&half).expect("written");
    let mut others: Vec<Peer> = (0..3).map(|_| site.user(2)).collect();
    for other in &mut others {
        other.0.write_all(&half).expect("written");
    }
    site.turn();
    assert!(site.is_closed(&mut others[0]), "the one that began first");
    assert!(!site.is_closed(&mut one) && !site.is_closed(&mut others[1]) && !site.is_closed(&mut others[2]));
}

#[test]
fn until_the_session_is_open_a_line_is_as_long_as_a_handshake_may_be() {
    let mut site = Site::new(None, |config| config.limits.frame.handshake_frame_bytes = 4 << 10);
    let long = "x".repeat(5 << 10);
    let mut peer = site.user(1);
    peer.0.write_all(format!("{long}\n").as_bytes()).expect("written");
    let refused = site.hear(&mut peer).expect("an answer");
    assert!(refused["payload"]["message"].as_str().is_some_and(|why| why.contains("4096 bytes")), "{refused}");
    assert_eq!(site.hear(&mut peer), None, "and it is closed");
    let mut peer = site.user(1);
    site.ask(&mut peer, "session.hello", &hello(&json!({"scheme": "none"}))).expect("an answer");
    let pong = site.ask(&mut peer, "session.ping", &json!({"nonce": "n", "x": long})).expect("an answer");
    assert_eq!(pong["type"], "session.pong", "{pong}");
}

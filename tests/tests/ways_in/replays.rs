//! What was said once is said again, or elsewhere: answers to challenges, tokens of
//! sessions, the bytes of a TLS connection; and answers in another scheme than was
//! asked for.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::rc::Rc;

use arcp_proto::wire::Family;
use arcp_tests::server::connect_to;
use serde_json::{Value, json};

use crate::cases::{Came, FAMILIES, code, come, frame, opening, session};
use crate::desk::{Given, PLAIN};
use crate::everywhere;
use crate::scheme::{self, Scheme};
use crate::transport::{Peer, Recorded, Site, WSS, secured};

/// Schemes that ask for a proof.
const ASKING: [&Scheme; 6] = [
    &scheme::TOKEN,
    &scheme::TOKEN_FILE,
    &scheme::SIGNED_JWT,
    &scheme::DELEGATION,
    &scheme::INTROSPECTED,
    &scheme::OAUTH2_KEYS,
];

/// Somebody who opened without a proof and was asked for one; the nonce.
fn asked(site: &Site<'_>, scheme: &Scheme) -> (Box<dyn Peer>, Value) {
    let Came::Asked(peer, challenge) = come(site, Family::Open, &Given::bare(scheme.word)) else {
        panic!("{}: it is not asked", scheme.name)
    };
    assert_eq!(challenge["payload"]["scheme"], scheme.word);
    (peer, challenge["payload"]["nonce"].clone())
}

/// What an answer comes to.
fn answer(peer: &mut dyn Peer, proof: Value) -> Value {
    peer.say(&frame("2", "session.authenticate", proof));
    peer.hear().expect("a word of it")
}

fn is_refused(told: &Value) {
    assert_eq!((told["type"].as_str(), code(told).as_str()), (Some("session.unauthenticated"), "UNAUTHENTICATED"));
}

#[test]
fn an_answer_counts_for_its_own_challenge_in_its_own_scheme_and_three_wrong_ones_end_it() {
    for scheme in ASKING {
        everywhere(scheme, |site| {
            // Where somebody vouches for who comes, nobody is asked.
            if site.transport.vouches {
                return;
            }
            let proof = (scheme.answer.expect("it asks"))(site.desk);
            if site.is_shared() {
                let ((mut first, theirs), (mut second, own)) = (asked(site, scheme), asked(site, scheme));
                assert_ne!(theirs, own);
                is_refused(&answer(&mut *second, json!({"response": proof, "nonce": theirs})));
                let told = answer(&mut *second, json!({"response": proof, "nonce": own}));
                assert_eq!(told["type"], "session.accepted", "{}: {told}", scheme.name);
                drop(second);
                let told = answer(&mut *first, json!({"response": proof, "nonce": theirs}));
                assert_eq!(told["type"], "session.accepted", "{}: {told}", scheme.name);
            }
            let before = site.opened();
            let (mut peer, nonce) = asked(site, scheme);
            // What would do as a bearer token, and what would need no proof at all.
            let other = if scheme.word == "bearer" { "nonsense" } else { PLAIN };
            is_refused(&answer(&mut *peer, json!({"response": other, "nonce": nonce})));
            is_refused(&answer(&mut *peer, json!({"auth": {"scheme": "none"}, "response": "", "nonce": nonce})));
            is_refused(&answer(&mut *peer, json!({"response": proof, "nonce": "made up"})));
            assert_eq!(peer.hear(), None, "{}: closed", scheme.name);
            assert_eq!(site.opened(), before, "{}", scheme.name);
        });
    }
}

#[test]
fn who_answers_before_it_was_asked_is_in_no_sooner() {
    everywhere(&scheme::SIGNED_JWT, |site| {
        if site.transport.vouches {
            return;
        }
        let before = site.opened();
        let mut peer = site.dial(&Given::default()).expect("a connection");
        let proof = json!({"response": site.desk.jwt(0, json!({})), "nonce": "0123456789abcdef"});
        peer.say(&opening(Family::Open, &Given::bare("signed_jwt")));
        peer.say(&frame("2", "session.authenticate", proof));
        let asked = peer.hear().expect("a challenge");
        assert_eq!(asked["type"], "session.challenge");
        // It came too early, or was to no challenge: by the next word that is known.
        peer.say(&frame("3", "session.authenticate", json!({"response": "x", "nonce": "made up"})));
        is_refused(&peer.hear().expect("a word of it"));
        assert_eq!(site.opened(), before);
    });
}

/// Comes back to a session with this.
fn come_back(site: &Site<'_>, family: Family, given: &Given, told: &Value) -> Result<Value, String> {
    let claim = json!({"resume_token": told["payload"]["resume_token"], "last_event_seq": 0});
    let mut peer = match family {
        Family::Hello => {
            let mut peer = site.dial(given).expect("a connection");
            let mut hello: Value = serde_json::from_str(&opening(family, given)).expect("JSON");
            hello["payload"]["resume"] = claim;
            peer.say(&hello.to_string());
            peer
        }
        Family::Open => {
            let (mut peer, _) = session(site, family, given);
            peer.say(&frame("2", "session.resume", claim));
            peer
        }
    };
    let answer = peer.hear().expect("a word of it");
    match answer["type"].as_str().expect("a type") {
        "session.welcome" | "session.resumed" => Ok(answer),
        _ => {
            assert_eq!(peer.hear(), None, "who is refused is closed");
            Err(code(&answer))
        }
    }
}

#[test]
fn a_session_is_resumed_by_its_principal_alone_and_by_each_token_once() {
    for scheme in scheme::ALL {
        everywhere(scheme, |site| {
            // The runtime of a pipe ends with its peer: nobody comes back to it.
            if !site.is_shared() {
                return;
            }
            let [alice, bob] = (scheme.right)(site.desk);
            for family in FAMILIES {
                let (peer, first) = session(site, family, &alice);
                drop(peer);
                let what = format!("{} {:?} {family:?}", scheme.name, site.transport);
                // Who has no name is whoever has the token.
                if scheme.word != "none" {
                    let stolen = come_back(site, family, &bob, &first).expect_err(&what);
                    assert_eq!(stolen, "UNAUTHENTICATED", "{what}");
                }
                let again = come_back(site, family, &alice, &first).unwrap_or_else(|code| panic!("{what}: {code}"));
                let of = |told: &Value, part: &str| told["payload"][part].clone();
                assert_ne!(of(&again, "resume_token"), of(&first, "resume_token"), "{what}");
                let used = come_back(site, family, &alice, &first).expect_err(&what);
                assert_eq!(used, "UNAUTHENTICATED", "{what}");
                come_back(site, family, &alice, &again).unwrap_or_else(|code| panic!("{what}: {code}"));
            }
        });
    }
}

#[test]
fn the_bytes_of_a_tls_connection_are_worth_nothing_on_another_one() {
    everywhere(&scheme::MTLS, |site| {
        // HTTP/2 has the same handshake, and QUIC keys for each connection.
        if site.transport.name != WSS.name {
            return;
        }
        let [alice, _] = (scheme::MTLS.right)(site.desk);
        let written = Rc::new(RefCell::new(Vec::new()));
        let socket = Recorded { socket: connect_to(site.address()), written: written.clone() };
        let stream = secured(site.desk, &alice, site.address(), socket).expect("a handshake");
        let url = format!("ws://{}/arcp", site.address());
        let (mut peer, _) = tungstenite::client(url, stream).expect("a WebSocket");
        peer.say(&opening(Family::Hello, &alice));
        assert_eq!(peer.hear().expect("a welcome")["type"], "session.welcome");
        let before = site.opened();
        for bytes in [written.borrow().len(), written.borrow().len() / 2] {
            let mut replayed = connect_to(site.address());
            replayed.write_all(&written.borrow()[..bytes]).expect("written");
            let _ = replayed.shutdown(std::net::Shutdown::Write);
            let mut said = Vec::new();
            // It ends: with an alert, or a reset where bytes were left unread.
            let _ = replayed.read_to_end(&mut said);
            assert!(!said.windows(5).any(|bytes| bytes == b"HTTP/"), "nothing is answered in cleartext");
        }
        assert_eq!(site.opened(), before);
    });
}

#[test]
fn a_port_with_tls_takes_nothing_in_cleartext() {
    everywhere(&scheme::MTLS, |site| {
        // HTTP/2 over TLS is the same port; QUIC knows nothing else.
        if site.transport.name != WSS.name {
            return;
        }
        let before = site.opened();
        let mut socket = connect_to(site.address());
        let upgrade = "GET /arcp HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        socket.write_all(&upgrade.as_bytes()[..1]).expect("written");
        let mut said = String::new();
        let _ = socket.read_to_string(&mut said);
        assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("wss://"), "{said}");
        // And all at once, with a token that would count.
        let mut socket = connect_to(site.address());
        let hello = opening(Family::Hello, &Given::new("bearer", "tok-alice"));
        let _ = socket.write_all(
            &[upgrade.as_bytes(), &[0x81, 0xfe], &(hello.len() as u16).to_be_bytes(), &[0; 4], hello.as_bytes()]
                .concat(),
        );
        let mut said = Vec::new();
        let _ = socket.read_to_end(&mut said);
        assert!(!said.starts_with(b"HTTP/1.1 101"), "no WebSocket");
        assert_eq!(site.opened(), before);
    });
}

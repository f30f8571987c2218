//! Unix sockets over each adapter: what peers do that mean no good.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use arcp_blocking::Target;
use arcp_proto::runtime::{Config, Notice};
use arcp_tests::raw::hello_payload;
use arcp_tests::server::PATIENCE;
use serde_json::json;

use crate::SOCKETS;
use crate::peer::Peer;
use crate::site::{Site, Way};

/// Time to open a session in: those who do are not late on a loaded machine.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// What is waited for when nothing should come.
const BRIEFLY: Duration = Duration::from_millis(100);

fn path(site: &Site) -> PathBuf {
    match &site.target {
        Target::Unix(path) => path.clone(),
        Target::WebSocket { .. } | Target::Http2 { .. } | Target::Quic { .. } | Target::Program(_) => {
            panic!("{} has no file", site.target)
        }
    }
}

fn connect(site: &Site) -> UnixStream {
    let socket = UnixStream::connect(path(site)).expect("a connection");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// What is read up to the end.
fn rest(socket: &mut UnixStream) -> String {
    let mut rest = String::new();
    if let Err(error) = socket.read_to_string(&mut rest) {
        // What was not read any more is answered by a reset.
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
    rest
}

fn on_each(change: fn(&mut Config), play: impl Fn(Way, &Site)) {
    for way in SOCKETS {
        play(*way, &Site::start(*way, change));
    }
}

#[test]
fn who_brings_no_credential_is_known_by_its_user() {
    on_each(
        |_| {},
        |way, site| {
            let mut hello = hello_payload("");
            hello["auth"] = json!({"scheme": "none"});
            let mut peer = site.peer();
            peer.say("h", "session.hello", hello);
            peer.until("session.welcome");
            peer.say("1", "job.submit", json!({"agent": "echo", "input": 7}));
            assert_eq!(peer.until("job.result")["payload"]["result"], 7, "{way:?}");
        },
    );
}

#[test]
fn an_empty_token_is_a_credential_that_does_not_count_and_not_none() {
    on_each(
        |_| {},
        |way, site| {
            let mut hello = hello_payload("");
            hello["auth"] = json!({"scheme": "bearer", "token": ""});
            let mut peer = site.peer();
            peer.say("h", "session.hello", hello);
            let told = peer.until("session.error");
            assert_eq!(told["payload"]["code"], "UNAUTHENTICATED", "{way:?} {told}");
        },
    );
}

#[test]
fn a_peer_that_stops_in_any_step_is_given_up() {
    let hello = format!("{}\n", json!({"id": "1", "type": "session.hello", "payload": hello_payload("tok-a")}));
    let open = format!(
        "{}\n",
        json!({"arcp": "1.1", "id": "1", "type": "session.open",
               "payload": {"auth": {"scheme": "bearer", "token": "x"}, "client": {"kind": "c", "version": "1"}}})
    );
    on_each(
        |config| config.timing.handshake_timeout = HANDSHAKE,
        |way, site| {
            for said in ["", "{", "\n\n", &hello[..hello.len() - 1]] {
                let mut socket = connect(site);
                socket.write_all(said.as_bytes()).expect("written");
                let told = rest(&mut socket);
                assert!(told.is_empty() || told.contains("no session"), "{way:?} {said:?}: {told}");
            }
            for (said, answer) in [("nonsense\n", "INVALID_REQUEST"), (&*open, "UNAUTHENTICATED")] {
                let mut socket = connect(site);
                socket.write_all(said.as_bytes()).expect("written");
                let told = rest(&mut socket);
                assert!(told.contains(answer), "{way:?} {said:?}: {told}");
            }
            // With a session it may be silent.
            let mut socket = connect(site);
            socket.write_all(hello.as_bytes()).expect("written");
            let mut peer = Peer::by_lines(socket.try_clone().expect("a second handle"));
            peer.until("session.welcome");
            socket.set_read_timeout(Some(3 * HANDSHAKE / 2)).expect("a timeout");
            let silent = socket.read(&mut [0]).expect_err("nothing comes");
            assert_eq!(silent.kind(), ErrorKind::WouldBlock, "{way:?}");
        },
    );
}

#[test]
fn whoever_only_listens_on_is_sent_what_is_left_and_let_go() {
    on_each(
        |_| {},
        |way, site| {
            let mut socket = connect(site);
            let hello = json!({"id": "1", "type": "session.hello", "payload": hello_payload("tok-a")});
            let ping = json!({"arcp": "1.1", "id": "2", "type": "session.ping", "payload": {"nonce": "n"}});
            socket.write_all(format!("{hello}\n").as_bytes()).expect("written");
            let mut peer = Peer::by_lines(socket.try_clone().expect("a second handle"));
            peer.until("session.welcome");
            socket.write_all(format!("{ping}\n").as_bytes()).expect("written");
            peer.until("session.pong");
            socket.shutdown(Shutdown::Write).expect("shut down");
            assert_eq!(peer.until_closed().len(), 3, "{way:?}: a welcome, a pong, the end");
        },
    );
}

#[test]
fn whoever_ends_its_side_at_once_is_answered_what_it_has_said_and_let_go() {
    let hello = |auth: &serde_json::Value| {
        let mut payload = hello_payload("");
        payload["auth"] = auth.clone();
        json!({"arcp": "1.1", "id": "1", "type": "session.hello", "payload": payload})
    };
    let submit = json!({"arcp": "1.1", "id": "2", "type": "job.submit", "payload": {"agent": "slow", "input": 1}});
    let token = |token: &str| json!({"scheme": "bearer", "token": token});
    on_each(
        |_| {},
        |way, site| {
            for (said, told) in [
                // A credential that has to be judged first, one that does not count, and none.
                (format!("{}\n", hello(&token("tok-a"))), vec!["session.welcome"]),
                (format!("{}\n", hello(&token("nobody"))), vec!["UNAUTHENTICATED"]),
                (format!("{}\n{submit}\n", hello(&json!({"scheme": "none"}))), vec!["session.welcome", "job.accepted"]),
                (String::new(), vec![]),
            ] {
                let mut socket = connect(site);
                socket.write_all(said.as_bytes()).expect("written");
                socket.shutdown(Shutdown::Write).expect("shut down");
                let answered = rest(&mut socket);
                let mut from = 0;
                for told in &told {
                    let found = answered[from..].find(told).unwrap_or_else(|| panic!("{way:?} {said}: {answered}"));
                    from += found;
                }
                assert!(!told.is_empty() || answered.is_empty(), "{way:?}: {answered}");
            }
        },
    );
}

#[test]
fn whoever_ends_its_side_and_reads_nothing_is_given_up() {
    on_each(
        |config| config.timing.slow_reader_grace = Duration::from_millis(300),
        |_, site| {
            let mut socket = connect(site);
            socket.set_write_timeout(Some(BRIEFLY)).expect("a timeout");
            let mut hello = hello_payload("");
            hello["auth"] = json!({"scheme": "none"});
            let hello = json!({"arcp": "1.1", "id": "1", "type": "session.hello", "payload": hello});
            socket.write_all(format!("{hello}\n").as_bytes()).expect("written");
            // More answers than a socket holds that nobody reads.
            let nonce = "n".repeat(60 << 10);
            for n in 0..40 {
                let list = json!({"arcp": "1.1", "id": format!("q{n}"), "type": "job.submit",
                    "payload": {"agent": "echo", "input": nonce}});
                if socket.write_all(format!("{list}\n").as_bytes()).is_err() {
                    break;
                }
            }
            let _ = socket.shutdown(Shutdown::Write);
            site.wait_for(|notice| matches!(notice, Notice::SessionDetached { .. }));
        },
    );
}

#[test]
fn lines_that_never_end_take_bounded_memory() {
    on_each(
        |config| config.limits.connection.partial_bytes = 1 << 20,
        |way, site| {
            let half = vec![b'x'; 256 << 10];
            let mut sockets: Vec<UnixStream> = Vec::new();
            for _ in 0..8 {
                let mut socket = connect(site);
                let hello = json!({"id": "1", "type": "session.hello", "payload": hello_payload("tok-a")});
                socket.write_all(format!("{hello}\n").as_bytes()).expect("written");
                Peer::by_lines(socket.try_clone().expect("a second handle")).until("session.welcome");
                // One of them may be closed while it is written to.
                let _ = socket.write_all(&half);
                sockets.push(socket);
            }
            let mut witness = site.session();
            witness.say("p", "session.ping", json!({}));
            witness.until("session.pong");
            let is_open = |socket: &mut UnixStream| {
                socket.set_read_timeout(Some(BRIEFLY)).expect("a timeout");
                socket.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
            };
            arcp_tests::until::until("the others are closed", || {
                sockets.retain_mut(is_open);
                (sockets.len() <= 4).then_some(())
            });
            assert!(!sockets.is_empty(), "{way:?}: there is room for some");
        },
    );
}

#[test]
fn the_file_is_its_user_s_and_goes_with_its_server() {
    on_each(
        |_| {},
        |way, site| {
            let path = path(site);
            let mode = fs::metadata(&path).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{way:?}");
            let mut peer = site.session();
            site.handle().shutdown();
            peer.until("session.closed");
            drop(peer);
            arcp_tests::until::until("the file is gone", || (!path.exists()).then_some(()));
        },
    );
}

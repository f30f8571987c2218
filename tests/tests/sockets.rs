//! The blocking server over real sockets.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use arcp_blocking::{ClientError, JobEnd, JobUpdate};
use arcp_host::auth::Authenticator;
use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_host::store::{MemoryStore, Store, StoreError};
use arcp_proto::client::ResultData;
use arcp_proto::id::Principal;
use arcp_proto::json::Json;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::job::FinalStatus;
use arcp_proto::model::request::{Credential, Watch};
use arcp_proto::runtime::{Batch, Notice, Record, Verdict};
use arcp_tests::kept::Folder;
use arcp_tests::raw::hello_payload;
use arcp_tests::server::{PATIENCE, Running, expect, next, send, submit};
use arcp_tests::store::{Faulty, SlowToRead};
use serde_json::json;
use tungstenite::Message;

/// A masked text frame, as a client writes it.
fn masked(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    frame.extend_from_slice(&mask);
    frame.extend(text.bytes().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}

const UPGRADE: &str = "GET /arcp HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const HELLO: &str = r#"{"id":"1","type":"session.hello","payload":{"auth":{"scheme":"bearer","token":"tok-a"}}}"#;

fn read_until(socket: &mut TcpStream, needle: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(needle) {
        let n = socket.read(&mut buffer).expect("in time");
        assert!(n > 0, "closed before {needle}: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn a_session_over_a_real_socket() {
    let server = Running::start(&[], |_| {});
    let (mut socket, _) = server.session("tok-a");
    send(&mut socket, "s", "job.submit", json!({"agent": "echo", "input": {"n": 1}}));
    assert_eq!(expect(&mut socket, "job.result")["payload"]["result"], json!({"n": 1}));
    send(&mut socket, "c", "session.close", json!({}));
    expect(&mut socket, "session.closed");
    let close = socket.read().expect("gl12: a clean close");
    assert!(matches!(close, Message::Close(Some(frame)) if u16::from(frame.code) == 1000));
}

#[test]
fn one_byte_at_a_time_is_fine() {
    let server = Running::start(&[], |_| {});
    let mut socket = server.connect();
    for byte in UPGRADE.bytes().chain(masked(HELLO)) {
        socket.write_all(&[byte]).expect("written");
    }
    read_until(&mut socket, "session.welcome");
}

#[test]
fn everything_in_one_write_is_fine_too() {
    let server = Running::start(&[], |_| {});
    let mut socket = server.connect();
    let mut all = UPGRADE.as_bytes().to_vec();
    all.extend(masked(HELLO));
    socket.write_all(&all).expect("written");
    read_until(&mut socket, "session.welcome");
}

#[test]
fn a_connection_cut_in_the_middle_of_a_frame_costs_nothing() {
    let server = Running::start(&[], |_| {});
    let (mut socket, welcome) = server.session("tok-a");
    send(&mut socket, "s", "job.submit", json!({"agent": "slow", "input": {"ms": 300}}));
    expect(&mut socket, "job.accepted");
    let half = &masked(r#"{"id":"x","type":"session.ping","payload":{}}"#)[..9];
    socket.get_mut().write_all(half).expect("written");
    drop(socket);
    let mut back = server.websocket();
    let mut hello = arcp_tests::raw::hello_payload("tok-a");
    hello["resume"] = json!({"resume_token": welcome["payload"]["resume_token"], "last_event_seq": 0});
    send(&mut back, "h", "session.hello", hello);
    expect(&mut back, "session.welcome");
    assert_eq!(expect(&mut back, "job.result")["payload"]["final_status"], "success");
}

#[test]
fn a_half_open_connection_is_taken_over() {
    let server = Running::start(&[], |_| {});
    let (mut old, welcome) = server.session("tok-a");
    let mut newer = server.websocket();
    let mut hello = arcp_tests::raw::hello_payload("tok-a");
    hello["resume"] = json!({"resume_token": welcome["payload"]["resume_token"], "last_event_seq": 0});
    send(&mut newer, "h", "session.hello", hello);
    assert_eq!(expect(&mut newer, "session.welcome")["session_id"], welcome["session_id"]);
    expect(&mut old, "session.error");
    assert!(next(&mut old).is_none(), "closed");
}

#[test]
fn an_oversized_message_closes_its_connection_alone() {
    let server = Running::start(&[], |config| config.limits.frame.frame_bytes = 64 << 10);
    let (mut other, _) = server.session("tok-b");
    let mut unknown = server.websocket();
    let _ = unknown.send(Message::text("x".repeat(65 << 10)));
    let told = expect(&mut unknown, "session.error");
    assert!(told["payload"]["message"].as_str().is_some_and(|text| text.contains("65536 bytes")), "{told}");
    assert!(next(&mut unknown).is_none(), "before a session even less is taken");
    let (mut socket, _) = server.session("tok-a");
    let _ = socket.send(Message::text("x".repeat(128 << 10)));
    let end = loop {
        match socket.read() {
            Ok(Message::Close(frame)) => break frame,
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(end.map(|frame| u16::from(frame.code)), Some(1009));
    send(&mut other, "p", "session.ping", json!({}));
    expect(&mut other, "session.pong");
}

#[test]
fn a_binary_message_of_json_is_read_and_bad_utf8_is_answered() {
    let server = Running::start(&[], |_| {});
    let (mut socket, _) = server.session("tok-a");
    let ping = r#"{"id":"b","type":"session.ping","payload":{"nonce":"binary"}}"#;
    socket.send(Message::binary(ping.as_bytes().to_vec())).expect("sent");
    assert_eq!(expect(&mut socket, "session.pong")["payload"]["ping_nonce"], "binary");
    socket.send(Message::binary(vec![0xff, 0xfe])).expect("sent");
    assert_eq!(expect(&mut socket, "session.error")["payload"]["code"], "INVALID_REQUEST");
    send(&mut socket, "p", "session.ping", json!({}));
    expect(&mut socket, "session.pong");
}

#[test]
fn foreign_hosts_and_origins_never_reach_the_protocol() {
    let server = Running::start(&[], |_| {});
    let head = |host: &str, more: &str| {
        server.http(&format!(
            "GET /arcp HTTP/1.1\r\nHost: {host}\r\n{more}Upgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        ))
    };
    assert!(head("evil.example", "").starts_with("HTTP/1.1 421 "));
    assert!(head("localhost", "Origin: http://evil.example\r\n").starts_with("HTTP/1.1 403 "));
    assert!(server.http("GET /nothing HTTP/1.1\r\nHost: localhost").starts_with("HTTP/1.1 404 "));
    assert!(server.http("GET /healthz HTTP/1.1\r\nHost: localhost").starts_with("HTTP/1.1 200 "));
    assert!(server.http("GET /arcp HTTP/1.1\r\nHost: localhost").starts_with("HTTP/1.1 426 "));
    assert!(server.http("not http").starts_with("HTTP/1.1 400 "));
}

#[test]
fn a_slow_request_head_is_given_up() {
    let server = Running::start(&[], |_| {});
    let mut socket = server.connect();
    socket.write_all(b"GET /arcp HTTP/1.1\r\nHost: loc").expect("written");
    let begun = Instant::now();
    let n = socket.read(&mut [0; 16]).expect("closed, not timed out");
    assert_eq!(n, 0);
    assert!(begun.elapsed() >= Duration::from_secs(3), "it had its time");
}

#[test]
fn a_reader_that_stops_holds_up_nobody_and_gets_everything() {
    let server = Running::start(&[], |config| config.limits.delivery.ack_lag = u64::MAX);
    let (mut slow, _) = server.session("tok-a");
    send(
        &mut slow,
        "s",
        "job.submit",
        json!({"agent": "chatty", "input": {"count": 20000, "kind": "log", "pad": 500}}),
    );
    expect(&mut slow, "job.accepted");
    let (mut quick, _) = server.session("tok-b");
    for n in 0..20 {
        send(&mut quick, &format!("s{n}"), "job.submit", json!({"agent": "echo", "input": n}));
        expect(&mut quick, "job.result");
    }
    send(&mut quick, "l", "session.list_jobs", json!({}));
    expect(&mut quick, "session.jobs");
    let mut seqs = Vec::new();
    loop {
        let frame = next(&mut slow).expect("open");
        seqs.extend(frame["event_seq"].as_u64());
        if frame["type"] == "job.result" {
            break;
        }
    }
    assert_eq!(seqs, (1..=20_002).collect::<Vec<_>>());
}

#[test]
fn a_bearer_token_is_its_principals_and_what_is_near_it_nobodys() {
    let server = Running::start(&[], |_| {});
    let jobs = |token: &str| {
        let (mut socket, _) = server.session(token);
        send(&mut socket, "l", "session.list_jobs", json!({}));
        expect(&mut socket, "session.jobs")["payload"]["jobs"].as_array().expect("a list").len()
    };
    let (mut socket, _) = server.session("tok-a");
    send(&mut socket, "s", "job.submit", json!({"agent": "echo"}));
    expect(&mut socket, "job.result");
    assert_eq!((jobs("tok-a"), jobs("tok-b")), (1, 0));
    for near in ["tok-", "tok-aa", "tok-A", "tok-c", " tok-a", "tok-a ", "tok-a\u{0}"] {
        let mut socket = server.websocket();
        send(&mut socket, "h", "session.hello", hello_payload(near));
        assert_eq!(expect(&mut socket, "session.error")["payload"]["code"], "UNAUTHENTICATED", "{near:?}");
        assert!(next(&mut socket).is_none(), "and closed");
    }
}

/// Takes credentials that say whose they are, once two have asked.
#[derive(Default)]
struct Talkative {
    asked: Mutex<u32>,
    another: Condvar,
}

impl Authenticator for Talkative {
    fn verify(&self, credential: &Credential) -> Option<Verdict> {
        let mut asked = self.asked.lock().expect("nobody panics here");
        *asked += 1;
        self.another.notify_all();
        let (asked, _) = self.another.wait_timeout_while(asked, PATIENCE, |asked| *asked < 2).expect("nobody panics");
        drop(asked);
        match credential {
            Credential::Bearer(token) => Principal::new(token.expose().strip_prefix("I am ")?).map(Verdict::from),
            Credential::Anonymous | Credential::Other { .. } => None,
        }
    }
}

#[test]
fn credentials_are_judged_by_whom_the_operator_says() {
    let mut host = Running::host(Box::<MemoryStore>::default(), &[], |_| {});
    host.authenticator = Arc::new(Talkative::default());
    let server = Running::serve(host);
    let [mut bob, mut eve] = ["I am bob", "I am eve"].map(|token| {
        let mut socket = server.websocket();
        send(&mut socket, "h", "session.hello", hello_payload(token));
        socket
    });
    for socket in [&mut bob, &mut eve] {
        expect(socket, "session.welcome");
    }
    send(&mut bob, "s", "job.submit", json!({"agent": "echo"}));
    expect(&mut bob, "job.result");
    send(&mut eve, "l", "session.list_jobs", json!({}));
    assert_eq!(expect(&mut eve, "session.jobs")["payload"]["jobs"], json!([]));
    let mut socket = server.websocket();
    send(&mut socket, "h", "session.hello", hello_payload("tok-a"));
    assert_eq!(expect(&mut socket, "session.error")["payload"]["code"], "UNAUTHENTICATED");
}

#[test]
fn a_connection_that_breaks_while_it_is_written_to_is_let_go() {
    let (sender, notices) = channel();
    let mut host = Running::host(Box::<MemoryStore>::default(), &[], |config| {
        // Nothing but the failed write tells of it.
        config.timing.heartbeat = None;
        config.timing.slow_reader_grace = 10 * PATIENCE;
    });
    host.observer = Some(Box::new(move |notice| {
        let _ = sender.send(notice.clone());
    }));
    let server = Running::serve(host);
    let (mut socket, _) = server.session("tok-a");
    // It is not read any more, because it asks faster than it reads.
    for n in 0..24 {
        let input = "x".repeat(900 << 10);
        send(&mut socket, &format!("s{n}"), "job.submit", json!({"agent": "echo", "input": input}));
    }
    socket.get_mut().set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let ping = json!({"arcp": "1.1", "id": "p", "type": "session.ping", "payload": {"nonce": "n".repeat(200)}});
    while socket.send(Message::text(ping.to_string())).is_ok() {}
    // With answers unread, this is a reset.
    drop(socket);
    loop {
        let notice = notices.recv_timeout(PATIENCE).expect("it is noticed");
        if let Notice::SessionDetached { .. } = notice {
            break;
        }
    }
}

#[test]
fn half_closed_sockets_are_let_go() {
    let server = Running::start(&[], |_| {});
    let (mut socket, _) = server.session("tok-a");
    socket.get_mut().shutdown(Shutdown::Write).expect("shut down");
    let mut rest = Vec::new();
    socket.get_mut().read_to_end(&mut rest).expect("the server closes too");
}

#[test]
fn a_drain_lets_running_jobs_finish_and_says_goodbye() {
    let folder = Folder::new("drained");
    let go = folder.0.join("go");
    let waits = format!("while [ ! -e {} ]; do sleep 0.02; done", go.display());
    let server = Running::start(&[("waits", &waits)], |_| {});
    let (mut socket, _) = server.session("tok-a");
    send(&mut socket, "s", "job.submit", json!({"agent": "waits"}));
    expect(&mut socket, "job.accepted");
    server.drain();
    // The drain is noticed in the turn of the next answer.
    send(&mut socket, "p", "session.ping", json!({}));
    expect(&mut socket, "session.pong");
    send(&mut socket, "s2", "job.submit", json!({"agent": "echo"}));
    let refused = expect(&mut socket, "session.error");
    assert_eq!(
        (&refused["payload"]["code"], &refused["payload"]["retryable"]),
        (&json!("INTERNAL_ERROR"), &json!(true))
    );
    std::fs::write(&go, "").expect("written");
    assert_eq!(expect(&mut socket, "job.result")["payload"]["final_status"], "success");
    expect(&mut socket, "session.closed");
    drop(socket);
    let address = server.address;
    server.join();
    assert!(TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err(), "nobody new is let in");
}

#[test]
fn our_client_survives_a_broken_connection() {
    let server = Running::start(&[], |_| {});
    let client = server.client();
    let job = client.submit(submit("chatty", r#"{"count":300,"delay_ms":2}"#)).expect("accepted");
    let (mut seqs, mut values, mut resumed) = (Vec::new(), Vec::new(), 0);
    loop {
        match job.next_update_in(PATIENCE).expect("in time") {
            JobUpdate::Event { seq, event, .. } => {
                seqs.push(seq);
                if let JobEvent::Emitted { body, .. } = event {
                    let members = body.members().expect("an object");
                    values.extend(members.get("value").and_then(|raw| raw.parse::<u64>().ok()));
                }
                if seqs.len() % 90 == 50 {
                    client.break_connection().expect("open");
                }
            }
            JobUpdate::Reconnected { resumed: true } => resumed += 1,
            JobUpdate::Reconnecting { .. } | JobUpdate::Reconnected { .. } => {}
            JobUpdate::Ended { seq, terminal, .. } => {
                seqs.push(seq);
                assert_eq!(terminal.status, FinalStatus::Success);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(values, (0..300).collect::<Vec<_>>());
    assert_eq!(seqs, (1..=302).collect::<Vec<_>>());
    assert!(resumed >= 3, "{resumed}");
}

#[test]
fn a_job_is_watched_from_its_beginning_by_another_client() {
    let server = Running::start(&[], |_| {});
    let owner = server.client();
    let job = owner.submit(submit("chunker", r#"{"chunks":5,"bytes":100}"#)).expect("accepted");
    let watcher = server.client();
    let watched = watcher.watch(Watch { job: job.id.clone(), after: Some(0), history: Some(true) }).expect("shown");
    loop {
        match watched.next_update_in(PATIENCE).expect("in time") {
            JobUpdate::Ended { result: ResultData::Streamed { bytes, .. }, .. } => {
                assert_eq!(bytes.len(), 500);
                break;
            }
            JobUpdate::Event { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_client_that_does_not_take_its_updates_does_not_hoard_them() {
    let server = Running::start(&[], |config| config.limits.delivery.ack_lag = u64::MAX);
    let client = server.client();
    let job = client.submit(submit("chatty", r#"{"count":40000}"#)).expect("accepted");
    // Untaken for as long as the runtime needs to run into the bound.
    let list = client.list(Default::default()).expect("listed");
    assert_eq!(list.jobs.len(), 1);
    let mut count = 0;
    loop {
        match job.next_update_in(PATIENCE).expect("in time") {
            JobUpdate::Ended { terminal, .. } => {
                assert_eq!(terminal.status, FinalStatus::Success);
                break;
            }
            JobUpdate::Event { .. } => count += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(count, 40_001);
}

#[test]
fn a_job_is_waited_for_whatever_was_taken_of_its_events_before() {
    let server = Running::start(&[], |_| {});
    let client = server.client();
    let chatty = || client.submit(submit("chatty", r#"{"count":3}"#)).expect("accepted");
    let emitted = |end: &JobEnd| end.result == ResultData::Inline(Json::parse(r#"{"emitted":3}"#).expect("JSON"));
    let untouched = chatty();
    assert!(emitted(untouched.wait().expect("it ends")));
    let looked_at = chatty();
    let said = |event: &JobEvent| matches!(event, JobEvent::Emitted { kind: EventKind::Metric, .. });
    assert_eq!(looked_at.events().filter(said).count(), 3);
    assert!(emitted(looked_at.wait().expect("the end was remembered")) && looked_at.wait().is_ok());
    let taken = chatty();
    assert!(matches!(taken.updates().last(), Some(JobUpdate::Ended { .. })));
    assert!(matches!(taken.wait(), Err(ClientError::Misuse(_))), "it was given to somebody");
    let open = client.submit(submit("slow", r#"{"ms":60000}"#)).expect("accepted");
    drop(client);
    assert!(matches!(open.wait(), Err(ClientError::Ended(_))), "the session is over before");
}

/// A store that says when it is asked about a job, and waits to be told.
struct Held {
    asked: Sender<()>,
    go: Receiver<()>,
}

impl Store for Held {
    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        if batches.iter().flat_map(|batch| batch.records.iter()).any(|record| matches!(record, Record::JobAccepted(_)))
        {
            self.asked.send(()).expect("the test listens");
            self.go.recv().map_err(|gone| StoreError::Unavailable(gone.to_string()))?;
        }
        Ok(())
    }
}

#[test]
fn what_came_while_reading_was_paused_is_read_when_it_goes_on() {
    let ((asked, was_asked), (let_go, go)) = (channel(), channel());
    // One answer that waits for the store is enough to pause the reading.
    let server = Running::start_on(Box::new(Held { asked, go }), &[], |config| {
        config.limits.connection.replies_per_connection = 2
    });
    let (mut socket, _) = server.session("tok-a");
    send(&mut socket, "1", "job.submit", json!({"agent": "echo", "input": 1}));
    was_asked.recv_timeout(PATIENCE).expect("the first job is with the store");
    send(&mut socket, "2", "job.submit", json!({"agent": "echo", "input": 2}));
    // Once this is answered the server has been told of the second.
    assert!(server.http("GET /healthz HTTP/1.1\r\nHost: localhost").starts_with("HTTP/1.1 200 "));
    let_go.send(()).expect("the store waits");
    was_asked.recv_timeout(PATIENCE).expect("the second job is with the store");
    let_go.send(()).expect("the store waits");
    assert_eq!(expect(&mut socket, "job.result")["payload"]["result"], 1);
    assert_eq!(expect(&mut socket, "job.result")["payload"]["result"], 2);
}

#[test]
fn a_full_disk_is_said_stops_nothing_that_can_go_on_and_passes() {
    let folder = Folder::new("full");
    let store = SqliteStore::open(&folder.0.join("jobs.db"), Durability::Full).expect("it opens");
    let (store, faults) = Faulty::new(Box::new(store));
    let server = Running::start_on(Box::new(store), &[], |_| {});
    let health = || server.http("GET /healthz HTTP/1.1\r\nHost: localhost");
    let (mut socket, _) = server.session("tok-a");
    let (mut other, _) = server.session("tok-a");
    faults.fail(true);
    // This one is accepted before anybody knows, and waits for the store.
    send(&mut socket, "1", "job.submit", json!({"agent": "chatty", "input": {"count": 500}}));
    while !health().starts_with("HTTP/1.1 503 ") {}
    send(&mut other, "2", "job.submit", json!({"agent": "echo"}));
    let refused = expect(&mut other, "session.error");
    assert_eq!(refused["payload"]["details"]["open_code"], "UNAVAILABLE", "{refused}");
    assert_eq!(
        (&refused["payload"]["code"], &refused["payload"]["retryable"]),
        (&json!("INTERNAL_ERROR"), &json!(true))
    );
    send(&mut socket, "3", "session.ping", json!({"nonce": "still there"}));
    assert_eq!(expect(&mut socket, "session.pong")["payload"]["ping_nonce"], "still there");
    faults.fail(false);
    assert_eq!(expect(&mut socket, "job.result")["payload"]["result"]["emitted"], 500);
    assert!(health().starts_with("HTTP/1.1 200 "), "it works again");
    send(&mut socket, "4", "job.submit", json!({"agent": "echo", "input": 4}));
    assert_eq!(expect(&mut socket, "job.result")["payload"]["result"], 4);
    drop((socket, server));
}

#[test]
fn a_slow_read_holds_up_no_other() {
    const SLOW: u32 = 12;
    let folder = Folder::new("slow");
    let store = SqliteStore::open(&folder.0.join("jobs.db"), Durability::Normal).expect("it opens");
    let (store, go) = SlowToRead::new(Box::new(store), SLOW);
    let server = Running::start_on(Box::new(store), &[], |config| {
        config.limits.history.job_events = 16;
        config.limits.delivery.ack_lag = u64::MAX;
    });
    let (mut owner, _) = server.session("tok-a");
    send(&mut owner, "1", "job.submit", json!({"agent": "chatty", "input": {"count": 300}}));
    let job = expect(&mut owner, "job.accepted")["job_id"].clone();
    expect(&mut owner, "job.result");
    let watch = json!({"job_id": job, "history": true});
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let (mut watcher, _) = server.session("tok-a");
        send(&mut watcher, "1", "job.subscribe", watch.clone());
        expect(&mut watcher, "job.subscribed");
        slow.push(watcher);
    }
    let (mut quick, _) = server.session("tok-a");
    send(&mut quick, "1", "job.subscribe", watch);
    assert_eq!(expect(&mut quick, "job.result")["event_seq"], 302, "it did not wait");
    (0..SLOW).for_each(|_| go.send(()).expect("they wait"));
    for watcher in &mut slow {
        assert_eq!(expect(watcher, "job.result")["event_seq"], 302);
    }
    drop((owner, slow, quick, server));
}

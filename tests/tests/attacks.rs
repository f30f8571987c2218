//! Attacks of an outsider on a real server, while a well-behaved client is served. How long that client waits is
//! printed, not judged.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use arcp_host::server::LINGER;
use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_proto::id::Principal;
use arcp_proto::json::decode_base64;
use arcp_tests::kept::Folder;
use arcp_tests::server::{PATIENCE, Running, expect, next, send};
use arcp_tests::store::Faulty;
use arcp_tests::until::until;
use arcp_tests::witness::Witness;
use serde_json::{Value, json};
use tungstenite::{Message, Utf8Bytes, WebSocket};

/// Between two looks at a connection.
const BRIEFLY: Duration = Duration::from_millis(20);

/// A masked ping.
fn ping(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x89, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

/// The payloads of the pongs that come until one has this payload.
fn pongs_until(socket: &mut WebSocket<TcpStream>, last: &[u8]) -> Vec<Vec<u8>> {
    let mut pongs = Vec::new();
    while pongs.last().is_none_or(|pong: &Vec<u8>| pong != last) {
        if let Message::Pong(payload) = socket.read().expect("open") {
            pongs.push(payload.to_vec());
        }
    }
    pongs
}

/// Whether the server has closed the connection, within a time.
fn is_closed_within(socket: &mut TcpStream, span: Duration) -> bool {
    socket.set_read_timeout(Some(span)).expect("a timeout");
    match socket.read(&mut [0; 1024]) {
        Ok(n) => n == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[test]
fn of_many_pings_at_once_the_newest_is_answered() {
    let server = Running::start(&[], |config| config.limits.connection.pong_bytes_per_connection = 6);
    let (mut socket, _) = server.session("tok-a");
    let pings: Vec<u8> = (0..100).flat_map(|n| ping(&[n])).collect();
    socket.get_mut().write_all(&pings).expect("written");
    let pongs = pongs_until(&mut socket, &[99]);
    assert!(pongs.len() < 50, "{} pongs, where two are held", pongs.len());
}

#[test]
fn unread_pongs_of_all_connections_have_a_bound() {
    // No room in common: each connection holds one that waits.
    let server = Running::start(&[], |config| config.limits.connection.pong_bytes = 0);
    let mut sockets: Vec<_> = (0..8).map(|_| server.websocket()).collect();
    let pings: Vec<u8> = (0..100).flat_map(|n| ping(&[n])).collect();
    for socket in &mut sockets {
        socket.get_mut().write_all(&pings).expect("written");
        let pongs = pongs_until(socket, &[99]);
        assert!(pongs.len() < 50, "{} pongs, where one is held", pongs.len());
    }
}

#[test]
fn who_reads_no_pongs_is_closed_as_one_who_reads_too_slowly() {
    let server = Running::start(&[], |config| {
        // Much, so that the socket is full before long.
        config.limits.connection.pong_bytes_per_connection = 1 << 20;
        config.timing.slow_reader_grace = Duration::from_millis(200);
    });
    let witness = Witness::start(&server.url(), "tok-b");
    let (mut socket, welcome) = server.session("tok-a");
    let pings = ping(&[7; 125]).repeat(2000);
    let begun = Instant::now();
    while socket.get_mut().write_all(&pings).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it goes on being read");
    }
    witness.is_served(3);
    // The session is still there.
    let mut back = server.websocket();
    let mut hello = arcp_tests::raw::hello_payload("tok-a");
    hello["resume"] = json!({"resume_token": welcome["payload"]["resume_token"], "last_event_seq": 0});
    send(&mut back, "h", "session.hello", hello);
    assert_eq!(expect(&mut back, "session.welcome")["session_id"], welcome["session_id"]);
}

#[test]
fn silent_connections_keep_nobody_out() {
    let server = Running::start(&[], |config| {
        config.limits.connection.handshaking_connections = 32;
        // Nobody goes because its time is over.
        config.timing.handshake_timeout = 10 * PATIENCE;
    });
    let witness = Witness::start(&server.url(), "tok-b");
    let mut silent = Vec::new();
    for n in 0..200 {
        // Some say nothing at all, some ask for a WebSocket first.
        silent.push(if n % 2 == 0 { server.connect() } else { server.websocket().get_ref().try_clone().expect("one") });
        if n % 50 == 49 {
            witness.is_served(2);
        }
    }
    until("so many are closed", || {
        silent.retain_mut(|socket| !is_closed_within(socket, BRIEFLY));
        (silent.len() <= 32).then_some(())
    });
}

#[test]
fn a_peer_with_too_many_silent_connections_loses_its_oldest() {
    let server = Running::start(&[], |config| config.limits.connection.handshaking_connections_per_network = 3);
    let (mut session, _) = server.session("tok-a");
    let mut silent: Vec<TcpStream> = (0..5).map(|_| server.connect()).collect();
    for oldest in &mut silent[..2] {
        assert!(is_closed_within(oldest, PATIENCE));
    }
    for newest in &mut silent[2..] {
        assert!(!is_closed_within(newest, BRIEFLY));
    }
    send(&mut session, "p", "session.ping", json!({}));
    expect(&mut session, "session.pong");
}

#[test]
fn messages_that_never_end_take_bounded_memory() {
    let server = Running::start(&[], |config| config.limits.connection.partial_bytes = 1 << 20);
    let witness = Witness::start(&server.url(), "tok-b");
    // The first half of a message of 512 KiB.
    let half = [&[0x81, 0xff, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0][..], &[b'x'; 256 << 10]].concat();
    let mut sockets: Vec<_> = (0..8).map(|_| server.session("tok-a").0).collect();
    for socket in &mut sockets {
        // One of them may be closed while it is written to.
        let _ = socket.get_mut().write_all(&half);
    }
    witness.is_served(2);
    until("the others are closed", || {
        sockets.retain_mut(|socket| !is_closed_within(socket.get_mut(), BRIEFLY));
        (sockets.len() <= 4).then_some(())
    });
    witness.is_served(2);
    sockets.retain_mut(|socket| !is_closed_within(socket.get_mut(), BRIEFLY));
    assert!(!sockets.is_empty(), "there is room for some");
}

#[test]
fn answered_requests_that_stay_open_make_room_for_others() {
    let server = Running::start(&[], |config| config.limits.connection.handshaking_connections_per_network = 3);
    // On a loaded machine the time of the first one may be over by itself.
    until("one makes room before its time is over", || {
        let begun = Instant::now();
        let mut answered = [(); 5].map(|()| {
            let mut socket = server.connect();
            socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
            socket.read_to_string(&mut String::new()).expect("the answer, and its end");
            socket
        });
        // What is written to a connection that is gone is answered by a reset.
        until("it is gone", || answered[0].write_all(b"x").err());
        let stays = answered[4].write_all(b"x").is_ok() && answered[4].write_all(b"x").is_ok();
        (begun.elapsed() < LINGER).then(|| assert!(stays, "the last one has its time"))
    });
}

#[test]
fn a_peer_that_is_gone_without_a_word_is_asked_for() {
    let server = Running::start(&[], |_| {});
    let (socket, _) = server.session("tok-a");
    let ours = socket.get_ref().local_addr().expect("an address");
    let in_table = |port: u16| format!("0100007F:{port:04X}");
    let row = [in_table(server.address.port()), in_table(ours.port())].join(" ");
    let timer = || {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the sockets of this machine");
        let of_server = table.lines().find(|line| line.contains(&row)).expect("the server's end");
        of_server.split_whitespace().nth(5).expect("a timer")[..2].to_string()
    };
    // While the welcome is not acknowledged there is another timer.
    while timer() == "01" {}
    assert_eq!(timer(), "02", "the timer of the keepalive");
}

#[test]
fn a_client_that_does_not_close_does_not_hold_up_the_end() {
    let server = Running::start(&[], |_| {});
    let (mut socket, _) = server.session("tok-a");
    server.drain();
    // It is not waited for until it closes, which it never does.
    server.join();
    // It was told all the same.
    expect(&mut socket, "session.closed");
    assert!(next(&mut socket).is_none());
}

#[test]
fn long_jobs_of_a_client_that_left_leave_agents_to_others() {
    let server = Running::start(&[], |config| config.limits.job.running_jobs = 8);
    let witness = Witness::start(&server.url(), "tok-b");
    let (mut socket, _) = server.session("tok-a");
    for n in 0..16 {
        send(&mut socket, &n.to_string(), "job.submit", json!({"agent": "gate", "input": {"key": "never"}}));
    }
    send(&mut socket, "p", "session.ping", json!({}));
    expect(&mut socket, "session.pong");
    drop(socket);
    witness.is_served(3);
}

#[test]
fn a_client_that_reads_at_full_speed_gets_everything_from_a_store_in_memory() {
    const CHUNKS: u64 = 256;
    const BYTES: usize = 262_144;
    // A window of three pieces: only what was sent may go from it.
    let server = Running::start(&[], |config| config.limits.history.job_event_bytes = 1 << 20);
    let witness = Witness::start(&server.url(), "tok-b");
    let (mut socket, _) = server.session("tok-a");
    let input = json!({"chunks": CHUNKS, "bytes": BYTES, "encoding": "base64"});
    send(&mut socket, "s", "job.submit", json!({"agent": "chunker", "input": input}));
    expect(&mut socket, "job.accepted");
    // Nothing is done with it before everything has come.
    let mut texts = Vec::new();
    while !texts.last().is_some_and(|text: &Utf8Bytes| text.len() < 4096 && text.contains("job.result")) {
        match socket.read().expect("the connection stays") {
            Message::Text(text) => texts.push(text),
            Message::Close(why) => panic!("closed: {why:?}"),
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    witness.is_served(2);
    // They are alike: their length is a multiple of 256.
    let data: Vec<u8> = (0..BYTES).map(|k| k as u8).collect();
    let mut pieces = 0;
    for (text, number) in texts.iter().zip(1..) {
        let frame: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(frame["event_seq"], number, "no number is missing");
        if frame["payload"]["kind"] == "result_chunk" {
            let body = &frame["payload"]["body"];
            assert_eq!(body["chunk_seq"], pieces);
            assert!(decode_base64(body["data"].as_str().expect("text")).as_ref() == Some(&data), "piece {pieces}");
            pieces += 1;
        }
    }
    assert_eq!(pieces, CHUNKS);
}

#[test]
fn a_store_that_fails_for_a_moment_is_asked_again_at_once() {
    const FAILURES: u32 = 6;
    let folder = Folder::new("moment");
    let store = SqliteStore::open(&folder.0.join("jobs.db"), Durability::Full).expect("it opens");
    let (store, faults) = Faulty::new(Box::new(store));
    let server = Running::start_on(Box::new(store), &[], |_| {});
    let (mut socket, _) = server.session("tok-a");
    // On a machine that is too slow at first it is asked once more.
    let in_time = (0..10).any(|n| {
        faults.fail(true);
        let begun = Instant::now();
        // It waits for the store, which is asked for it alone.
        send(&mut socket, &n.to_string(), "job.submit", json!({"agent": "echo", "input": n}));
        let before = faults.failed();
        until("the store is asked again", || (faults.failed() >= before + FAILURES).then_some(()));
        let took = begun.elapsed();
        faults.fail(false);
        assert_eq!(expect(&mut socket, "job.result")["payload"]["result"], n);
        // Six times in 310 ms; in five seconds if a second lay between two.
        took < Duration::from_secs(u64::from(FAILURES) - 1)
    });
    assert!(in_time, "it is asked once a second");
    Witness::start(&server.url(), "tok-b").is_served(2);
    drop((socket, server));
}

#[test]
fn whoever_guesses_tokens_over_http_waits_as_over_a_connection() {
    let server = Running::start(&[], |config| {
        config.operators = [Principal::new("a").expect("a name")].into();
        config.limits.connection.wrong_credentials = 3;
    });
    let status = |token: &str| {
        let head = format!("GET /stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}");
        server.http(&head).split(' ').nth(1).map(str::to_string).expect("a status")
    };
    assert_eq!([status("tok-a"), status("tok-b")], ["200", "403"]);
    let guessed: Vec<String> = (0..4).map(|n| status(&format!("guess-{n}"))).collect();
    assert_eq!(guessed, ["403", "403", "403", "429"]);
    assert_eq!(status("tok-a"), "200", "who was right before is not kept out");
    let mut socket = server.websocket();
    let hello = json!({"auth": {"scheme": "bearer", "token": "guess"}, "client": {"name": "c", "version": "1"}});
    send(&mut socket, "1", "session.hello", hello);
    assert!(expect(&mut socket, "session.error").to_string().contains("wrong_credentials"));
}

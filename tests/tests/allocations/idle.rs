//! What is held for a session in which nothing happens, as of the bytes that an allocator
//! counts: ten thousand of them are to cost a server no more than it seems.

use allocation_counter::measure;
use arcp_host::framing::{Framed, Framing};
use arcp_proto::entropy::Seeds;
use arcp_proto::id::{ConnId, OpId, Principal};
use arcp_proto::runtime::{Config, Input, Output, Runtime, Transport, Verdict};
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_tests::raw::hello_payload;
use serde_json::json;

const SESSIONS: u64 = 1000;
const NOW: Now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };

/// Opens a session, and has its peer read all that it is sent.
fn open(runtime: &mut Runtime, n: u64, hello: &[u8]) {
    let (conn, op) = (ConnId(n), OpId(n));
    let verdict = Principal::new("p").map(Verdict::from);
    for input in [
        Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None },
        Input::Credit { conn, bytes: 1 << 20, frames: 1024 },
        Input::Received { conn, frame: hello.to_vec() },
        Input::Authenticated { op, verdict },
    ] {
        runtime.handle(NOW, input);
        while let Some(output) = runtime.poll_output() {
            match output {
                Output::Persist(batch) => runtime.handle(NOW, Input::Persisted { up_to: batch.last() }),
                Output::Send { frame, .. } => {
                    runtime.handle(NOW, Input::Credit { conn, bytes: frame.len() as u32, frames: 1 });
                }
                _ => {}
            }
        }
    }
}

#[test]
fn an_idle_session_holds_little_in_the_core() {
    let mut config = Config::new("t", "1");
    config.limits.session.sessions = 100_000;
    config.limits.session.sessions_per_principal = 100_000;
    config.limits.connection.handshaking_connections = 100_000;
    let seeds = Seeds { public: [1; 32], secret: [2; 32] };
    let mut runtime = Runtime::new(config, seeds, NOW).expect("it works");
    let hello = json!({"id": "h", "type": "session.hello", "payload": hello_payload("t")}).to_string();
    // What is there once, and tables that have begun to grow.
    (1..=SESSIONS).for_each(|n| open(&mut runtime, n, hello.as_bytes()));
    let held = measure(|| (SESSIONS + 1..=2 * SESSIONS).for_each(|n| open(&mut runtime, n, hello.as_bytes())));
    assert_eq!(runtime.stats().sessions as u64, 2 * SESSIONS);
    let each = held.bytes_current / SESSIONS as i64;
    eprintln!("{each} bytes for each session");
    assert!(each < CORE, "{each} bytes");
}

/// Bytes that the core holds for an idle session, at most.
const CORE: i64 = 3 << 10;
/// Bytes that a WebSocket holds that is written out, at most.
const WEBSOCKET: i64 = 3 << 10;

#[test]
fn a_websocket_that_is_written_out_holds_no_frame() {
    let mut kept = Vec::with_capacity(1);
    let held = measure(|| {
        let mut framing = Framing::websocket_server(4 << 20);
        let hello = [&[0x81, 0xfe, 0x02, 0x58, 0, 0, 0, 0][..], &[b'a'; 600]].concat();
        framing.feed(&hello);
        assert_eq!(framing.next_frame(), Some(Framed::Frame(vec![b'a'; 600])));
        assert_eq!(framing.next_frame(), None);
        framing.write(&"w".repeat(3000));
        let bytes = framing.output().len();
        framing.wrote(bytes);
        // As connections give it back.
        *framing.output() = Vec::new();
        kept.push(framing);
    });
    eprintln!("{} bytes for each WebSocket", held.bytes_current);
    assert!(held.bytes_current < WEBSOCKET, "{} bytes", held.bytes_current);
}

//! Ten thousand idle sessions. The server is a separate process; this one is the client.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const SESSIONS: usize = 10_000;
const UPGRADE: &str = "GET /arcp HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn ten_thousand_idle_sessions_in_well_under_200_mb() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("raised");
    let most = limit.maximum.unwrap_or(u64::MAX);
    assert!(most > SESSIONS as u64 + 100, "this machine allows only {most} open files");

    let state = std::env::temp_dir().join(format!("arcp-idle-{}", std::process::id()));
    let mut server = Command::new(env!("CARGO_BIN_EXE_arcp"))
        .args(["serve", "--listen", "127.0.0.1:0", "--samples", "--token", "t=p"])
        .env("ARCP_STATE_DIR", &state)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut ready = String::new();
    BufReader::new(server.stderr.take().expect("a pipe")).read_line(&mut ready).expect("text");
    let address = ready.trim().trim_start_matches("READY ws://").trim_end_matches("/arcp").to_string();

    let mut open: Vec<TcpStream> = Vec::with_capacity(SESSIONS);
    while open.len() < SESSIONS {
        // In groups: the backlog of a listener is short.
        let group: Vec<TcpStream> = (0..100).map(|_| begin(&address)).collect();
        for mut socket in group {
            read_until(&mut socket, b"session.welcome");
            open.push(socket);
        }
    }
    let kilobytes = resident(server.id());
    assert!(kilobytes < 200 << 10, "{} MB for {SESSIONS} sessions", kilobytes >> 10);

    // The first and the last are served as if they were alone.
    for at in [0, SESSIONS - 1] {
        let submit = masked(br#"{"id":"s","type":"job.submit","payload":{"agent":"echo","input":"still here"}}"#);
        open[at].write_all(&submit).expect("written");
        read_until(&mut open[at], b"still here");
    }
    server.kill().expect("it ends");
    server.wait().expect("it ends");
    let _ = std::fs::remove_dir_all(state);
    eprintln!("{SESSIONS} sessions: {} MB", kilobytes >> 10);
}

fn begin(address: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let hello = masked(br#"{"id":"h","type":"session.hello","payload":{"auth":{"scheme":"bearer","token":"t"},"capabilities":{"features":["heartbeat"]}}}"#);
    socket.write_all(&[UPGRADE.as_bytes(), &hello].concat()).expect("written");
    socket
}

/// A masked text frame; a mask of zeros leaves the text as it is.
fn masked(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend_from_slice(&u16::try_from(text.len()).expect("short").to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text);
    frame
}

fn read_until(socket: &mut TcpStream, needle: &[u8]) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.windows(needle.len()).any(|window| window == needle) {
        let n = socket.read(&mut buffer).expect("in time");
        assert!(n > 0, "closed: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..n]);
    }
}

/// The resident memory of a process, in kilobytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

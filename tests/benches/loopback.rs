//! Our server and the published Python server over loopback WebSocket, in
//! the same run, with the same client.
//!
//! ```text
//! ARCP_PYTHON=target/interop-venv/bin/python cargo bench -p arcp-tests --bench loopback
//! ```
//!
//! Without `ARCP_PYTHON` (a Python with `tests/peers/python/requirements.txt`
//! installed) only our side is measured, and no ratio is printed.

#![allow(clippy::print_stdout, reason = "the report is what it is for")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use arcp_tests::raw::hello_payload;
use arcp_tests::server::Running;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

const ROUNDS: usize = 5;
const EVENTS: u64 = 20_000;
const JOBS: u32 = 1000;
const IN_FLIGHT: u32 = 64;

fn main() {
    // The test runner asks every target for its list of tests.
    if std::env::args().any(|arg| arg == "--list") {
        return;
    }
    let server = Running::start(&[], |_| {});
    let url = format!("ws://{}/arcp", server.address);
    let baseline = Baseline::start();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // In turn, so that what else the machine does falls on both.
    for _ in 0..ROUNDS {
        ours.push(measure(&url, "tok-a", &Peer::ours()));
        theirs.extend(baseline.as_ref().map(|baseline| measure(&baseline.url, "tok-alice", &Peer::theirs())));
    }
    report("arcp (this repository)", &ours);
    if baseline.is_none() {
        println!("ARCP_PYTHON is not set: no baseline, no ratio");
        return;
    }
    report("agentruntimecontrolprotocol 1.1.3 (baseline)", &theirs);
    println!("ratio of the medians, ours to the baseline:");
    for (name, pick) in COLUMNS {
        println!("  {name:<34} {:>6.1} x", median(&ours, pick) / median(&theirs, pick));
    }
}

/// The published server, for as long as it is measured.
struct Baseline {
    child: Child,
    url: String,
}

impl Baseline {
    fn start() -> Option<Baseline> {
        let python = std::env::var_os("ARCP_PYTHON")?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/python/their_server.py");
        let mut child = Command::new(python).args([script, "--port"]).stdout(Stdio::piped()).spawn().expect("it runs");
        let url = ready(&mut child);
        Some(Baseline { child, url })
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How the two servers name the same work.
struct Peer {
    ticker: &'static str,
    echo: &'static str,
}

impl Peer {
    fn ours() -> Peer {
        Peer { ticker: "chatty", echo: "echo" }
    }

    fn theirs() -> Peer {
        Peer { ticker: "ticker", echo: "echo" }
    }
}

/// One round's rates per second.
struct Rates {
    events: f64,
    sequential: f64,
    pipelined: f64,
}

type Column = (&'static str, fn(&Rates) -> f64);

const COLUMNS: [Column; 3] = [
    ("events per second", |rates| rates.events),
    ("submit to result, one at a time", |rates| rates.sequential),
    ("submit to result, 64 in flight", |rates| rates.pipelined),
];

fn median(rounds: &[Rates], pick: fn(&Rates) -> f64) -> f64 {
    let mut rates: Vec<f64> = rounds.iter().map(pick).collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn report(name: &str, rounds: &[Rates]) {
    println!("{name}, median [min..max] of {ROUNDS} rounds:");
    for (column, pick) in COLUMNS {
        let all = rounds.iter().map(pick);
        let (min, max) = all.fold((f64::MAX, 0.0_f64), |(min, max), rate| (min.min(rate), max.max(rate)));
        println!("  {column:<34} {:>10.0} [{min:.0}..{max:.0}]", median(rounds, pick));
    }
}

fn measure(url: &str, token: &str, peer: &Peer) -> Rates {
    let mut socket = open(url, token);
    Rates {
        events: events(&mut socket, peer),
        sequential: jobs(&mut socket, peer, 1),
        pipelined: jobs(&mut socket, peer, IN_FLIGHT),
    }
}

fn events(socket: &mut WebSocket<TcpStream>, peer: &Peer) -> f64 {
    let begun = Instant::now();
    send(socket, "job.submit", json!({"agent": peer.ticker, "input": {"count": EVENTS}}));
    let mut seen = 0;
    until_results(socket, 1, |text| seen += u64::from(text.contains("\"metric\"")));
    assert_eq!(seen, EVENTS);
    rate(EVENTS as f64, begun.elapsed())
}

fn jobs(socket: &mut WebSocket<TcpStream>, peer: &Peer, in_flight: u32) -> f64 {
    let begun = Instant::now();
    let (mut sent, mut done) = (0, 0);
    while done < JOBS {
        while sent < JOBS && sent < done + in_flight {
            send(socket, "job.submit", json!({"agent": peer.echo, "input": {"n": sent}}));
            sent += 1;
        }
        until_results(socket, 1, |_| {});
        done += 1;
    }
    rate(f64::from(JOBS), begun.elapsed())
}

fn rate(count: f64, span: Duration) -> f64 {
    count / span.as_secs_f64()
}

fn open(url: &str, token: &str) -> WebSocket<TcpStream> {
    let address = url.trim_start_matches("ws://").trim_end_matches("/arcp");
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let mut socket = tungstenite::client(url, stream).expect("a WebSocket").0;
    let mut hello = hello_payload(token);
    // Nothing but the work is measured.
    hello["capabilities"]["features"] = json!(["progress", "result_chunk"]);
    send(&mut socket, "session.hello", hello);
    until(&mut socket, |text| text.contains("session.welcome"));
    socket
}

fn send(socket: &mut WebSocket<TcpStream>, kind: &str, payload: Value) {
    let id = format!("msg_{}", ulid::Ulid::from_parts(0, u128::from(next_number())));
    let frame = json!({"arcp": "1.1", "id": id, "type": kind, "payload": payload});
    socket.send(Message::text(frame.to_string())).expect("sent");
}

fn next_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn until_results(socket: &mut WebSocket<TcpStream>, count: u32, mut visit: impl FnMut(&str)) {
    let mut left = count;
    while left > 0 {
        until(socket, |text| {
            visit(text);
            assert!(!text.contains("\"job.error\"") && !text.contains("\"session.error\""), "{text}");
            left -= u32::from(text.contains("\"job.result\""));
            left == 0
        });
    }
}

fn until(socket: &mut WebSocket<TcpStream>, mut done: impl FnMut(&str) -> bool) {
    loop {
        if let Message::Text(text) = socket.read().expect("a message")
            && done(&text)
        {
            return;
        }
    }
}

fn ready(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("text");
    line.trim().trim_start_matches("READY ").to_string()
}

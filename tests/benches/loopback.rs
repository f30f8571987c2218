//! Our server and the published servers over loopback WebSocket, in the same
//! run, with the same client: the Python SDK 1.1.3 in the hello family, the
//! crate `arcp` 2.0.0 in the open family.
//!
//! ```text
//! cargo build --release --manifest-path tests/peers/rust/Cargo.toml --target-dir target/peers
//! ARCP_PYTHON=target/interop-venv/bin/python ARCP_RUST=target/peers/release/their-rust \
//!     cargo bench -p arcp-tests --bench loopback
//! ```
//!
//! Then our server with a store in a file, where every commit waits for the
//! disk, beside the one in memory.
//!
//! A published server that is not named is not measured, and no ratio to it
//! is printed. Theirs in Rust runs with TCP_NODELAY, which as published it
//! does not set: without it each of its calls takes 44 ms.

#![allow(clippy::print_stdout, reason = "the report is what it is for")]

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_host::store::{History, Store, StoreError};
use arcp_proto::id::LogPos;
use arcp_proto::runtime::{Batch, Record};
use arcp_proto::wire::Family;
use arcp_tests::raw::{hello_payload, open_payload};
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
    for family in [Family::Hello, Family::Open] {
        compare(&url, family);
    }
    compare_stores(&url);
}

fn compare_stores(memory: &str) {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}.db", std::process::id()));
    let counts = Arc::new(Counts::default());
    let inner = SqliteStore::open(&file, Durability::Full).expect("a store");
    let server = Running::start_on(Box::new(Counting { inner, counts: counts.clone() }), &[], |_| {});
    let durable = format!("ws://{}/arcp", server.address);
    let peer = Peer { family: Family::Hello, ticker: "chatty", token: "tok-a" };
    let (mut on_disk, mut in_memory) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        on_disk.push(measure(&durable, &peer));
        in_memory.push(measure(memory, &peer));
    }
    drop(server);
    for suffix in ["", "-wal", "-shm", "-lock"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
    }
    report("arcp, a store in a file, every commit on the disk", &on_disk);
    report("arcp, in memory (baseline)", &in_memory);
    print_ratios(&on_disk, &in_memory);
    let (commits, events) = (counts.commits.load(Ordering::Relaxed), counts.events.load(Ordering::Relaxed));
    println!(
        "  in groups of {:.0} events on average, {} at most",
        events as f64 / commits as f64,
        counts.largest.load(Ordering::Relaxed)
    );
}

/// A store that counts the commits with several events in them: those of
/// streams, not of single jobs.
struct Counting {
    inner: SqliteStore,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    commits: AtomicU64,
    events: AtomicU64,
    largest: AtomicU64,
}

impl Store for Counting {
    fn load(&mut self, each: &mut dyn FnMut(LogPos, Record)) -> Result<LogPos, StoreError> {
        self.inner.load(each)
    }

    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        let records = batches.iter().flat_map(|batch| &batch.records);
        let events = records.filter(|record| matches!(record, Record::JobEvent { .. })).count() as u64;
        if events > 2 {
            self.counts.commits.fetch_add(1, Ordering::Relaxed);
            self.counts.events.fetch_add(events, Ordering::Relaxed);
            self.counts.largest.fetch_max(events, Ordering::Relaxed);
        }
        self.inner.commit(batches)
    }

    fn history(&mut self) -> Result<Option<Box<dyn History>>, StoreError> {
        self.inner.history()
    }

    fn tidy(&mut self) -> Result<bool, StoreError> {
        self.inner.tidy()
    }
}

fn compare(url: &str, family: Family) {
    let baseline = Baseline::start(family);
    let ours_is = Peer { family, ticker: "chatty", token: "tok-a" };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // In turn, so that what else the machine does falls on both.
    for _ in 0..ROUNDS {
        ours.push(measure(url, &ours_is));
        let theirs_is = Peer { family, ticker: "ticker", token: "tok-alice" };
        theirs.extend(baseline.as_ref().map(|baseline| measure(&baseline.url, &theirs_is)));
    }
    report(&format!("arcp (this repository), {family:?} family"), &ours);
    let Some(baseline) = baseline else {
        println!("no baseline for the {family:?} family: no ratio");
        return;
    };
    report(&format!("{} (baseline), {family:?} family", baseline.name), &theirs);
    print_ratios(&ours, &theirs);
}

/// A published server, for as long as it is measured.
struct Baseline {
    name: &'static str,
    child: Child,
    url: String,
}

impl Baseline {
    fn start(family: Family) -> Option<Baseline> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/python/their_server.py");
        let (name, variable, args): (_, _, &[&str]) = match family {
            Family::Hello => ("agentruntimecontrolprotocol 1.1.3", "ARCP_PYTHON", &[script, "--port"]),
            Family::Open => ("crate arcp 2.0.0", "ARCP_RUST", &["serve"]),
        };
        let program: OsString = std::env::var_os(variable)?;
        let mut child = Command::new(program).args(args).stdout(Stdio::piped()).spawn().expect("it runs");
        let url = ready(&mut child);
        Some(Baseline { name, child, url })
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a server is spoken to.
struct Peer {
    family: Family,
    ticker: &'static str,
    token: &'static str,
}

impl Peer {
    fn submit(&self, socket: &mut WebSocket<TcpStream>, agent: &str, input: Value) {
        match self.family {
            Family::Hello => send(socket, "job.submit", json!({"agent": agent, "input": input})),
            Family::Open => send(socket, "tool.invoke", json!({"tool": agent, "arguments": input})),
        }
    }

    fn ends(&self, text: &str) -> bool {
        let (end, failures) = match self.family {
            Family::Hello => ("\"job.result\"", ["\"job.error\"", "\"session.error\""]),
            Family::Open => ("\"job.completed\"", ["\"job.failed\"", "\"nack\""]),
        };
        assert!(!failures.iter().any(|failure| text.contains(failure)), "{text}");
        text.contains(end)
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

fn print_ratios(ours: &[Rates], baseline: &[Rates]) {
    println!("ratio of the medians, ours to the baseline:");
    for (name, pick) in COLUMNS {
        println!("  {name:<34} {:>6.2} x", median(ours, pick) / median(baseline, pick));
    }
}

fn report(name: &str, rounds: &[Rates]) {
    println!("{name}, median [min..max] of {ROUNDS} rounds:");
    for (column, pick) in COLUMNS {
        let all = rounds.iter().map(pick);
        let (min, max) = all.fold((f64::MAX, 0.0_f64), |(min, max), rate| (min.min(rate), max.max(rate)));
        println!("  {column:<34} {:>10.0} [{min:.0}..{max:.0}]", median(rounds, pick));
    }
}

fn measure(url: &str, peer: &Peer) -> Rates {
    let mut socket = open(url, peer);
    Rates {
        events: events(&mut socket, peer),
        sequential: jobs(&mut socket, peer, 1),
        pipelined: jobs(&mut socket, peer, IN_FLIGHT),
    }
}

fn events(socket: &mut WebSocket<TcpStream>, peer: &Peer) -> f64 {
    let begun = Instant::now();
    peer.submit(socket, peer.ticker, json!({"count": EVENTS}));
    let mut seen = 0;
    until(socket, |text| {
        seen += u64::from(text.contains("\"metric\""));
        peer.ends(text)
    });
    assert_eq!(seen, EVENTS);
    rate(EVENTS as f64, begun.elapsed())
}

fn jobs(socket: &mut WebSocket<TcpStream>, peer: &Peer, in_flight: u32) -> f64 {
    let begun = Instant::now();
    let (mut sent, mut done) = (0, 0);
    while done < JOBS {
        while sent < JOBS && sent < done + in_flight {
            peer.submit(socket, "echo", json!({"n": sent}));
            sent += 1;
        }
        until(socket, |text| peer.ends(text));
        done += 1;
    }
    rate(f64::from(JOBS), begun.elapsed())
}

fn rate(count: f64, span: Duration) -> f64 {
    count / span.as_secs_f64()
}

fn open(url: &str, peer: &Peer) -> WebSocket<TcpStream> {
    let address = url.trim_start_matches("ws://").trim_end_matches("/arcp");
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let mut socket = tungstenite::client(url, stream).expect("a WebSocket").0;
    // Nothing but the work is measured.
    let (kind, mut payload, answer) = match peer.family {
        Family::Hello => ("session.hello", hello_payload(peer.token), "session.welcome"),
        Family::Open => ("session.open", open_payload(peer.token), "session.accepted"),
    };
    payload["capabilities"] = match peer.family {
        Family::Hello => json!({"encodings": ["json"], "features": ["progress", "result_chunk"]}),
        Family::Open => json!({"streaming": true}),
    };
    send(&mut socket, kind, payload);
    until(&mut socket, |text| text.contains(answer));
    socket
}

fn send(socket: &mut WebSocket<TcpStream>, kind: &str, payload: Value) {
    let id = format!("msg_{}", ulid::Ulid::from_parts(0, u128::from(next_number())));
    let timestamp = "2026-11-20T03:41:22.687964781Z";
    let frame = json!({"arcp": "1.1", "id": id, "timestamp": timestamp, "type": kind, "payload": payload});
    socket.send(Message::text(frame.to_string())).expect("sent");
}

fn next_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
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

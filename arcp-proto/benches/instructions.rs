//! What `.ci/instructions` counts: one path of the core, so often.
//!
//! ```text
//! cargo bench -p arcp-proto --bench instructions -- ping 200
//! ```

mod paths;

use std::hint::black_box;

use arcp_proto::wire::Family;
use paths::{Envelope, Stage, decode_header, decode_submit};

fn main() {
    // `cargo bench` adds an argument of its own.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [path, times] = args.as_slice() else {
        return; // Nothing is to be counted: `cargo bench` of everything.
    };
    let times: u64 = times.parse().expect("a number");
    match path.as_str() {
        "decode_header" => repeat(times, decode_header),
        "decode_submit" => repeat(times, decode_submit),
        "encode_hello" => encode(Family::Hello, times),
        "encode_open" => encode(Family::Open, times),
        "event_hello" => events(Family::Hello, times, 0),
        "event_hello_100_idle" => events(Family::Hello, times, 100),
        "event_open" => events(Family::Open, times, 0),
        "job" => on_stage(times, Stage::job),
        "ping" => on_stage(times, Stage::ping),
        other => panic!("no path is called {other}"),
    }
}

fn repeat<T>(times: u64, mut path: impl FnMut() -> T) {
    for _ in 0..times {
        black_box(path());
    }
}

fn on_stage(times: u64, path: fn(&mut Stage)) {
    let mut stage = Stage::new(0, Family::Hello);
    repeat(times, || path(&mut stage));
    // What it takes to let go of all of it is of no path.
    std::mem::forget(stage);
}

fn encode(family: Family, times: u64) {
    let envelope = Envelope::new(family);
    repeat(times, || envelope.encode());
}

fn events(family: Family, times: u64, idle: u64) {
    let mut stage = Stage::new(idle, family);
    let before = stage.sent;
    repeat(times, || stage.event());
    assert!(stage.sent - before >= times, "all of them are sent");
}

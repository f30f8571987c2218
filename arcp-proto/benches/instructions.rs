//! What `.ci/instructions` counts: one path of the core, so often.
//!
//! ```text
//! cargo bench -p arcp-proto --bench instructions -- ping 200
//! cargo bench -p arcp-proto --bench instructions -- event/10000_idle 200
//! ```

mod paths;

use std::hint::black_box;

use arcp_proto::wire::Family;
use paths::{Envelope, Stage, decode_header, decode_submit};

/// Events that an agent says in a row, and that a client misses.
const TOGETHER: u64 = 100;

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
        "event_open" => events(Stage::new(0, Family::Open), times),
        "events_together" => {
            let mut stage = Stage::new(0, Family::Hello);
            repeat(times.div_ceil(TOGETHER), || stage.events(TOGETHER as usize));
        }
        "events_together_open" => {
            let mut stage = Stage::new(0, Family::Open);
            repeat(times.div_ceil(TOGETHER), || stage.events(TOGETHER as usize));
        }
        "ping" => on(Stage::new(0, Family::Hello), times, Stage::ping),
        other => {
            let (path, beside) = other.split_once('/').unwrap_or((other, ""));
            let stage = match beside {
                "" => Stage::new(0, Family::Hello),
                "10000_idle" => Stage::new(10_000, Family::Hello),
                "100000_ended" => Stage::after_jobs(100_000),
                "1000_watchers" => Stage::beside_watchers(1000),
                other => panic!("nothing is called {other}"),
            };
            match path {
                "event" => events(stage, times),
                "job" => on(stage, times, Stage::job),
                "handshake" => on(stage, times, Stage::handshake),
                "replayed" => replayed(stage, times),
                other => panic!("no path is called {other}"),
            }
        }
    }
}

fn repeat<T>(times: u64, mut path: impl FnMut() -> T) {
    for _ in 0..times {
        black_box(path());
    }
}

fn on(mut stage: Stage, times: u64, path: fn(&mut Stage)) {
    repeat(times, || path(&mut stage));
    // What it takes to let go of all of it is of no path.
    std::mem::forget(stage);
}

fn encode(family: Family, times: u64) {
    let envelope = Envelope::new(family);
    repeat(times, || envelope.encode());
}

fn events(mut stage: Stage, times: u64) {
    let before = stage.sent;
    repeat(times, || stage.event());
    assert!(stage.sent - before >= times, "all of them are sent");
}

/// Events that were sent before, so many at once, are sent again.
fn replayed(mut stage: Stage, times: u64) {
    stage.events(TOGETHER as usize);
    let before = stage.sent;
    repeat(times.div_ceil(TOGETHER), || stage.replay());
    assert!(stage.sent - before >= times, "all of them are sent again");
}

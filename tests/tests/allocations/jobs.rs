//! What a job costs that is submitted, runs and ends, as of what an allocator counts: in
//! allocations, and in the bytes that are held of it from then on, until it is forgotten.

use allocation_counter::measure;
use arcp_proto::entropy::Seeds;
use arcp_proto::id::{ConnId, Principal};
use arcp_proto::runtime::{AgentExit, Config, Input, Output, Runtime, Transport, take_back};
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_proto::wire::Family;

const CONN: ConnId = ConnId(1);
const NOW: Now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
const JOBS: u64 = 1000;
/// Allocations of a job, at most.
const EACH: u64 = 58;
/// Bytes that are held of one that is over, at most; frames of open name requests, which
/// are held too.
const HELD: [(Family, i64); 2] = [(Family::Hello, 3500), (Family::Open, 4500)];

fn give(runtime: &mut Runtime, input: Input) {
    runtime.handle(NOW, input);
    while let Some(output) = runtime.poll_output() {
        match output {
            Output::Persist(batch) => runtime.handle(NOW, Input::Persisted { up_to: batch.last() }),
            Output::Send { conn, frame } => {
                let bytes = frame.len() as u32;
                take_back(runtime, frame);
                runtime.handle(NOW, Input::Credit { conn, bytes, frames: 1 });
            }
            Output::StartAgent { job, spec } => {
                let exit = AgentExit::Success { result: Some(spec.input), summary: None };
                runtime.handle(NOW, Input::AgentExited { job, exit });
            }
            _ => {}
        }
    }
}

/// So many jobs, of which each message has an id of its own.
fn run(runtime: &mut Runtime, family: Family, jobs: std::ops::Range<u64>) {
    for n in jobs {
        let submit = match family {
            Family::Hello => {
                format!(r#"{{"id":"s{n}","type":"job.submit","payload":{{"agent":"it","input":{{"n":{n}}}}}}}"#)
            }
            Family::Open => {
                format!(r#"{{"id":"s{n}","type":"tool.invoke","payload":{{"tool":"it","arguments":{{"n":{n}}}}}}}"#)
            }
        };
        give(runtime, Input::Received { conn: CONN, frame: submit.into_bytes() });
    }
}

#[test]
fn a_job_takes_few_allocations_and_little_is_held_of_one_that_is_over() {
    for (family, most) in HELD {
        let open = match family {
            Family::Hello => r#"{"id":"h","type":"session.hello"}"#,
            Family::Open => r#"{"id":"h","type":"session.open","payload":{"capabilities":{"anonymous":true}}}"#,
        };
        let config = Config::new("t", "1").with_agent("it", &[]);
        let mut runtime = Runtime::new(config, Seeds { public: [1; 32], secret: [2; 32] }, NOW).expect("it works");
        let peer = Principal::new("owner").map(Into::into);
        let opened = Input::Opened { conn: CONN, transport: Transport::WebSocket, address: None, binding: None, peer };
        give(&mut runtime, opened);
        give(&mut runtime, Input::Credit { conn: CONN, bytes: 1 << 30, frames: 1 << 20 });
        give(&mut runtime, Input::Received { conn: CONN, frame: open.as_bytes().to_vec() });
        // What is there once, and commands that are remembered: as many as may be.
        run(&mut runtime, family, 0..2 * JOBS);
        let spent = measure(|| run(&mut runtime, family, 2 * JOBS..3 * JOBS));
        let stats = runtime.stats();
        assert_eq!((stats.jobs as u64, stats.unfinished_jobs), (3 * JOBS, 0), "{family:?}");
        let (each, held) = (spent.count_total / JOBS, spent.bytes_current / JOBS as i64);
        eprintln!("{family:?}: {each} allocations, {held} bytes of each are held");
        assert!(each <= EACH, "{family:?}: {each} allocations");
        assert!(held <= most, "{family:?}: {held} bytes");
    }
}

//! What the core costs: time and allocations per event, whoever else is
//! there; an envelope in and out.
//!
//! ```text
//! cargo bench -p arcp-tests --bench core
//! ```

#![allow(clippy::wildcard_enum_match_arm, reason = "what is not measured is not done")]

use arcp_proto::entropy::Seeds;
use arcp_proto::id::{ConnId, JobId, OpId, Principal, SessionId, WireId};
use arcp_proto::json::Json;
use arcp_proto::lease::{Lease, Namespace, Target};
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::feature::Features;
use arcp_proto::runtime::{AgentCall, AgentExit, Config, Input, Output, Runtime, Transport, Verdict};
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_proto::wire::raw::{self, EventFrame, EventSnapshot, Header, read_request};
use arcp_proto::wire::{Family, FrameRole, Profile, View};
use divan::{AllocProfiler, Bencher, black_box};
use globset::{GlobBuilder, GlobSet};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A runtime with one running job, watched by its submitter, and others who
/// are idle.
struct Stage {
    runtime: Runtime,
    now: Now,
    job: JobId,
    sent: usize,
}

const SUBMITTER: ConnId = ConnId(1);

impl Stage {
    fn new(idle: u64) -> Stage {
        let config = Config::new("bench", "1").with_agent("it", &[]);
        let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
        let runtime = Runtime::new(config, Seeds { public: [1; 32], secret: [2; 32] }, now).expect("it works");
        let mut stage = Stage { runtime, now, job: JobId::from_ulid(ulid_zero()), sent: 0 };
        for n in 0..=idle {
            stage.open(ConnId(n + 1), OpId(n + 1));
        }
        let submit = br#"{"id":"s","type":"job.submit","payload":{"agent":"it"}}"#.to_vec();
        stage.input(Input::Received { conn: SUBMITTER, frame: submit });
        stage
    }

    fn open(&mut self, conn: ConnId, op: OpId) {
        self.input(Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None });
        self.input(Input::Credit { conn, bytes: u32::MAX, frames: u32::MAX });
        let hello = br#"{"id":"h","type":"session.hello","payload":{"auth":{"token":"t"}}}"#.to_vec();
        self.input(Input::Received { conn, frame: hello });
        self.input(Input::Authenticated { op, verdict: Principal::new("p").map(Verdict::from) });
    }

    fn input(&mut self, input: Input) {
        self.runtime.handle(self.now, input);
        while let Some(output) = self.runtime.poll_output() {
            match output {
                Output::Persist(batch) => self.runtime.handle(self.now, Input::Persisted { up_to: batch.last() }),
                Output::StartAgent { job, .. } => self.job = job,
                Output::Send { conn, frame } => {
                    let bytes = frame.len() as u32;
                    self.sent += 1;
                    self.runtime.handle(self.now, Input::Credit { conn, bytes, frames: 1 });
                }
                _ => {}
            }
        }
    }
}

fn ulid_zero() -> ulid::Ulid {
    ulid::Ulid::nil()
}

/// One event: said by the agent, stored, numbered, written for its watcher,
/// credit returned.
#[divan::bench(args = [0, 100, 10_000], sample_count = 200, sample_size = 500)]
fn event_with_idle_sessions(bencher: Bencher, idle: u64) {
    let mut stage = Stage::new(idle);
    let body = Json::parse(r#"{"name":"tick","value":12345,"unit":"count"}"#).expect("JSON");
    let before = stage.sent;
    bencher.bench_local(|| {
        let call = AgentCall::Emit { kind: "metric".into(), body: body.clone() };
        stage.input(Input::Agent { job: stage.job, call });
    });
    assert!(stage.sent > before, "events were sent");
}

const SUBMIT: &str = r#"{"arcp":"1.1","id":"msg_01M7VD85KRK5GC3VYZPYNM59NA","type":"job.submit","session_id":"sess_01M7VD85KQE0Z5C979P0HMABF8","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","payload":{"agent":"echo@2.0.0","input":{"dataset":"s3://example/sales.csv","rows":[1,2,3,4,5,6,7,8],"note":"a little text to make it real"},"idempotency_key":"weekly-2026-W47","max_runtime_sec":300}}"#;

/// An envelope in: checked, header and payload read.
#[divan::bench]
fn decode_submit() -> bool {
    let text = raw::ingest(black_box(SUBMIT.as_bytes()), 4 << 20, 120).expect("fine");
    let header = Header::read(text).expect("fine");
    read_request(Family::Hello, &header).is_ok()
}

/// One job from submit to end, with others that ended before it: at 40,000
/// the bound on those has long been reached.
#[divan::bench(args = [0, 10_000, 40_000], sample_count = 50, sample_size = 20)]
fn job_after_ended_jobs(bencher: Bencher, before: u64) {
    let mut stage = Stage::new(0);
    let mut number = 0;
    let mut run = |stage: &mut Stage| {
        number += 1;
        let submit = format!(r#"{{"id":"s{number}","type":"job.submit","payload":{{"agent":"it"}}}}"#);
        stage.input(Input::Received { conn: SUBMITTER, frame: submit.into_bytes() });
        let exit = AgentExit::Success { result: None, summary: None };
        stage.input(Input::AgentExited { job: stage.job, exit });
    };
    for _ in 0..before {
        run(&mut stage);
    }
    bencher.bench_local(|| run(&mut stage));
}

/// The header alone, the payload left as text.
#[divan::bench]
fn decode_header() -> bool {
    let text = raw::ingest(black_box(SUBMIT.as_bytes()), 4 << 20, 120).expect("fine");
    Header::read(text).is_ok()
}

/// An envelope out: a numbered event rendered and framed for one session.
#[divan::bench(args = [Family::Hello, Family::Open])]
fn encode_event(bencher: Bencher, family: Family) {
    let view = View { family, features: Features::default(), profile: Profile::Plain, lines: false };
    let job = JobId::from_ulid(ulid_zero());
    let session = SessionId::from_ulid(ulid_zero());
    let body = Json::parse(r#"{"name":"tick","value":12345,"unit":"count"}"#).expect("JSON");
    let event = JobEvent::Emitted { kind: EventKind::Metric, body };
    let request = WireId::new("msg_01M7VD85KQ9SZXPW6NX4X2SFJ9").expect("an id");
    let snapshot = EventSnapshot { job, at: UtcMs(1_767_225_600_000), thoughts: 0, event: &event };
    bencher.bench_local(|| {
        let payload = raw::render_event(&view, black_box(&snapshot), FrameRole::Whole);
        let frame = EventFrame {
            id: ulid_zero(),
            session,
            seq: Some(77),
            job,
            trace: "4bf92f3577b34da6a3ce929d0e0e4736",
            span: None,
            request: Some(&request),
            own: true,
            event: &event,
            role: FrameRole::Whole,
            payload: &payload,
        };
        raw::write_event(&view, &frame)
    });
}

/// The baseline of decoding: the same text as a tree of values.
#[divan::bench]
fn baseline_decode_value() -> serde_json::Value {
    serde_json::from_str(black_box(SUBMIT)).expect("fine")
}

/// So many patterns of files, and one that the last of them means.
fn patterns(count: usize) -> (Vec<String>, &'static str) {
    let all = (1..=count).rev().map(|n| format!("/srv/project-{n}/**/*.rs"));
    (all.collect(), "/srv/project-1/src/runtime/job/lease.rs")
}

fn lease(namespace: &Namespace, patterns: &[String]) -> Lease {
    let list = serde_json::json!({ namespace.as_str(): patterns });
    Lease::parse(&Json::parse(&list.to_string()).expect("JSON")).expect("a lease")
}

/// Whether an operation is allowed, asked with a text: by the last of so many
/// patterns.
#[divan::bench(args = [1, 100, 1000])]
fn authorize_by_the_last_pattern(bencher: Bencher, count: usize) {
    let (patterns, path) = patterns(count);
    let lease = lease(&Namespace::FsRead, &patterns);
    let may = || {
        let target = Target::new(&Namespace::FsRead, black_box(path)).expect("a path");
        lease.permits(&Namespace::FsRead, &target).is_some()
    };
    assert!(may());
    bencher.bench_local(may);
}

/// The baseline of that: a set of globs, which finds them all at once and looks at
/// nothing else of a path.
#[divan::bench(args = [1, 100, 1000])]
fn baseline_authorize_globset(bencher: Bencher, count: usize) {
    let (patterns, path) = patterns(count);
    let mut set = GlobSet::builder();
    for pattern in &patterns {
        set.add(GlobBuilder::new(pattern).literal_separator(true).build().expect("a glob"));
    }
    let set = set.build().expect("a set");
    assert!(set.is_match(path));
    bencher.bench_local(|| set.is_match(black_box(path)));
}

/// Whether a lease is within another one that has so many wildcards behind a `*`:
/// from some of them on it is given up, at the same cost.
#[divan::bench(args = [1, 5, 9, 13, 100], sample_count = 20, sample_size = 1)]
fn containment_of_hostile_patterns(bencher: Bencher, wildcards: usize) {
    let behind = "?".repeat(wildcards);
    let parent = lease(&Namespace::ToolCall, &[format!("*a{behind}"), format!("*b{behind}"), "*".into()]);
    let child = lease(&Namespace::ToolCall, &["?*".into()]);
    bencher.bench_local(|| black_box(&parent).covers(black_box(&child)).is_ok());
}

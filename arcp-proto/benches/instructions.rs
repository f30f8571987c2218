//! What `.ci/instructions` counts: one path of the core, so often.
//!
//! ```text
//! cargo bench -p arcp-proto --bench instructions -- ping 200
//! ```

#![allow(clippy::wildcard_enum_match_arm, reason = "what is not measured is not done")]

use std::hint::black_box;

use arcp_proto::entropy::Seeds;
use arcp_proto::id::{ConnId, JobId, OpId, Principal, SessionId, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::model::feature::Features;
use arcp_proto::runtime::{AgentCall, AgentExit, Config, Input, Output, Runtime, Transport, Verdict};
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_proto::wire::raw::{self, EventFrame, EventSnapshot, Header, read_request};
use arcp_proto::wire::{Family, FrameRole, Profile, View};

const SUBMITTER: ConnId = ConnId(1);
const SUBMIT: &str = r#"{"arcp":"1.1","id":"msg_01M7VD85KRK5GC3VYZPYNM59NA","type":"job.submit","session_id":"sess_01M7VD85KQE0Z5C979P0HMABF8","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","payload":{"agent":"echo@2.0.0","input":{"dataset":"s3://example/sales.csv","rows":[1,2,3,4,5,6,7,8],"note":"a little text to make it real"},"idempotency_key":"weekly-2026-W47","max_runtime_sec":300}}"#;

fn main() {
    // `cargo bench` adds an argument of its own.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [path, times] = args.as_slice() else {
        return; // Nothing is to be counted: `cargo bench` of everything.
    };
    let times: u64 = times.parse().expect("a number");
    match path.as_str() {
        "decode_header" => (0..times).for_each(|_| {
            black_box(Header::read(submit()).is_ok());
        }),
        "decode_submit" => (0..times).for_each(|_| {
            let header = Header::read(submit()).expect("fine");
            black_box(read_request(Family::Hello, &header).is_ok());
        }),
        "encode_hello" => encode(Family::Hello, times),
        "encode_open" => encode(Family::Open, times),
        "event_hello" => events(Family::Hello, times, 0),
        "event_hello_100_idle" => events(Family::Hello, times, 100),
        "event_open" => events(Family::Open, times, 0),
        "job" => jobs(times),
        "ping" => pings(times),
        other => panic!("no path is called {other}"),
    }
}

/// An envelope in: its text is checked.
fn submit() -> &'static str {
    raw::ingest(black_box(SUBMIT.as_bytes()), 4 << 20, 120).expect("fine")
}

/// Envelopes out: a numbered event rendered and framed for one session.
fn encode(family: Family, times: u64) {
    let view = View { family, features: Features::default(), profile: Profile::Plain, lines: false };
    let (job, session) = (JobId::from_ulid(ulid::Ulid::nil()), SessionId::from_ulid(ulid::Ulid::nil()));
    let event = JobEvent::Emitted { kind: EventKind::Metric, body: tick() };
    let request = WireId::new("msg_01M7VD85KQ9SZXPW6NX4X2SFJ9").expect("an id");
    for _ in 0..times {
        let shown = EventSnapshot { job, at: UtcMs(1_767_225_600_000), thoughts: 0, event: &event };
        let payload = raw::render_event(&view, black_box(&shown), FrameRole::Whole);
        let frame = EventFrame {
            id: ulid::Ulid::nil(),
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
        black_box(raw::write_event(&view, &frame));
    }
}

/// Events: said by an agent, stored, numbered, written for its watcher, credit
/// returned, while so many others are idle.
fn events(family: Family, times: u64, idle: u64) {
    let mut stage = Stage::new(idle, family);
    let (body, before) = (tick(), stage.sent);
    for _ in 0..times {
        let call = AgentCall::Emit { kind: "metric".into(), body: body.clone() };
        stage.input(Input::Agent { job: stage.job, call });
    }
    assert!(stage.sent - before >= times, "all of them are sent");
}

/// Jobs from submit to end.
fn jobs(times: u64) {
    let mut stage = Stage::new(0, Family::Hello);
    for number in 0..times {
        let submit = format!(r#"{{"id":"s{number}","type":"job.submit","payload":{{"agent":"it"}}}}"#);
        stage.input(Input::Received { conn: SUBMITTER, frame: submit.into_bytes() });
        let exit = AgentExit::Success { result: None, summary: None };
        stage.input(Input::AgentExited { job: stage.job, exit });
    }
}

/// Requests that are answered at once.
fn pings(times: u64) {
    let mut stage = Stage::new(0, Family::Hello);
    for _ in 0..times {
        let ping = br#"{"id":"p","type":"session.ping","payload":{"nonce":"x"}}"#;
        stage.input(Input::Received { conn: SUBMITTER, frame: ping.to_vec() });
    }
}

fn tick() -> Json {
    Json::parse(r#"{"name":"tick","value":12345,"unit":"count"}"#).expect("JSON")
}

/// A runtime with one running job, watched by its submitter, and others who
/// are idle.
struct Stage {
    runtime: Runtime,
    now: Now,
    job: JobId,
    sent: u64,
    family: Family,
}

impl Stage {
    fn new(idle: u64, family: Family) -> Stage {
        let config = Config::new("bench", "1").with_agent("it", &[]);
        let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
        let runtime = Runtime::new(config, Seeds { public: [1; 32], secret: [2; 32] }, now).expect("it works");
        let mut stage = Stage { runtime, now, job: JobId::from_ulid(ulid::Ulid::nil()), sent: 0, family };
        for n in 1..=idle + 1 {
            stage.open(ConnId(n), OpId(n));
        }
        let submit: &[u8] = match family {
            Family::Hello => br#"{"id":"s","type":"job.submit","payload":{"agent":"it"}}"#,
            Family::Open => br#"{"id":"s","type":"tool.invoke","payload":{"tool":"it"}}"#,
        };
        stage.input(Input::Received { conn: SUBMITTER, frame: submit.to_vec() });
        stage
    }

    fn open(&mut self, conn: ConnId, op: OpId) {
        self.input(Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None });
        self.input(Input::Credit { conn, bytes: u32::MAX, frames: u32::MAX });
        let open: &[u8] = match self.family {
            Family::Hello => br#"{"id":"h","type":"session.hello","payload":{"auth":{"token":"t"}}}"#,
            Family::Open => br#"{"id":"h","type":"session.open","payload":{"auth":{"scheme":"bearer","token":"t"}}}"#,
        };
        self.input(Input::Received { conn, frame: open.to_vec() });
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

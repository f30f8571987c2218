//! The paths of the core whose cost is known: `.ci/instructions` counts them, the
//! bench `core` of the suite times them.

use std::hint::black_box;

use arcp_proto::entropy::Seeds;
use arcp_proto::id::{ConnId, JobId, OpId, Principal, SessionId, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::runtime::{AgentCall, AgentExit, Config, Input, Output, Runtime, Transport, Verdict};
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_proto::wire::raw::{self, EventFrame, EventSnapshot, Header, read_request};
use arcp_proto::wire::{Family, FrameRole, View};

/// An envelope of a few hundred bytes.
pub const SUBMIT: &str = r#"{"arcp":"1.1","id":"msg_01M7VD85KRK5GC3VYZPYNM59NA","type":"job.submit","session_id":"sess_01M7VD85KQE0Z5C979P0HMABF8","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","payload":{"agent":"echo@2.0.0","input":{"dataset":"s3://example/sales.csv","rows":[1,2,3,4,5,6,7,8],"note":"a little text to make it real"},"idempotency_key":"weekly-2026-W47","max_runtime_sec":300}}"#;
const SUBMITTER: ConnId = ConnId(1);

/// The header alone, the payload left as text.
pub fn decode_header() -> bool {
    Header::receive(black_box(SUBMIT.as_bytes()), 4 << 20, 120).is_ok()
}

/// An envelope in: checked, header and payload read.
pub fn decode_submit() -> bool {
    let header = Header::receive(black_box(SUBMIT.as_bytes()), 4 << 20, 120).expect("fine");
    read_request(Family::Hello, &header).is_ok()
}

fn tick() -> Json {
    Json::parse(r#"{"name":"tick","value":12345,"unit":"count"}"#).expect("JSON")
}

/// A numbered event, to be rendered and framed for one session.
pub struct Envelope {
    view: View,
    event: JobEvent,
    request: WireId,
}

impl Envelope {
    pub fn new(family: Family) -> Envelope {
        Envelope {
            view: View { family, ..View::before_handshake(false) },
            event: JobEvent::Emitted { kind: EventKind::Metric, body: tick() },
            request: WireId::new("msg_01M7VD85KQ9SZXPW6NX4X2SFJ9").expect("an id"),
        }
    }

    /// An envelope out.
    pub fn encode(&self) -> impl Sized + use<> {
        let (job, session) = (JobId::from_ulid(ulid::Ulid::nil()), SessionId::from_ulid(ulid::Ulid::nil()));
        let shown = EventSnapshot { job, at: UtcMs(1_767_225_600_000), thoughts: 0, event: &self.event };
        let payload = raw::render_event(&self.view, black_box(&shown), FrameRole::Whole);
        let frame = EventFrame {
            id: ulid::Ulid::nil(),
            session,
            seq: Some(77),
            job,
            trace: "4bf92f3577b34da6a3ce929d0e0e4736",
            span: None,
            request: Some(&self.request),
            own: true,
            event: &self.event,
            role: FrameRole::Whole,
            payload: &payload,
        };
        raw::write_event(&self.view, &frame)
    }
}

/// A runtime with one running job, watched by its submitter, and others who
/// are idle.
pub struct Stage {
    runtime: Runtime,
    now: Now,
    job: JobId,
    body: Json,
    submitted: u64,
    /// Frames that were sent.
    pub sent: u64,
}

impl Stage {
    pub fn new(idle: u64, family: Family) -> Stage {
        let config = Config::new("bench", "1").with_agent("it", &[]);
        let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
        let runtime = Runtime::new(config, Seeds { public: [1; 32], secret: [2; 32] }, now).expect("it works");
        let job = JobId::from_ulid(ulid::Ulid::nil());
        let mut stage = Stage { runtime, now, job, body: tick(), submitted: 0, sent: 0 };
        let [open, submit]: [&[u8]; 2] = match family {
            Family::Hello => [
                br#"{"id":"h","type":"session.hello","payload":{"auth":{"token":"t"}}}"#,
                br#"{"id":"s","type":"job.submit","payload":{"agent":"it"}}"#,
            ],
            Family::Open => [
                br#"{"id":"h","type":"session.open","payload":{"auth":{"scheme":"bearer","token":"t"}}}"#,
                br#"{"id":"s","type":"tool.invoke","payload":{"tool":"it"}}"#,
            ],
        };
        for n in 1..=idle + 1 {
            stage.open(ConnId(n), OpId(n), open);
        }
        stage.input(Input::Received { conn: SUBMITTER, frame: submit.to_vec() });
        stage
    }

    /// One event: said by the agent, stored, numbered, written for its watcher,
    /// credit returned.
    pub fn event(&mut self) {
        let call = AgentCall::Emit { kind: "metric".into(), body: self.body.clone() };
        self.input(Input::Agent { job: self.job, call });
    }

    /// One job of the hello family from submit to end.
    pub fn job(&mut self) {
        let number = self.submitted;
        self.submitted += 1;
        let submit = format!(r#"{{"id":"s{number}","type":"job.submit","payload":{{"agent":"it"}}}}"#);
        self.input(Input::Received { conn: SUBMITTER, frame: submit.into_bytes() });
        let exit = AgentExit::Success { result: None, summary: None };
        self.input(Input::AgentExited { job: self.job, exit });
    }

    /// One request of the hello family that is answered at once.
    pub fn ping(&mut self) {
        let ping = br#"{"id":"p","type":"session.ping","payload":{"nonce":"x"}}"#;
        self.input(Input::Received { conn: SUBMITTER, frame: ping.to_vec() });
    }

    fn open(&mut self, conn: ConnId, op: OpId, open: &[u8]) {
        self.input(Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None });
        self.input(Input::Credit { conn, bytes: u32::MAX, frames: u32::MAX });
        self.input(Input::Received { conn, frame: open.to_vec() });
        self.input(Input::Authenticated { op, verdict: Principal::new("p").map(Verdict::from) });
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "what is not measured is not done")]
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

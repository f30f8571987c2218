//! The paths of the core whose cost is known: `.ci/instructions` counts them, the
//! bench `core` of the suite times them.

use std::hint::black_box;

use arcp_proto::entropy::Seeds;
use arcp_proto::id::{ConnId, JobId, OpId, Principal, SessionId, WireId};
use arcp_proto::json::Json;
use arcp_proto::model::event::{EventKind, JobEvent};
use arcp_proto::runtime::{AgentCall, AgentExit, Config, Input, Output, Runtime, Transport, Verdict, take_back};
use arcp_proto::time::{Now, Timestamp, UtcMs};
use arcp_proto::wire::raw::{self, EventFrame, EventSnapshot, Header, read_request};
use arcp_proto::wire::{Family, FrameRole, View};

/// An envelope of a few hundred bytes.
pub const SUBMIT: &str = r#"{"arcp":"1.1","id":"msg_01M7VD85KRK5GC3VYZPYNM59NA","type":"job.submit","session_id":"sess_01M7VD85KQE0Z5C979P0HMABF8","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","payload":{"agent":"echo@2.0.0","input":{"dataset":"s3://example/sales.csv","rows":[1,2,3,4,5,6,7,8],"note":"a little text to make it real"},"idempotency_key":"weekly-2026-W47","max_runtime_sec":300}}"#;

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
/// have nothing to do with it.
pub struct Stage {
    runtime: Runtime,
    now: Now,
    job: JobId,
    body: Json,
    submitted: u64,
    /// The connection of whoever has submitted the job, and the first that is free.
    submitter: ConnId,
    next: u64,
    /// The last frame that tells of a session, if it is wanted.
    welcome: Option<String>,
    /// Bytes and frames that were written to connections.
    written: Vec<(ConnId, u32, u32)>,
    /// Frames that were sent.
    pub sent: u64,
}

const HELLO: &str = r#"{"id":"h","type":"session.hello","payload":{"auth":{"token":"t"}}}"#;

impl Stage {
    /// With so many idle sessions.
    pub fn new(idle: u64, family: Family) -> Stage {
        Stage::beside(family, |stage| (0..idle).for_each(|_| _ = stage.open(HELLO)))
    }

    /// With so many jobs that have ended.
    pub fn after_jobs(ended: u64) -> Stage {
        Stage::beside(Family::Hello, |stage| {
            stage.submitter = stage.open(HELLO);
            (0..ended).for_each(|_| stage.job());
        })
    }

    /// With so many sessions that watch another job.
    pub fn beside_watchers(watchers: u64) -> Stage {
        Stage::beside(Family::Hello, |stage| {
            stage.submitter = stage.open(HELLO);
            stage.submit();
            let features = r#","capabilities":{"features":["subscribe"]}}}"#;
            let hello = HELLO.strip_suffix("}}").map(|open| format!("{open}{features}")).unwrap_or_default();
            for _ in 0..watchers {
                let conn = stage.open(&hello);
                let watch = format!(r#"{{"id":"w","type":"job.subscribe","payload":{{"job_id":"{}"}}}}"#, stage.job);
                stage.input(Input::Received { conn, frame: watch.into_bytes() });
            }
        })
    }

    fn beside(family: Family, others: impl FnOnce(&mut Stage)) -> Stage {
        let config = Config::new("bench", "1").with_agent("it", &[]);
        let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
        let runtime = Runtime::new(config, Seeds { public: [1; 32], secret: [2; 32] }, now).expect("it works");
        let (job, submitter) = (JobId::from_ulid(ulid::Ulid::nil()), ConnId(0));
        let (submitted, welcome, written, sent) = (0, None, Vec::new(), 0);
        let mut stage =
            Stage { runtime, now, job, body: tick(), submitted, submitter, next: 1, welcome, written, sent };
        others(&mut stage);
        let [open, submit] = match family {
            Family::Hello => [HELLO, r#"{"id":"s","type":"job.submit","payload":{"agent":"it"}}"#],
            Family::Open => [
                r#"{"id":"h","type":"session.open","payload":{"auth":{"scheme":"bearer","token":"t"}}}"#,
                r#"{"id":"s","type":"tool.invoke","payload":{"tool":"it"}}"#,
            ],
        };
        stage.welcome = Some(String::new());
        stage.submitter = stage.open(open);
        stage.input(Input::Received { conn: stage.submitter, frame: submit.as_bytes().to_vec() });
        stage
    }

    /// One event: said by the agent, stored, numbered, written for its watcher,
    /// credit returned.
    pub fn event(&mut self) {
        let call = self.call();
        self.input(Input::Agent { job: self.job, call });
    }

    /// So many of them, said in the same millisecond.
    pub fn events(&mut self, together: usize) {
        let calls = (0..together).map(|_| self.call()).collect();
        self.input(Input::AgentSays { job: self.job, calls });
    }

    fn call(&self) -> AgentCall {
        AgentCall::Emit { kind: EventKind::Metric, body: self.body.clone() }
    }

    /// One job of the hello family from submit to end.
    pub fn job(&mut self) {
        self.submit();
        let exit = AgentExit::Success { result: None, summary: None };
        self.input(Input::AgentExited { job: self.job, exit });
    }

    fn submit(&mut self) {
        let number = self.submitted;
        self.submitted += 1;
        let submit = format!(r#"{{"id":"s{number}","type":"job.submit","payload":{{"agent":"it"}}}}"#);
        self.input(Input::Received { conn: self.submitter, frame: submit.into_bytes() });
    }

    /// One request of the hello family that is answered at once.
    pub fn ping(&mut self) {
        let ping = br#"{"id":"p","type":"session.ping","payload":{"nonce":"x"}}"#;
        self.input(Input::Received { conn: self.submitter, frame: ping.to_vec() });
    }

    /// One session of the hello family from its opening to its connection's end.
    pub fn handshake(&mut self) {
        let conn = self.open(HELLO);
        let bye = br#"{"id":"b","type":"session.bye","payload":{}}"#;
        self.input(Input::Received { conn, frame: bye.to_vec() });
        self.input(Input::Closed { conn });
    }

    /// The submitter loses its connection, comes back, and is sent everything again.
    pub fn replay(&mut self) {
        self.input(Input::Closed { conn: self.submitter });
        let told = self.welcome.replace(String::new()).unwrap_or_default();
        let said = |name: &str| {
            let from = told.find(name).map_or(0, |at| at + name.len() + 3);
            told[from..].split('"').next().unwrap_or_default().to_string()
        };
        let (session, token) = (said("session_id"), said("resume_token"));
        let claim =
            format!(r#","resume":{{"session_id":"{session}","resume_token":"{token}","last_event_seq":0}}}}}}"#);
        let hello = HELLO.strip_suffix("}}").map(|open| format!("{open}{claim}")).unwrap_or_default();
        self.submitter = self.open(&hello);
    }

    fn open(&mut self, open: &str) -> ConnId {
        let (conn, op) = (ConnId(self.next), OpId(self.next));
        self.next += 1;
        self.input(Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None });
        self.input(Input::Credit { conn, bytes: u32::MAX, frames: u32::MAX });
        self.input(Input::Received { conn, frame: open.as_bytes().to_vec() });
        self.input(Input::Authenticated { op, verdict: Principal::new("p").map(Verdict::from) });
        conn
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "what is not measured is not done")]
    fn input(&mut self, input: Input) {
        self.runtime.handle(self.now, input);
        loop {
            let Some(output) = self.runtime.poll_output() else {
                // What a turn has written to a connection comes back at once, as from a driver.
                let Some((conn, bytes, frames)) = self.written.pop() else { break };
                self.runtime.handle(self.now, Input::Credit { conn, bytes, frames });
                continue;
            };
            match output {
                Output::Persist(batch) => self.runtime.handle(self.now, Input::Persisted { up_to: batch.last() }),
                Output::StartAgent { job, .. } => self.job = job,
                Output::Send { conn, frame } => {
                    let bytes = frame.len() as u32;
                    self.sent += 1;
                    if let Some(welcome) = self.welcome.as_mut().filter(|welcome| welcome.is_empty()) {
                        welcome.push_str(&frame);
                    }
                    take_back(&mut self.runtime, frame);
                    match self.written.iter_mut().find(|(known, ..)| *known == conn) {
                        Some((_, all, frames)) => (*all, *frames) = (*all + bytes, *frames + 1),
                        None => self.written.push((conn, bytes, 1)),
                    }
                }
                _ => {}
            }
        }
    }
}

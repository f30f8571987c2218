//! The cost of one frame in allocated bytes and written records: counted, not timed. No frame costs more than a
//! multiple of its own bytes and of its outputs, however much the runtime holds already.

#![allow(clippy::wildcard_enum_match_arm, reason = "what is not counted is not done")]

use allocation_counter::{AllocationInfo, measure};
use arcp_proto::entropy::Seeds;
use arcp_proto::id::{ConnId, JobId, Principal};
use arcp_proto::json::Json;
use arcp_proto::lease::{Ceiling, Lease};
use arcp_proto::runtime::{AgentCall, AgentExit, Config, Input, Output, Runtime, Transport, Verdict};
use arcp_proto::time::{Now, Timestamp, UtcMs};
use serde_json::{Value, json};

/// A frame may allocate so many times its own bytes and those that come of
/// it,
const MULTIPLE: u64 = 40;
/// and so many bytes besides.
const BESIDES: u64 = 64 << 10;

/// A runtime over a store that keeps everything at once.
struct Stage {
    runtime: Runtime,
    now: Now,
    conns: u64,
    frames: Vec<String>,
    records: u64,
    jobs: Vec<JobId>,
    sent: u64,
}

/// What came of one input.
#[derive(Debug)]
struct Cost {
    allocated: AllocationInfo,
    frame: u64,
    /// Bytes that went out, and of records.
    came: u64,
    records: u64,
}

impl Stage {
    fn new(change: impl FnOnce(&mut Config)) -> Stage {
        let mut config = Config::new("cost", "1").with_agent("it", &[]);
        config.timing.heartbeat = None;
        config.limits.job.principal_share = 100;
        change(&mut config);
        let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
        let runtime = Runtime::new(config, Seeds { public: [1; 32], secret: [2; 32] }, now).expect("it works");
        Stage { runtime, now, conns: 0, frames: Vec::new(), records: 0, jobs: Vec::new(), sent: 0 }
    }

    /// Hands an input over and does what is asked; gives the bytes of what
    /// came.
    fn input(&mut self, input: Input) -> u64 {
        let mut came = 0;
        self.runtime.handle(self.now, input);
        while let Some(output) = self.runtime.poll_output() {
            match output {
                Output::Persist(batch) => {
                    self.records += batch.records.len() as u64;
                    came += batch.records.iter().map(|record| size_of_val(record) as u64).sum::<u64>();
                    self.runtime.handle(self.now, Input::Persisted { up_to: batch.last() });
                }
                Output::Send { frame, .. } => {
                    came += frame.len() as u64;
                    self.frames.push(frame);
                }
                Output::StartAgent { job, .. } => self.jobs.push(job),
                Output::Authenticate { op, .. } => {
                    let verdict = Principal::new("a").map(Verdict::from);
                    self.runtime.handle(self.now, Input::Authenticated { op, verdict });
                }
                _ => {}
            }
        }
        came
    }

    /// A session that may be sent so many frames.
    fn session(&mut self, frames: u32) -> ConnId {
        self.conns += 1;
        let conn = ConnId(self.conns);
        self.input(Input::Opened { conn, transport: Transport::WebSocket, address: None, binding: None, peer: None });
        self.input(Input::Credit { conn, bytes: u32::MAX, frames });
        self.send(
            conn,
            "session.hello",
            json!({
                "auth": {"scheme": "bearer", "token": "t"},
                "capabilities": {"features": ["ack", "list_jobs", "subscribe", "progress", "result_chunk"]},
            }),
        );
        conn
    }

    fn send(&mut self, conn: ConnId, kind: &str, payload: Value) -> Cost {
        self.sent += 1;
        let frame = json!({"id": format!("m{}", self.sent), "type": kind, "payload": payload}).to_string();
        self.send_text(conn, frame)
    }

    fn send_text(&mut self, conn: ConnId, frame: String) -> Cost {
        let (bytes, records) = (frame.len() as u64, self.records);
        let input = Input::Received { conn, frame: frame.into_bytes() };
        let mut came = 0;
        let allocated = measure(|| came = self.input(input));
        Cost { allocated, frame: bytes, came, records: self.records - records }
    }

    /// A job that has said `events` things, of two kinds in turn.
    fn talkative(&mut self, conn: ConnId, events: u64) -> JobId {
        self.send(conn, "job.submit", json!({"agent": "it"}));
        let job = *self.jobs.last().expect("it was started");
        let log = Json::parse(r#"{"message":"m"}"#).expect("JSON");
        let progress = Json::parse(r#"{"current":1}"#).expect("JSON");
        for n in 0..events {
            let (kind, body) = if n % 2 == 0 { ("log", log.clone()) } else { ("progress", progress.clone()) };
            self.input(Input::Agent { job, call: AgentCall::Emit { kind: kind.into(), body } });
        }
        self.frames.clear();
        job
    }
}

impl Cost {
    /// Whether it stays within what a frame may cost.
    #[track_caller]
    fn is_fair(&self) {
        let most = MULTIPLE * (self.frame + self.came) + BESIDES;
        assert!(self.allocated.bytes_total <= most, "at most {most}: {self:?}");
    }
}

#[test]
fn asking_for_a_long_history_costs_what_is_shown_of_it() {
    let mut stage = Stage::new(|_| {});
    let owner = stage.session(u32::MAX);
    let job = stage.talkative(owner, 20_000);
    // Somebody who reads three frames, and asks again and again.
    let watcher = stage.session(3);
    for _ in 0..4 {
        let cost = stage.send(watcher, "job.subscribe", json!({"job_id": job, "history": true}));
        cost.is_fair();
        assert!(cost.records <= 4, "{cost:?}");
        stage.send(watcher, "job.unsubscribe", json!({"job_id": job})).is_fair();
    }
}

#[test]
fn listing_costs_what_is_written_of_it() {
    let mut stage = Stage::new(|_| {});
    let owner = stage.session(u32::MAX);
    for n in 0..1000 {
        stage.send(owner, "job.submit", json!({"agent": "it", "input": n}));
        let job = *stage.jobs.last().expect("it was started");
        stage.input(Input::AgentExited { job, exit: AgentExit::Success { result: None, summary: None } });
    }
    stage.send(owner, "session.list_jobs", json!({"limit": 1000})).is_fair();
    // Nobody can write to these: nothing is looked up for them, and what is held is small.
    let silent: Vec<ConnId> = (0..40).map(|_| stage.session(1)).collect();
    let held = measure(|| {
        for conn in &silent {
            for _ in 0..31 {
                stage.send(*conn, "session.list_jobs", json!({"limit": 1000})).is_fair();
            }
        }
    });
    let each = held.bytes_current / (40 * 31);
    assert!(each < 2048, "{each} bytes are held for each listing that waits");
}

#[test]
fn an_input_costs_the_same_however_deep_it_is() {
    let mut stage = Stage::new(|_| {});
    let conn = stage.session(u32::MAX);
    let body = "x".repeat(1_000_000);
    let mut costs = Vec::new();
    for depth in [0, 30, 110] {
        let input = format!("{}\"{body}\"{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        let submit = format!(
            r#"{{"id":"d{depth}","type":"job.submit","payload":{{"agent":"it","idempotency_key":"k{depth}","input":{input}}}}}"#
        );
        let cost = stage.send_text(conn, submit);
        cost.is_fair();
        costs.push(cost.allocated.bytes_total);
    }
    assert!(costs.iter().all(|cost| *cost < costs[0] + costs[0] / 4), "{costs:?}");
}

#[test]
fn frames_that_ask_for_nothing_cost_nothing_much() {
    let mut stage = Stage::new(|_| {});
    let owner = stage.session(u32::MAX);
    let job = stage.talkative(owner, 2000);
    let other = stage.session(2);
    let frames = [
        ("session.ping", json!({"nonce": "n"})),
        ("session.ack", json!({"last_processed_seq": u64::MAX})),
        ("job.cancel", json!({"job_id": "job_none"})),
        ("job.cancel", json!({"job_id": job, "reason": "r"})),
        ("job.subscribe", json!({"job_id": "job_none", "history": true})),
        ("job.unsubscribe", json!({"job_id": job})),
        ("session.list_jobs", json!({"cursor": "none", "limit": 1000})),
        ("job.submit", json!({"agent": "none"})),
        ("job.submit", json!({"agent": "it", "lease_request": {"fs.read": ["/a"]}})),
        ("x-vendor.none.at_all", json!({})),
    ];
    for (kind, payload) in frames {
        let cost = stage.send(other, kind, payload);
        cost.is_fair();
        assert!(cost.records <= 4, "{kind}: {cost:?}");
    }
}

#[test]
fn proofs_about_leases_take_a_principals_part_of_the_time_and_no_more() {
    let behind = "?".repeat(13);
    let ceiling = json!({"tool.call": [format!("*a{behind}"), format!("*b{behind}"), "x"]}).to_string();
    let ceiling = Lease::parse(&Json::parse(&ceiling).expect("JSON")).expect("a lease");
    let mut stage = Stage::new(|config| config.ceiling = Some(Ceiling::new(ceiling)));
    let conn = stage.session(u32::MAX);
    let hostile = json!({"agent": "it", "lease_request": {"tool.call": [format!("c{behind}?*")]}});
    // As many as somebody sends in a second, all at once.
    let costs = (0..100).map(|_| stage.send(conn, "job.submit", hostile.clone()).allocated.count_total);
    let costs: Vec<u64> = costs.collect();
    let dear: Vec<u64> = costs.iter().copied().filter(|cost| *cost > 1000).collect();
    assert_eq!(dear.len(), 5, "a quarter of a second's worth is walked at once: {costs:?}");
    assert!(dear.iter().all(|cost| *cost < 10_000), "and some thousand states for each: {dear:?}");
    let refused = stage.frames.last().expect("an answer");
    assert!(refused.contains("proof_units_per_second") && refused.contains("retry_after_ms"), "{refused}");
}

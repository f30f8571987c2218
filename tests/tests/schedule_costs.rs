//! The cost of ten thousand schedules in bytes, allocations and requests to the host: counted, not timed.

#![allow(clippy::wildcard_enum_match_arm, reason = "what is not counted is not done")]

use std::collections::VecDeque;

use allocation_counter::{AllocationInfo, measure};
use arcp_proto::entropy::Seeds;
use arcp_proto::id::{ConnId, LogPos, OpId, Principal};
use arcp_proto::model::schedule::{Plan, Rule};
use arcp_proto::runtime::{AgentExit, Config, HeldFor, Input, Output, Record, Runtime, Transport, Verdict, held_bytes};
use arcp_proto::time::{Now, Timestamp, UtcMs};
use serde_json::{Value, json};

const CONN: ConnId = ConnId(1);
const HOUR: u64 = 3_600_000;
/// Every hour; when exactly is what [`Stage`] says.
const HOURLY: &str = "DTSTART:20260101T000000Z\nRRULE:FREQ=HOURLY";

/// A runtime over a store that keeps everything at once, and a host that finds times.
struct Stage {
    runtime: Runtime,
    now: Now,
    /// What the store has, if that is wanted.
    kept: Option<Vec<(LogPos, Record)>>,
    sent: u64,
    frames: Vec<String>,
    started: usize,
    /// What the host was asked, and how much of that it was at most at.
    plans: usize,
    planning: VecDeque<(OpId, Rule, UtcMs)>,
    most: usize,
}

fn config() -> Config {
    let mut config = Config::new("cost", "1").with_agent("it", &[]);
    config.timing.schedules = true;
    config.timing.heartbeat = None;
    config.limits.schedule.schedules_per_principal = 20_000;
    config.limits.job.principal_share = 100;
    config
}

impl Stage {
    fn new() -> Stage {
        let now = Now { mono: Timestamp(1), utc: UtcMs(1_767_225_600_000) };
        let runtime = Runtime::new(config(), Seeds { public: [1; 32], secret: [2; 32] }, now).expect("it works");
        let (frames, planning) = (Vec::new(), VecDeque::new());
        Stage { runtime, now, kept: None, sent: 0, frames, started: 0, plans: 0, planning, most: 0 }
    }

    /// One with so many schedules.
    fn with(many: u64, keeps: bool) -> Stage {
        let mut stage = Stage::new();
        stage.kept = keeps.then(Vec::new);
        stage.input(Input::Opened {
            conn: CONN,
            transport: Transport::WebSocket,
            address: None,
            binding: None,
            peer: None,
        });
        stage.input(Input::Credit { conn: CONN, bytes: u32::MAX, frames: u32::MAX });
        let features = json!({"features": ["ack", "x-vendor.arcp.scheduled_jobs"]});
        stage.send("session.hello", json!({"auth": {"scheme": "bearer", "token": "t"}, "capabilities": features}));
        for n in 0..many {
            stage.schedule(&format!("s{n}"), json!({"every": HOURLY}));
        }
        stage.frames.clear();
        stage
    }

    /// Hands an input over and does what is asked, until nothing is.
    fn input(&mut self, input: Input) {
        self.runtime.handle(self.now, input);
        loop {
            while let Some(output) = self.runtime.poll_output() {
                match output {
                    Output::Persist(batch) => {
                        if let Some(kept) = &mut self.kept {
                            kept.extend(batch.entries().map(|(at, record)| (at, record.clone())));
                        }
                        self.runtime.handle(self.now, Input::Persisted { up_to: batch.last() });
                    }
                    Output::Send { frame, .. } => self.frames.push(frame),
                    Output::StartAgent { job, .. } => {
                        self.started += 1;
                        let exit = AgentExit::Success { result: None, summary: None };
                        self.runtime.handle(self.now, Input::AgentExited { job, exit });
                    }
                    Output::Authenticate { op, .. } => {
                        let verdict = Principal::new("a").map(Verdict::from);
                        self.runtime.handle(self.now, Input::Authenticated { op, verdict });
                    }
                    Output::PlanSchedule { op, rule, after, .. } => {
                        self.plans += 1;
                        self.planning.push_back((op, rule, after));
                        self.most = self.most.max(self.planning.len());
                    }
                    _ => {}
                }
            }
            let Some((op, rule, after)) = self.planning.pop_front() else { return };
            let first = after.0 / HOUR + 1;
            let coming = (first..first + 16).map(|hour| UtcMs(hour * HOUR)).collect();
            let plan = Ok(Plan { rule, missed: Vec::new(), coming, is_all: false, ends: None });
            self.runtime.handle(self.now, Input::SchedulePlanned { op, plan });
        }
    }

    fn send(&mut self, kind: &str, payload: Value) {
        self.sent += 1;
        let frame = json!({"id": format!("m{}", self.sent), "type": kind, "payload": payload}).to_string();
        self.input(Input::Received { conn: CONN, frame: frame.into_bytes() });
    }

    fn schedule(&mut self, id: &str, when: Value) {
        let job = json!({"type": "job.submit", "payload": {"agent": "it", "input": {"n": 1}}});
        self.send("job.schedule", json!({"job": job, "when": when, "schedule_id": id}));
        let answer = self.frames.last().expect("an answer");
        assert!(answer.contains(r#""type":"ack""#), "{answer}");
        self.frames.truncate(1);
    }

    /// Time goes on, and what is due then happens.
    fn wait(&mut self, ms: u64) -> AllocationInfo {
        self.now = Now { mono: Timestamp(self.now.mono.0 + ms * 1000), utc: UtcMs(self.now.utc.0 + ms) };
        measure(|| self.input(Input::Tick))
    }
}

#[test]
fn one_firing_costs_as_much_among_ten_thousand_schedules_as_among_ten() {
    let costs = [10, 10_000].map(|many| {
        let mut stage = Stage::with(many, false);
        let soon = UtcMs(stage.now.utc.0 + 60_000).to_string();
        stage.schedule("soon", json!({"at": soon}));
        let before = stage.started;
        // Nothing is due yet, and then one of them is.
        let idle = stage.wait(59_000);
        let fired = stage.wait(1000);
        assert_eq!(stage.started, before + 1, "it has fired");
        let listed = measure(|| stage.send("x-vendor.arcp.schedules.list", json!({"limit": 5})));
        let paused = measure(|| stage.send("x-vendor.arcp.schedules.pause", json!({"schedule_id": "s7"})));
        let ended = measure(|| stage.send("job.cancel", json!({"job_id": "s8"})));
        [idle, fired, listed, paused, ended].map(|cost| (cost.count_total, cost.bytes_total))
    });
    let [few, many] = costs;
    for (what, (few, many)) in ["idle", "a firing", "a page", "a pause", "an end"].iter().zip(few.iter().zip(&many)) {
        assert!(many.0 <= few.0 + few.0 / 4 + 16, "{what}: {few:?} among ten, {many:?} among ten thousand");
        assert!(many.1 <= few.1 + few.1 / 4 + 8192, "{what}: {few:?} among ten, {many:?} among ten thousand");
    }
}

#[test]
fn what_ten_thousand_schedules_hold_is_counted_and_they_need_one_timer() {
    let mut stage = Stage::with(0, false);
    let held = measure(|| (0..10_000).for_each(|n| stage.schedule(&format!("s{n}"), json!({"every": HOURLY}))));
    let counted = held_bytes(&stage.runtime, HeldFor::Schedules);
    let held = usize::try_from(held.bytes_current).expect("more than before");
    assert!(held <= counted, "{held} bytes are held, {counted} are counted");
    assert!(counted < 10_000 * 3000, "{counted} bytes are counted");
    let next = stage.runtime.next_deadline().expect("one");
    assert!(next.at.0 - stage.now.mono.0 <= 60_000_000, "the clock is looked at each minute: {next:?}");
}

#[test]
fn a_restart_with_ten_thousand_schedules_costs_ten_times_one_with_a_thousand() {
    let costs = [1000_u64, 10_000].map(|many| {
        let kept = Stage::with(many, true).kept.expect("they are kept");
        let mut stage = Stage::new();
        let last = kept.last().expect("some").0;
        let cost = measure(|| {
            for (at, record) in kept {
                stage.runtime.handle(stage.now, Input::Restore { at, record });
            }
            stage.input(Input::Restored { last });
        });
        assert_eq!(stage.plans as u64, many, "the times of each are found once");
        assert!(stage.most <= config().limits.schedule.schedule_plans, "{} at once", stage.most);
        (cost.count_total, cost.bytes_total)
    });
    let [few, many] = costs;
    assert!(many.0 <= 11 * few.0 && many.1 <= 11 * few.1, "{few:?} for a thousand, {many:?} for ten thousand");
}

#[test]
fn the_hours_of_ten_thousand_schedules_are_each_one_firing_and_few_searches() {
    const MANY: u64 = 10_000;
    let mut stage = Stage::with(MANY, false);
    let plans = stage.plans;
    stage.wait(HOUR);
    // As many as are at once, and the others in turns of their own.
    let mut turns = 1;
    while stage.started < MANY as usize {
        stage.wait(1);
        turns += 1;
        assert!(turns < 2 * MANY / 16, "{} have fired in {turns} turns", stage.started);
    }
    assert!(turns >= MANY / 16, "others have their turn in between: {turns}");
    assert_eq!(stage.plans, plans, "sixteen times are known");
}

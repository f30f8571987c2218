//! A runtime whose every input is measured, and what it may come to.

use allocation_counter::{AllocationInfo, measure};
use arcp_proto::entropy::Seeds;
use arcp_proto::id::LogPos;
use arcp_proto::limits::Limits;
use arcp_proto::runtime::{Config, Input, Output, Runtime};
use arcp_proto::time::Now;
use serde::Deserialize;

use super::promised::promised;

/// What one input may allocate: so many times the bytes of what comes in and of
/// what goes out to somebody,
const MULTIPLE: u64 = 20;
/// so many for each connection, session and job that there is: an input may
/// concern all of them,
const EACH: u64 = 512;
/// and so many besides; and as much as is held, since a table that is full moves
/// into one of twice its size.
const BESIDES: u64 = 20 << 10;
/// One allocation for so many of these bytes, however much is held, and one for
/// each new record.
const BYTES_AN_ALLOCATION: u64 = 192;
/// What finding out whether a lease is within another may allocate besides: it is
/// done in small steps, of which a question of a random world takes few.
const PROOF_ALLOCATIONS: u64 = 1024;
/// New records: so many, and two for each connection, session and job.
const RECORDS: u64 = 8;

/// What stands in a submit that asks for a lease, in each form of a delegation, in a
/// grant, which is compared with what was asked for, and in a graph of steps, whose
/// pointers are followed.
const ASKS: [&str; 4] = ["lease_request", "elegate", "permission.grant", "workflow"];

/// One runtime, from its start to its end or crash.
pub struct Life {
    pub head: Head,
    pub steps: Vec<Step>,
}

/// The first line of a recording.
#[derive(Deserialize)]
pub struct Head {
    config: Config,
    seeds: Seeds,
    now: Now,
}

/// An input, and the bytes that it says and shows.
pub struct Step {
    now: Now,
    input: Input,
    /// Bytes of it as recorded; at the end of a restart of all that it takes up.
    said: u64,
    /// Bytes of frames and starts of agents that came of it, and of records that
    /// a store is given again.
    shown: u64,
    /// Whether it may ask for a lease, its own or one inherited.
    asks: bool,
}

#[derive(Deserialize)]
struct Line {
    at: Option<Now>,
    #[serde(rename = "in")]
    input: Option<Input>,
    out: Option<Output>,
}

/// Reads recordings.
pub fn lives(recordings: &[String]) -> Vec<Life> {
    recordings.iter().map(|recording| life(recording)).collect()
}

fn asks(text: &str) -> bool {
    ASKS.iter().any(|word| text.contains(word))
}

fn life(recording: &str) -> Life {
    let mut lines = recording.lines();
    let head = serde_json::from_str(lines.next().expect("a head")).expect("a head");
    let (mut steps, mut restored, mut given): (Vec<Step>, u64, LogPos) = (Vec::new(), 0, LogPos(0));
    for text in lines {
        let bytes = text.len() as u64;
        let line: Line = serde_json::from_str(text).expect("a line of a recording");
        if let (Some(now), Some(input)) = (line.at, line.input) {
            let said = match &input {
                Input::Restore { .. } => {
                    restored += bytes;
                    bytes
                }
                Input::Restored { .. } => restored,
                _ => bytes,
            };
            let asks = match &input {
                Input::Received { frame, .. } => asks(&String::from_utf8_lossy(frame)),
                // The submit that waited for it is heard again, or the next step of a workflow is begun.
                Input::CredentialsIssued { .. }
                | Input::Persisted { .. }
                | Input::AgentExited { .. }
                | Input::InputChecked { .. }
                | Input::Tick => true,
                _ => asks(text),
            };
            steps.push(Step { now, input, said, shown: 0, asks });
        }
        if let (Some(output), Some(step)) = (line.out, steps.last_mut()) {
            step.shown += match &output {
                Output::Send { .. } | Output::StartAgent { .. } | Output::Extension { .. } => bytes,
                Output::Persist(batch) if batch.first <= given => bytes,
                _ => 0,
            };
            if let Output::Persist(batch) = &output {
                given = given.max(batch.last());
            }
        }
    }
    Life { head, steps }
}

/// See the module.
pub struct Metered {
    runtime: Runtime,
    limits: Limits,
    /// Bytes that it holds.
    held: i64,
    /// The last record that the store was given.
    given: LogPos,
    /// The most of what was promised that it has held, in thousandths.
    fullest: u64,
}

impl Metered {
    pub fn new(head: &Head) -> Metered {
        let mut runtime = None;
        let made = measure(|| runtime = Some(Runtime::new(head.config.clone(), head.seeds.clone(), head.now)));
        let runtime = runtime.expect("measured").expect("the configuration works");
        Metered { runtime, limits: head.config.limits.clone(), held: made.bytes_current, given: LogPos(0), fullest: 0 }
    }

    /// Hands an input over; gives what that cost.
    pub fn take(&mut self, step: &Step) -> Cost {
        let (mut concerned, held) = (self.everybody(), self.held as u64);
        // What a store that fails is given again was caused by earlier inputs.
        let before = self.runtime.stats();
        let again = if before.store_failed { before.undurable_bytes as u64 } else { 0 };
        let mut records = 0;
        let spent = measure(|| {
            self.runtime.handle(step.now, step.input.clone());
            while let Some(output) = self.runtime.poll_output() {
                if let Output::Persist(batch) = output {
                    let new = batch.last().0.saturating_sub(self.given.0.max(batch.first.0 - 1));
                    records += if again == 0 { new } else { 0 };
                    self.given = self.given.max(batch.last());
                }
            }
        });
        concerned = concerned.max(self.everybody());
        self.held += spent.bytes_current;
        Cost { spent, records, concerned, held, again }
    }

    /// Connections, sessions and jobs.
    fn everybody(&self) -> u64 {
        let stats = self.runtime.stats();
        (stats.connections + stats.sessions + stats.jobs) as u64
    }

    /// Whether it holds no more than its limits promise.
    pub fn holds_what_is_promised(&mut self) {
        let stats = self.runtime.stats();
        let promised = promised(&self.limits, stats.connections, stats.sessions, stats.jobs);
        assert!(self.held as u64 <= promised, "{} bytes are held, {promised} promised: {stats:?}", self.held);
        self.fullest = self.fullest.max(self.held as u64 * 1000 / promised);
    }

    /// The most of what was promised that it has held, in thousandths.
    pub fn fullest(&self) -> u64 {
        self.fullest
    }

    /// Bytes that it holds.
    pub fn held(&self) -> i64 {
        self.held
    }
}

/// What one input cost.
pub struct Cost {
    spent: AllocationInfo,
    records: u64,
    /// Connections, sessions and jobs that there are.
    concerned: u64,
    /// Bytes held before.
    held: u64,
    /// Bytes of records that a store which fails may be given once more.
    again: u64,
}

impl Cost {
    /// Whether that is in proportion to what it said and what it is shown.
    pub fn is_fair(&self, step: &Step) {
        let most = 2 * self.concerned + RECORDS;
        assert!(self.records <= most, "{} records, where {most} are fair: {:?}", self.records, step.input);
        let most = MULTIPLE * (step.said + step.shown) + EACH * self.concerned + BESIDES + MULTIPLE * self.again;
        let AllocationInfo { bytes_total, count_total, .. } = self.spent;
        let proof = if step.asks { PROOF_ALLOCATIONS } else { 0 };
        let allocations = most / BYTES_AN_ALLOCATION + self.records + proof;
        let fair = bytes_total <= most + self.held && count_total <= allocations;
        let bytes = most + self.held;
        assert!(
            fair,
            "{bytes_total} bytes in {count_total} allocations, where {bytes} in {allocations} are fair: {:?}",
            shown(&step.input)
        );
    }
}

/// An input, with its frame as a text.
fn shown(input: &Input) -> String {
    match input {
        Input::Received { frame, .. } => String::from_utf8_lossy(frame).into_owned(),
        other => format!("{other:?}"),
    }
}

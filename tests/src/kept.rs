//! The records that a store is given, and the state that a restart makes of them.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the records that it is about")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use arcp_host::store::Store;
use arcp_proto::id::{JobId, LogPos, Principal, SessionId};
use arcp_proto::lease::Budget;
use arcp_proto::runtime::{Batch, KeptPrompts, KeyRecord, Numbered, NumberedRun, Record};
use arcp_proto::secret::Secret;
use arcp_proto::time::UtcMs;
use serde_json::{Value, json};
use ulid::Ulid;

use crate::raw::Raw;
use crate::store::VirtualStore;
use crate::world::World;

/// A folder that is deleted when this is dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    /// An empty folder, whose name no other test uses.
    pub fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("arcp-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The id of a job.
pub fn job(n: u64) -> JobId {
    JobId::from_ulid(Ulid::from_parts(n, 1))
}

/// The id of a session.
pub fn session(n: u64) -> SessionId {
    SessionId::from_ulid(Ulid::from_parts(n, 2))
}

/// A record of a session.
pub fn rotated(n: u64) -> Record {
    Record::TokenRotated { session: session(n), token: Secret::new(format!("token {n}")).digest() }
}

/// A record of a job and a session.
pub fn left(job_n: u64, session_n: u64) -> Record {
    Record::Left { job: job(job_n), session: session(session_n), undoes: LogPos(0) }
}

/// A record that a store keeps until this time.
pub fn kept(n: u64, until: u64) -> Record {
    let key = KeyRecord { digest: [1; 32], fingerprint: [2; 32] };
    let principal = Principal::new("p").expect("a name");
    Record::KeyKept { job: job(n), principal, key, until: UtcMs(until) }
}

/// Records at the positions from `first` on.
pub fn at(first: u64, records: &[Record]) -> Vec<(LogPos, Record)> {
    (first..).map(LogPos).zip(records.iter().cloned()).collect()
}

/// A batch of these records, at the positions from `first` on.
pub fn batch(first: u64, records: &[Record]) -> Batch {
    Batch { first: LogPos(first), records: records.to_vec().into() }
}

/// A batch of records with consecutive positions.
pub fn batch_of(entries: &[(LogPos, Record)]) -> Batch {
    let first = entries.first().map_or(LogPos(0), |(at, _)| *at);
    Batch { first, records: entries.iter().map(|(_, record)| record.clone()).collect::<Vec<Record>>().into() }
}

/// All records that a store loads, and its last position.
pub fn loaded(store: &mut dyn Store) -> (Vec<(LogPos, Record)>, LogPos) {
    let mut records = Vec::new();
    let last = store.load(&mut |at, record| records.push((at, record))).expect("it is read");
    (records, last)
}

/// The store of a small world, with jobs of several kinds that ended, running jobs of which one has a long history, a
/// job that was deleted, and sessions that acknowledged.
pub fn lived() -> VirtualStore {
    let mut world = World::configured(1, |config| {
        config.limits.history.job_events = 16;
        config.limits.history.kept_job_events = 3000;
        config.limits.job.ended_jobs_per_principal = 10;
    });
    let (mut hello, _) = Raw::hello(&mut world, "tok-a");
    let (mut open, _) = Raw::open(&mut world, "tok-a");
    // The reader of this session has stopped, so that events of its jobs are deleted and their numbers taken back.
    let (mut stalled, _) = Raw::open(&mut world, "tok-a");
    stalled.send(&mut world, "subscribe", json!({"filter": {}}));
    stalled.settle(&mut world);
    world.stall(stalled.conn, true);
    for (agent, count) in
        [("failer", 0), ("chatty", 5000), ("kinds", 0), ("thinker", 40), ("chunker", 0), ("chatty", 700)]
    {
        let submit = json!({"agent": agent, "input": {"count": count}, "idempotency_key": format!("{agent} {count}")});
        let job = hello.submit(&mut world, submit)["job_id"].clone();
        open.send(&mut world, "job.subscribe", json!({"job_id": job, "history": true}));
        hello.until_end(&mut world);
    }
    hello.send(&mut world, "session.ack", json!({"last_processed_seq": 5300}));
    for _ in 0..4 {
        hello.submit(&mut world, json!({"agent": "echo", "idempotency_key": "again"}));
        hello.submit(&mut world, json!({"agent": "echo"}));
    }
    let subscriptions = [(); 3].map(|()| {
        open.send(&mut world, "subscribe", json!({"filter": {}}));
        open.expect(&mut world, "subscribe.accepted")["payload"]["subscription_id"].clone()
    });
    for subscription in &subscriptions[1..] {
        open.send(&mut world, "unsubscribe", json!({"subscription_id": subscription}));
    }
    hello.submit(&mut world, json!({"agent": "slow", "input": {"ticks": 1000}}));
    hello.submit(&mut world, json!({"agent": "stepper", "input": {"steps": 200}}));
    hello.submit(&mut world, json!({"agent": "ponderer", "input": {"count": 4500}}));
    world.run_for(std::time::Duration::from_secs(5));
    world.store.clone()
}

/// The state that a restart makes of records, independent of how a store groups them.
#[derive(Debug, Default, PartialEq)]
pub struct Restart {
    records: Vec<(LogPos, String)>,
    checkpoints: BTreeMap<JobId, Vec<u8>>,
    budgets: BTreeMap<JobId, Budget>,
    prompts: BTreeMap<JobId, KeptPrompts>,
    prolonged: BTreeMap<JobId, Vec<(u32, UtcMs)>>,
    /// The numbers of the events that are loaded.
    pub events: BTreeMap<JobId, Vec<u64>>,
    numbers: BTreeMap<SessionId, Vec<Value>>,
}

/// Each number of a run by itself. The last event of a run is the same, however the run was split.
fn singles(run: &NumberedRun) -> impl Iterator<Item = Value> {
    let of = json!([run.log, run.role, run.request, run.subscription]);
    (0..run.count).map(move |k| json!([run.seq + k, of, run.shown.map_or(json!(run.event + k), |s| json!(s.classes))]))
}

impl Restart {
    /// The state that these records make.
    pub fn of(records: &[(LogPos, Record)]) -> Restart {
        let mut restart = Restart::default();
        let mut released = BTreeMap::new();
        for (at, record) in records {
            match record {
                Record::JobEvent { job, event } => restart.events.entry(*job).or_default().push(event.n),
                Record::Numbered { session, run } => {
                    let numbers = restart.numbers.entry(*session).or_default();
                    match run {
                        Numbered::Events(run) => numbers.extend(singles(run)),
                        Numbered::Local { seq, frame } => numbers.push(json!([seq, frame])),
                        Numbered::TakenBack { seq, .. } => {
                            numbers.retain(|number| number[0].as_u64().is_some_and(|given| given < *seq));
                        }
                    }
                }
                Record::Checkpointed { job, state, kept: None } => {
                    drop(restart.checkpoints.insert(*job, state.clone()))
                }
                // Of these records a store keeps the latest.
                Record::BudgetLeft { job, left, .. } => drop(restart.budgets.insert(*job, left.clone())),
                Record::Prompted { job, prompts } => drop(restart.prompts.insert(*job, (**prompts).clone())),
                Record::GrantsProlonged { job, until } => drop(restart.prolonged.insert(*job, until.clone())),
                Record::Released { session, upto } => drop(released.insert(*session, *upto)),
                Record::SessionOpened { .. }
                | Record::TokenRotated { .. }
                | Record::SessionEnded { .. }
                | Record::SessionClosed { .. }
                | Record::JobAccepted(_)
                | Record::JobHistory { .. }
                | Record::HistoryTrimmed { .. }
                | Record::JobRestarted { .. }
                | Record::Subscribed { .. }
                | Record::Unsubscribed { .. }
                | Record::CancelAsked { .. }
                | Record::Joined { .. }
                | Record::Left { .. }
                | Record::KeyKept { .. }
                | Record::Audited(_)
                | Record::HandedOver { .. }
                | Record::Departing { .. }
                | Record::TokensIssued { .. }
                | Record::AuditForgotten { .. }
                | Record::ArtifactKept(_)
                | Record::ArtifactsForgotten { .. }
                | Record::ScheduleKept(_)
                | Record::ScheduleMoved(_)
                | Record::StepMoved(_)
                | Record::SchedulesForgotten { .. }
                | Record::Checkpointed { kept: Some(_), .. }
                | Record::CheckpointsForgotten { .. }
                | Record::KeysExpired { .. }
                | Record::CredentialsWanted { .. }
                | Record::CredentialsRevoked { .. }
                | Record::JobForgotten { .. } => {
                    let shown = serde_json::to_string(record).expect("JSON");
                    restart.records.push((*at, shown));
                }
            }
        }
        for (session, upto) in released {
            let numbers = restart.numbers.entry(session).or_default();
            numbers.retain(|number| number[0].as_u64().is_some_and(|seq| seq > upto));
        }
        restart
    }

    /// The event sequences of a session that stand for something.
    pub fn numbers_of(&self, session: SessionId) -> Vec<u64> {
        self.numbers.get(&session).into_iter().flatten().filter_map(|number| number[0].as_u64()).collect()
    }

    /// Checks that this is the same state as another one.
    pub fn must_be(&self, other: &Restart) {
        for (mine, theirs) in self.records.iter().zip(&other.records) {
            assert_eq!(mine, theirs);
        }
        assert_eq!(self.records.len(), other.records.len());
        assert_eq!((&self.events, &self.checkpoints), (&other.events, &other.checkpoints));
        assert_eq!((&self.budgets, &self.prompts), (&other.budgets, &other.prompts));
        assert_eq!(self.prolonged, other.prolonged);
        assert!(self.numbers.keys().eq(other.numbers.keys()));
        for (session, numbers) in &self.numbers {
            let differs = numbers.iter().zip(&other.numbers[session]).find(|(mine, theirs)| mine != theirs);
            assert_eq!((differs, numbers.len()), (None, other.numbers[session].len()), "{session}");
        }
    }
}

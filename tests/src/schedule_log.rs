//! What must hold for schedules in every run:
//!
//! * Each time has at most one job, and is a time of the rule.
//! * A time that passes without a job has a reason in the policy of its schedule.
//! * A schedule is deleted when it has no times left, or when a client ends it.

#![allow(clippy::wildcard_enum_match_arm, reason = "an oracle looks at what it knows")]

use std::collections::{BTreeMap, BTreeSet};

use arcp_host::recurrence::{Wanted, plan};
use arcp_proto::id::{JobId, LogPos, Principal, WireId};
use arcp_proto::limits::ScheduleLimits;
use arcp_proto::model::event::JobEvent;
use arcp_proto::model::schedule::{Missed, Overlap, Times};
use arcp_proto::runtime::{Batch, Firing, Input, Notice, Output, Record, ScheduleRecord, ScheduleState};
use arcp_proto::time::UtcMs;
use serde_json::Value;

/// Watches the schedules of one run.
#[derive(Debug, Default)]
pub struct ScheduleLog {
    /// The records about schedules and their jobs, with the time of each.
    said: Vec<(LogPos, UtcMs, Said)>,
    /// Times whose jobs were refused.
    refused: BTreeSet<(Principal, Firing)>,
    /// Ids of schedules that clients have tried to end.
    cancelled: BTreeSet<String>,
    /// The latest time of the runtime.
    now: UtcMs,
    /// The counts of the run.
    pub came: Came,
}

/// What happened to times and schedules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Came {
    /// Schedules that were accepted.
    pub kept: usize,
    /// Times for which a job was submitted.
    pub fired: usize,
    /// Times that were missed because later ones had come too.
    pub missed: usize,
    /// Times that were skipped because an earlier job was running.
    pub overlapped: usize,
    /// Times that waited for an earlier job.
    pub queued: usize,
    /// Schedules that were paused.
    pub paused: usize,
    /// Schedules that ran out of times.
    pub over: usize,
}

#[derive(Clone, Debug)]
enum Said {
    Kept(Box<ScheduleRecord>),
    Moved(Box<ScheduleState>),
    Forgotten(Vec<LogPos>),
    Fired(Box<(Principal, Firing)>),
    Ended(JobId),
}

/// The state of a schedule, as far as the log was read.
struct Kept {
    record: ScheduleRecord,
    state: ScheduleState,
    fired: BTreeSet<UtcMs>,
}

impl ScheduleLog {
    /// Notes schedules that clients end.
    pub fn input(&mut self, input: &Input) {
        let Input::Received { frame, .. } = input else { return };
        let Ok(frame) = serde_json::from_slice::<Value>(frame) else { return };
        if let ("cancel" | "job.cancel", payload) = (frame["type"].as_str().unwrap_or_default(), &frame["payload"]) {
            let id = payload["target_id"].as_str().or(payload["job_id"].as_str());
            self.cancelled.extend(id.map(String::from));
        }
    }

    /// Notes refused firings, and the time.
    pub fn output(&mut self, now: UtcMs, output: &Output) {
        self.now = self.now.max(now);
        if let Output::Observe(Notice::FiringRefused { principal, schedule, at, .. }) = output {
            self.refused.insert((principal.clone(), Firing { schedule: schedule.clone(), at: *at }));
        }
    }

    /// Watches a batch for the store.
    pub fn batch(&mut self, batch: &Batch) {
        for (at, record) in batch.entries() {
            let said = match record {
                Record::ScheduleKept(record) => Said::Kept(record.clone()),
                Record::ScheduleMoved(state) => Said::Moved(state.clone()),
                Record::SchedulesForgotten { entries } => Said::Forgotten(entries.clone()),
                Record::JobAccepted(job) => match &job.bounds.firing {
                    Some(firing) => Said::Fired(Box::new((job.principal.clone(), (**firing).clone()))),
                    None => continue,
                },
                Record::JobEvent { job, event } if matches!(*event.event, JobEvent::Ended(_)) => Said::Ended(*job),
                _ => continue,
            };
            self.said.push((at, self.now, said));
        }
    }

    /// The runtime crashed; the store has the log up to `durable`.
    pub fn crash(&mut self, durable: LogPos) {
        self.said.retain(|(at, _, _)| *at <= durable);
    }

    /// Reads the log from its beginning and checks it. `is_calm`: all times that have come must be settled.
    pub fn check(&mut self, limits: &ScheduleLimits, is_calm: bool) {
        let mut kept = BTreeMap::<LogPos, Kept>::new();
        let mut ended = BTreeSet::new();
        self.came = Came::default();
        for (at, now, said) in std::mem::take(&mut self.said) {
            match &said {
                Said::Kept(record) => {
                    let state = ScheduleState { schedule: at, upto: record.created_at, ..ScheduleState::default() };
                    kept.insert(at, Kept { record: (**record).clone(), state, fired: BTreeSet::new() });
                    self.came.kept += 1;
                }
                Said::Fired(fired) => {
                    let (principal, Firing { schedule, at }) = &**fired;
                    let of = named(&mut kept, principal, schedule);
                    let of = of.unwrap_or_else(|| panic!("{schedule} of {principal} is over, and fires at {at}"));
                    let is_one = times(&of.record, UtcMs(at.0 - 1), *at) == [*at] && *at >= of.record.created_at;
                    assert!(is_one, "{schedule} fires at {at}, which is no time of {:?}", of.record.times);
                    assert!(*at <= now, "{schedule} fires at {at}, and it is {now}");
                    assert!(of.fired.insert(*at), "{schedule} fires twice at {at}");
                    self.came.fired += 1;
                }
                Said::Moved(state) => {
                    let of = kept.get_mut(&state.schedule).expect("what moves is kept");
                    let before = std::mem::replace(&mut of.state, (**state).clone());
                    assert!(before.upto <= state.upto, "{}: goes back to {}", of.record.id, state.upto);
                    if before.paused.is_none() && state.paused.is_none() {
                        self.passed(of, &before, (state.upto, state.at), &ended, limits);
                    }
                    self.came.paused += usize::from(state.paused.is_some());
                }
                Said::Forgotten(entries) => {
                    for entry in entries {
                        let Some(mut of) = kept.remove(entry) else { continue };
                        let is_bounded = !of.record.ceilings.is_empty() || of.record.job.lease_constraints.is_some();
                        if self.cancelled.contains(of.record.id.as_str()) || is_bounded {
                            continue;
                        }
                        let before = of.state.clone();
                        assert!(before.queued.is_empty() || before.queued.iter().all(|at| of.fired.contains(at)));
                        assert!(before.paused.is_none(), "{} is paused, and over", of.record.id);
                        let last = last(&of.record);
                        of.state.last = None;
                        self.passed(&of, &before, (last, now), &ended, limits);
                        self.came.over += 1;
                    }
                }
                Said::Ended(job) => {
                    ended.insert(*job);
                }
            }
            self.said.push((at, now, said));
        }
        let waiting = kept.values().filter(|kept| is_calm && kept.state.paused.is_none());
        for Kept { record, state, .. } in waiting {
            let left = times(record, state.upto, UtcMs(self.now.0.saturating_sub(120_000)));
            assert!(left.is_empty(), "{}: nothing came of {left:?} by {}", record.id, self.now);
        }
    }

    /// Checks that each time that passed without a job has a reason.
    fn passed(
        &mut self,
        of: &Kept,
        before: &ScheduleState,
        (upto, now): (UtcMs, UtcMs),
        ended: &BTreeSet<JobId>,
        limits: &ScheduleLimits,
    ) {
        let Kept { record, state, fired } = of;
        let is_refused =
            |at: UtcMs| self.refused.contains(&(record.principal.clone(), Firing { schedule: record.id.clone(), at }));
        for at in &before.queued {
            let waits = state.queued.contains(at) || fired.contains(at) || is_refused(*at);
            assert!(waits, "{}: {at} waited for a job to end, and is lost", record.id);
        }
        let waited = state.queued.iter().filter(|at| !before.queued.contains(at)).count();
        let all = times(record, before.upto, upto);
        let goes_on = |last: &Option<(UtcMs, JobId)>| last.is_some_and(|(_, job)| !ended.contains(&job));
        let goes_on = goes_on(&state.last) || goes_on(&before.last);
        let (mut missed, mut overlapped) = (0, 0);
        for (n, at) in all.iter().enumerate() {
            if fired.contains(at) || state.queued.contains(at) || is_refused(*at) {
                continue;
            }
            let later = all.len() - n - 1 + times(record, upto, now).len();
            let is_missed = match record.missed {
                Missed::Last => later >= 1,
                Missed::All => later >= limits.missed_firings,
                Missed::None => *at < now,
            };
            let overlaps = goes_on
                && match record.overlap {
                    Overlap::Skip => true,
                    Overlap::Queue => state.queued.len() >= limits.queued_firings,
                    Overlap::Allow => false,
                };
            assert!(
                is_missed || overlaps,
                "{}: {at} is lost at {now}, {later} later: missed {:?}, overlap {:?}",
                record.id,
                record.missed,
                record.overlap
            );
            overlapped += usize::from(overlaps);
            missed += usize::from(!overlaps);
        }
        self.came.missed += missed;
        self.came.overlapped += overlapped;
        self.came.queued += waited;
    }
}

fn named<'a>(kept: &'a mut BTreeMap<LogPos, Kept>, principal: &Principal, id: &WireId) -> Option<&'a mut Kept> {
    kept.values_mut().find(|kept| kept.record.principal == *principal && kept.record.id == *id)
}

/// The times of a schedule after `after`, up to `upto`.
fn times(record: &ScheduleRecord, after: UtcMs, upto: UtcMs) -> Vec<UtcMs> {
    match &record.times {
        Times::At(at) => Some(*at).filter(|at| *at > after && *at <= upto).into_iter().collect(),
        Times::Every(rule) => {
            let (missed, ends) = (usize::MAX, record.ends);
            let wanted = Wanted { rule: rule.clone(), after, now: upto, missed, coming: 0, ends };
            plan(&wanted).expect("a rule that was kept").missed
        }
    }
}

/// The last time of a schedule, which must have one.
fn last(record: &ScheduleRecord) -> UtcMs {
    match &record.times {
        Times::At(at) => *at,
        Times::Every(_) => record.ends.unwrap_or_else(|| panic!("{} has times for ever, and is over", record.id)),
    }
}

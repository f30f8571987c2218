//! Schedules, as they are recorded: their terms and their states.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{JobId, LogPos, Principal, SessionId, WireId};
use crate::lease::Ceiling;
use crate::model::feature::Features;
use crate::model::schedule::{Missed, Overlap, ScheduledJob, Times};
use crate::policy::Roles;
use crate::time::UtcMs;

/// The terms of a schedule, which never change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// Its id, unique within its principal.
    pub id: WireId,
    /// The principal of the schedule and of its jobs.
    pub principal: Principal,
    /// The session that created it.
    pub session: SessionId,
    /// A digest of the request: one with the same id and another digest is refused.
    pub fingerprint: [u8; 32],
    /// What it submits.
    pub job: ScheduledJob,
    /// When it fires.
    pub times: Times,
    /// The last of its times, if its rule has a count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<UtcMs>,
    /// What happens to missed times.
    #[serde(default)]
    pub missed: Missed,
    /// What happens to times at which an earlier job is unfinished.
    #[serde(default)]
    pub overlap: Overlap,
    /// When it was created, in UTC milliseconds.
    pub created_at: UtcMs,
    /// The features of its session that leases of its jobs may use.
    #[serde(default)]
    pub features: Features,
    /// The roles of its session when it was created.
    #[serde(default, skip_serializing_if = "Roles::is_empty")]
    pub roles: Roles,
    /// The ceilings of the credentials of its session, which bound what its jobs are granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ceilings: Vec<Ceiling>,
}

impl ScheduleRecord {
    /// Bytes of its texts.
    pub(crate) fn bytes(&self) -> usize {
        let rule = if let Times::Every(rule) = &self.times { rule.as_str().len() } else { 0 };
        let ceilings = self.ceilings.iter().map(Ceiling::bytes).sum::<usize>();
        self.id.as_str().len() + self.job.bytes() + rule + ceilings
    }
}

/// The state of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// The position of the schedule's record.
    pub schedule: LogPos,
    /// The position of the record of the state before; 0: there is none.
    #[serde(default)]
    pub undoes: LogPos,
    /// When the state began, in UTC milliseconds.
    pub at: UtcMs,
    /// All of its times up to this one are decided.
    pub upto: UtcMs,
    /// Times among those that wait for an earlier job to end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<UtcMs>,
    /// The latest time that got a job, and the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<(UtcMs, JobId)>,
    /// How many times got a job.
    #[serde(default)]
    pub fired: u64,
    /// How many times got none.
    #[serde(default)]
    pub skipped: u64,
    /// Why the schedule is paused; `None`: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// Why the job of the latest time was refused; `None`: it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl ScheduleState {
    /// Bytes it holds outside of the value itself.
    pub(crate) fn bytes(&self) -> usize {
        let said = [&self.paused, &self.refused].into_iter().flatten().map(String::len).sum::<usize>();
        size_of_val(self.queued.as_slice()) + said
    }
}

/// The time of a schedule for which a job was submitted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Firing {
    /// The id of the schedule, unique within its principal.
    pub schedule: WireId,
    /// The time by the schedule, in UTC milliseconds.
    pub at: UtcMs,
}

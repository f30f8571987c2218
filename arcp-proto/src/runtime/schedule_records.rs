//! Schedules as they are kept: what each is, and how it stands.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{JobId, LogPos, Principal, SessionId, WireId};
use crate::lease::Ceiling;
use crate::model::feature::Features;
use crate::model::schedule::{Missed, Overlap, ScheduledJob, Times};
use crate::policy::Roles;
use crate::time::UtcMs;

/// What a schedule is: it never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// What it is known by to whose it is.
    pub id: WireId,
    /// Whose it is, and its jobs.
    pub principal: Principal,
    /// The session that it was asked for in.
    pub session: SessionId,
    /// What makes another wish for it the same.
    pub fingerprint: [u8; 32],
    /// What is submitted.
    pub job: ScheduledJob,
    /// When.
    pub times: Times,
    /// The last of its times, of a rule that counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<UtcMs>,
    /// What becomes of times that were missed.
    #[serde(default)]
    pub missed: Missed,
    /// What becomes of times while an earlier job goes on.
    #[serde(default)]
    pub overlap: Overlap,
    /// When it was kept.
    pub created_at: UtcMs,
    /// Bounds of a lease that its client may ask for.
    #[serde(default)]
    pub features: Features,
    /// The roles that counted when it was asked for.
    #[serde(default, skip_serializing_if = "Roles::is_empty")]
    pub roles: Roles,
    /// What its jobs may be granted at most, as the credentials of that session say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ceilings: Vec<Ceiling>,
}

impl ScheduleRecord {
    /// Bytes that its texts hold.
    pub(crate) fn bytes(&self) -> usize {
        let rule = if let Times::Every(rule) = &self.times { rule.as_str().len() } else { 0 };
        let ceilings = self.ceilings.iter().map(Ceiling::bytes).sum::<usize>();
        self.id.as_str().len() + self.job.bytes() + rule + ceilings
    }
}

/// How a schedule stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleState {
    /// Where the record of the schedule stands.
    pub schedule: LogPos,
    /// Where the record of how it stood before stands; 0: there is none.
    #[serde(default)]
    pub undoes: LogPos,
    /// When it came to stand so.
    pub at: UtcMs,
    /// Up to which of its times it is decided what became of them.
    pub upto: UtcMs,
    /// Times of those that wait for an earlier job to end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<UtcMs>,
    /// The latest of them that had a job, and that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<(UtcMs, JobId)>,
    /// How many had one.
    #[serde(default)]
    pub fired: u64,
    /// How many had none.
    #[serde(default)]
    pub skipped: u64,
    /// Why it is paused; `None`: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// Why the latest that was to have a job and was refused it was that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl ScheduleState {
    /// Bytes that it holds besides itself.
    pub(crate) fn bytes(&self) -> usize {
        let said = [&self.paused, &self.refused].into_iter().flatten().map(String::len).sum::<usize>();
        size_of_val(self.queued.as_slice()) + said
    }
}

/// The time of a schedule that a job is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Firing {
    /// What the schedule is known by to whose it is.
    pub schedule: WireId,
    /// The time, as the schedule says it.
    pub at: UtcMs,
}

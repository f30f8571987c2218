//! The life of a job, as both families show it (1.1 §7.3, RFC §10.2).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ParseError;
use crate::id::WireId;
use crate::json::Json;
use crate::lease::{Budget, Constraints};
use crate::time::UtcMs;
use crate::trust::TrustLevel;

/// The status of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobStatus {
    /// Accepted; its agent has not started.
    Pending,
    /// Its agent runs.
    Running,
    /// It waits for people or for a silent agent.
    Blocked,
    /// It was paused.
    Paused,
    /// It has ended.
    Ended(FinalStatus),
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FinalStatus {
    /// With a result.
    Success,
    /// With an error.
    Error,
    /// By a cancel.
    Cancelled,
    /// By its time limit.
    TimedOut,
}

impl JobStatus {
    /// Every status.
    pub const ALL: [JobStatus; 8] = [
        JobStatus::Pending,
        JobStatus::Running,
        JobStatus::Blocked,
        JobStatus::Paused,
        JobStatus::Ended(FinalStatus::Success),
        JobStatus::Ended(FinalStatus::Error),
        JobStatus::Ended(FinalStatus::Cancelled),
        JobStatus::Ended(FinalStatus::TimedOut),
    ];

    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            JobStatus::Pending => "pending",
            JobStatus::Running => "running",
            JobStatus::Blocked => "blocked",
            JobStatus::Paused => "paused",
            JobStatus::Ended(end) => end.as_str(),
        }
    }
}

impl FinalStatus {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            FinalStatus::Success => "success",
            FinalStatus::Error => "error",
            FinalStatus::Cancelled => "cancelled",
            FinalStatus::TimedOut => "timed_out",
        }
    }
}

/// Reads the word for people. The words that peers write are read by `wire`.
impl FromStr for JobStatus {
    type Err = ParseError;

    fn from_str(word: &str) -> Result<JobStatus, ParseError> {
        let expected = "pending, running, blocked, paused, success, error, cancelled or timed_out";
        JobStatus::ALL.into_iter().find(|status| status.as_str() == word).ok_or(ParseError::new(expected))
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for FinalStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One entry of a listing of jobs. The runtime writes it, the client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSummary {
    /// The job.
    pub job: WireId,
    /// `name` or `name@version`.
    pub agent: String,
    /// Its status; `None` if the peer used an unknown word.
    pub status: Option<JobStatus>,
    /// The granted lease; `{}` if none.
    pub lease: Json,
    /// The constraints of its lease.
    pub constraints: Constraints,
    /// What the job may still spend.
    pub budget: Budget,
    /// What people added to its budget, for it or for jobs below it; empty from peers that do not
    /// say it.
    pub raised: Budget,
    /// The job that delegated it.
    pub parent: Option<WireId>,
    /// When it was accepted.
    pub created_at: Option<UtcMs>,
    /// Its trace.
    pub trace: Option<String>,
    /// The number of its events; the number of its last event.
    pub last_event: u64,
    /// When it ended; `None` while it runs, and from peers that do not say it
    /// ([`Feature::ListDetails`](crate::model::feature::Feature::ListDetails)).
    pub ended_at: Option<UtcMs>,
    /// The principal that owns it; `None` from peers that do not say it.
    pub owner: Option<String>,
    /// Its trust level without elevations; `None` from peers that do not say it.
    pub trust: Option<TrustLevel>,
    /// What it waits for; empty from peers that do not say it.
    pub waits: JobWaits,
}

/// What a job waits for, as listings show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobWaits {
    /// Its place in the queue for a slot, from 1, if no other job is submitted. `None` if it does
    /// not wait for a slot or is far behind.
    pub place: Option<u64>,
    /// What else than its agent it waits for, each once, in the words of
    /// [`Wait`](crate::runtime::Wait::as_str).
    pub what: Vec<String>,
}

//! The life of a job as everybody sees it (1.1 §7.3, RFC §10.2).

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

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobStatus {
    /// Accepted; its agent has not started.
    Pending,
    /// Its agent runs.
    Running,
    /// It waits for somebody.
    Blocked,
    /// It was stopped for a while.
    Paused,
    /// It is over.
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

    /// The word a person sees.
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
    /// The word a person sees.
    pub const fn as_str(self) -> &'static str {
        match self {
            FinalStatus::Success => "success",
            FinalStatus::Error => "error",
            FinalStatus::Cancelled => "cancelled",
            FinalStatus::TimedOut => "timed_out",
        }
    }
}

/// Reads the word that a person sees. What peers write is read by `wire`.
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

/// One entry of a listing. Filled by the runtime, read by the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSummary {
    /// The job.
    pub job: WireId,
    /// `name` or `name@version`.
    pub agent: String,
    /// Where it stands; `None` if the peer used a word we do not know.
    pub status: Option<JobStatus>,
    /// The lease as granted; `{}` when none.
    pub lease: Json,
    /// Its bounds.
    pub constraints: Constraints,
    /// What the job may still spend.
    pub budget: Budget,
    /// What people have added to what its lease grants, for it or for those below it;
    /// nothing from peers that do not say it.
    pub raised: Budget,
    /// The job that delegated it.
    pub parent: Option<WireId>,
    /// When it was accepted.
    pub created_at: Option<UtcMs>,
    /// Its trace.
    pub trace: Option<String>,
    /// How many events it has, in its own order.
    pub last_event: u64,
    /// When it ended; `None` while it goes on, and from peers that do not say
    /// it ([`Feature::ListDetails`](crate::model::feature::Feature::ListDetails)).
    pub ended_at: Option<UtcMs>,
    /// The principal whose job it is; `None` from peers that do not say it.
    pub owner: Option<String>,
    /// How far it is trusted while nothing elevates it; `None` from peers that do not
    /// say it.
    pub trust: Option<TrustLevel>,
    /// What it waits for; nothing from peers that do not say it.
    pub waits: JobWaits,
}

/// What a job waits for, as listings say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobWaits {
    /// At which place it waits for a slot, from 1: how many jobs are started up to
    /// it if nobody else comes. `None` if it does not wait or is far behind.
    pub place: Option<u64>,
    /// What it waits for but its agent, each as one word of
    /// [`Wait`](crate::runtime::Wait::as_str) and once.
    pub what: Vec<String>,
}

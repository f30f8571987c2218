//! The life of a job as everybody sees it (1.1 §7.3, RFC §10.2).

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::WireId;
use crate::json::Json;
use crate::time::UtcMs;

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
    /// The job that delegated it.
    pub parent: Option<WireId>,
    /// When it was accepted.
    pub created_at: Option<UtcMs>,
    /// Its trace.
    pub trace: Option<String>,
    /// How many events it has, in its own order.
    pub last_event: u64,
}

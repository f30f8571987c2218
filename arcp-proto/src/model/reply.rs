//! What a runtime answers, and says unasked.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use crate::error::{ErrorCode, Violation};
use crate::id::WireId;
use crate::json::Json;
use crate::model::agent::AgentEntry;
use crate::model::feature::Features;
use crate::model::job::{JobStatus, JobSummary};
use crate::model::request::ClientInfo;
use crate::secret::Secret;
use crate::time::UtcMs;

/// One answer that is not part of a job's numbered stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The session is open, or open again.
    Opened(Opened),
    /// Something was refused.
    Refused(Refusal),
    /// The session's connection ends in order.
    Closed {
        /// Why.
        reason: Option<String>,
    },
    /// Are you there?
    Ping {
        /// To be echoed.
        nonce: String,
        /// When it was sent.
        at: UtcMs,
    },
    /// I am here.
    Pong {
        /// The nonce of the ping.
        nonce: String,
        /// When the ping came.
        at: UtcMs,
    },
    /// One page of jobs.
    Jobs(JobPage),
    /// A job was accepted.
    Accepted(Accepted),
    /// A cancel was taken; the terminal follows.
    CancelTaken {
        /// The job.
        job: WireId,
        /// Why, in the client's words.
        reason: Option<String>,
    },
    /// A job is being watched; its events follow.
    Watching(Watching),
}

/// A session opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The session.
    pub session: WireId,
    /// What brings it back; empty if the peer issued none.
    pub resume_token: Secret,
    /// For how many seconds after a loss it can be brought back.
    pub resume_window_s: u64,
    /// Seconds between heartbeats, when negotiated.
    pub heartbeat_s: Option<u64>,
    /// What both sides may use.
    pub features: Features,
    /// The agents on offer.
    pub agents: Vec<AgentEntry>,
    /// The runtime program.
    pub runtime: ClientInfo,
    /// When it was accepted.
    pub accepted_at: UtcMs,
}

/// What a refusal is about. Some published clients need to be told in
/// different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// The session or connection as a whole.
    Session,
    /// A frame that could not be understood.
    Frame,
    /// A submit.
    Submit,
    /// A cancel, or another request about one job.
    Job,
    /// A request to watch.
    Watch,
    /// A listing.
    Listing,
}

/// A request that was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it is about.
    pub concern: Concern,
    /// The code.
    pub code: ErrorCode,
    /// What happened and what to do.
    pub message: Cow<'static, str>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// More for a program.
    pub details: Option<Json>,
    /// The request it answers.
    pub request: Option<WireId>,
    /// The job it is about.
    pub job: Option<WireId>,
}

impl Refusal {
    /// The answer to a violation.
    pub fn of(concern: Concern, violation: Violation, request: Option<WireId>) -> Refusal {
        Refusal {
            concern,
            retryable: violation.code.retryable(),
            code: violation.code,
            message: violation.message,
            details: violation.details,
            request,
            job: None,
        }
    }
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPage {
    /// The request it answers.
    pub request: Option<WireId>,
    /// The entries, oldest first.
    pub jobs: Vec<JobSummary>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// A job accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The request it answers.
    pub request: Option<WireId>,
    /// The job.
    pub job: WireId,
    /// The agent as resolved.
    pub agent: String,
    /// The lease granted; `{}` when none.
    pub lease: Json,
    /// Its trace.
    pub trace: Option<String>,
    /// When it was accepted.
    pub accepted_at: UtcMs,
}

/// A job being watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watching {
    /// The request it answers.
    pub request: Option<WireId>,
    /// The job.
    pub job: WireId,
    /// Where it stands; `None` for a word we do not know.
    pub status: Option<JobStatus>,
    /// The agent as resolved.
    pub agent: String,
    /// The lease granted; `{}` when none.
    pub lease: Json,
    /// The job that delegated it.
    pub parent: Option<WireId>,
    /// Its trace.
    pub trace: Option<String>,
    /// The job's own event number after which events are sent.
    pub from: u64,
    /// Whether earlier events are replayed.
    pub replayed: bool,
}

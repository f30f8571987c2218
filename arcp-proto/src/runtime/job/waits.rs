//! Why jobs wait. A job has a set of [`Wait`]s, and each wait has one waker: a job whose waker is gone would
//! wait for ever.
//!
//! Slots are in `lines`, the agent's heartbeat in `heartbeat`, answers in `questions`, renewals in
//! `provisioning`, children that wait for the host in `deferral`, streams in `streams`, turns of an account in
//! `turns`, steps in `workflow`, and the credit of agents in `credit`.

use crate::id::{JobId, SessionId};

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// The host, which revokes the credentials of the job before its end is shown. Ends with
    /// [`Input::CredentialsRevoked`](crate::runtime::Input::CredentialsRevoked), or after five seconds.
    Revocation,
    /// The store: the acceptance, the start or the last calls of the agent are not durable yet. Ends with
    /// [`Input::Persisted`](crate::runtime::Input::Persisted).
    Store,
    /// A slot. Ends when a slot is free that the principal may have.
    Slot,
    /// A session of the submitter that gets the events and reads too slowly. Ends when the session catches up, is
    /// detached, ends, or leaves the job.
    Reader(SessionId),
    /// The pace that the submitter asked for. Ends with time.
    Pace,
    /// The agent, which has fallen silent. Ends with its next call.
    Silence,
    /// The store, because the agent waits for the outcome of a call. Ends with
    /// [`Input::Persisted`](crate::runtime::Input::Persisted).
    Answer,
    /// A child, because the agent waits for it. Ends when the child ends.
    Child(JobId),
    /// The host, which issues another value for a credential, because the agent waits for it. Ends with
    /// [`Input::CredentialsIssued`](crate::runtime::Input::CredentialsIssued), or after
    /// [`Timing::provision_timeout`](crate::runtime::Timing::provision_timeout).
    Renewal,
    /// The host, which stores an artifact, because the agent waits for it. Ends with
    /// [`Input::BlobStored`](crate::runtime::Input::BlobStored).
    Artifact,
    /// The host, which checks the input of a child that the agent asks for, or issues the credentials of that
    /// child. Ends with [`Input::InputChecked`](crate::runtime::Input::InputChecked) or
    /// [`Input::CredentialsIssued`](crate::runtime::Input::CredentialsIssued), or when the time is over that a
    /// client's submit may wait for them.
    Delegation,
    /// Another runtime, which is asked to take the job. Ends with
    /// [`Input::HandedOff`](crate::runtime::Input::HandedOff), or with time.
    Departure,
    /// The host, which checks a question of the agent or the arguments of a workflow step. Ends with
    /// [`Input::InputChecked`](crate::runtime::Input::InputChecked), or after two seconds. Or the host, which
    /// issues the credentials of a step. Ends with
    /// [`Input::CredentialsIssued`](crate::runtime::Input::CredentialsIssued), or after
    /// [`Timing::provision_timeout`](crate::runtime::Timing::provision_timeout).
    Check,
    /// People, because the agent asks them something: the job is blocked. Ends with the first answer, with time, or
    /// when the job is told to stop.
    Prompt,
    /// The agent, which people have interrupted: the job is blocked. Ends when the agent goes on, or when the job
    /// is told to stop.
    Interrupt,
    /// The pace that the submitter asked for in a stream of the agent. Ends with time, or when the stream ends or
    /// is read faster.
    StreamPace,
    /// The delay before a failed step of a workflow is tried again. Ends with time.
    Retry,
    /// Room for a step of a workflow that was refused for now. Ends with time: the step is submitted again.
    Room,
    /// The store, because the account has caused too many undurable bytes for its agents to be heard
    /// ([`agent_undurable_bytes`](crate::limits::HistoryLimits::agent_undurable_bytes)). Ends with
    /// [`Input::Persisted`](crate::runtime::Input::Persisted), in turn.
    Backlog,
}

impl Wait {
    /// The name under which operators see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Wait::Revocation => "revocation",
            Wait::Store => "store",
            Wait::Slot => "slot",
            Wait::Reader(_) => "reader",
            Wait::Pace => "pace",
            Wait::Silence => "agent",
            Wait::Answer => "answer",
            Wait::Child(_) => "child",
            Wait::Renewal => "credential",
            Wait::Artifact => "artifact",
            Wait::Delegation => "delegation",
            Wait::Departure => "departure",
            Wait::Check => "check",
            Wait::Prompt => "people",
            Wait::Interrupt => "interrupt",
            Wait::StreamPace => "stream_pace",
            Wait::Retry => "retry",
            Wait::Room => "room",
            Wait::Backlog => "backlog",
        }
    }
}

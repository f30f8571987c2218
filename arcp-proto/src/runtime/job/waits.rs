//! Why jobs wait. Whatever one waits for is a [`Wait`] in the set of its waits,
//! and each has one waker: a job that waits for what nobody says any more would
//! wait for ever.
//!
//! Those for a slot are in `lines`, that for the agent in `heartbeat`, that for an
//! answer in `questions`, that for a renewal in `provisioning`, that for a child which waits for the host in `deferral`, that for a stream in `streams`, that for its account's turn in `turns`, those of steps in `workflow`, and those
//! of what an agent may say in `credit`.

use crate::id::{JobId, SessionId};

/// What a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// The host, which revokes its credentials before its end can be seen. It ends with
    /// [`Input::CredentialsRevoked`](crate::runtime::Input::CredentialsRevoked), or
    /// after five seconds.
    Revocation,
    /// The store: its acceptance, its start or what its agent said last is not
    /// durable yet. It goes on with [`Input::Persisted`](crate::runtime::Input::Persisted).
    Store,
    /// A slot. It goes on when one is free that its principal may have.
    Slot,
    /// A session that submitted it, gets its events and reads too slowly. It
    /// goes on when that has caught up, is detached or over, or leaves the job.
    Reader(SessionId),
    /// The pace that its submitter asked for. It goes on with time.
    Pace,
    /// Its agent, which fell silent. It goes on when that is heard.
    Silence,
    /// The store, as its agent does that wants to know what became of a call. It
    /// is answered with [`Input::Persisted`](crate::runtime::Input::Persisted).
    Answer,
    /// A child, as its agent does. It goes on when that has ended.
    Child(JobId),
    /// The host, which gives a credential another value, as its agent does. It goes on
    /// with [`Input::CredentialsIssued`](crate::runtime::Input::CredentialsIssued), or
    /// after [`Timing::provision_timeout`](crate::runtime::Timing::provision_timeout).
    Renewal,
    /// The host, which stores what its agent leaves here, as its agent does. It goes on
    /// with [`Input::BlobStored`](crate::runtime::Input::BlobStored).
    Artifact,
    /// The host, which checks the input of a child that its agent asks for, or issues that
    /// child's credentials. It goes on with
    /// [`Input::InputChecked`](crate::runtime::Input::InputChecked) or
    /// [`Input::CredentialsIssued`](crate::runtime::Input::CredentialsIssued), or after as long as
    /// the submit of a client may wait for them.
    Delegation,
    /// Another runtime, which is asked to take it. It goes on with
    /// [`Input::HandedOff`](crate::runtime::Input::HandedOff), or with time.
    Departure,
    /// The host, which checks what its agent asks people, or the arguments of a step of a
    /// workflow. It goes on with [`Input::InputChecked`](crate::runtime::Input::InputChecked), or after two
    /// seconds. Or it issues the credentials of a step:
    /// [`Input::CredentialsIssued`](crate::runtime::Input::CredentialsIssued), or
    /// [`Timing::provision_timeout`](crate::runtime::Timing::provision_timeout).
    Check,
    /// People, as its agent asks them something: its job is blocked. It goes on when
    /// the first of them answers, with time, or when it is told to stop.
    Prompt,
    /// Its agent, which people have interrupted: its job is blocked. It goes on when
    /// that says so, or when it is told to stop.
    Interrupt,
    /// The pace that its submitter asked for in a stream of its agent, which may wait for
    /// that. It goes on with time, or when the stream is over or read faster.
    StreamPace,
    /// The time for a step of a workflow to be tried again that has failed. It goes on with
    /// time.
    Retry,
    /// Room for a step of a workflow that was refused for now. It is asked for again with
    /// time.
    Room,
    /// The store, as too much that its account has caused is not durable for its agent to be heard
    /// ([`agent_undurable_bytes`](crate::limits::HistoryLimits::agent_undurable_bytes)). It goes on
    /// with [`Input::Persisted`](crate::runtime::Input::Persisted), in turn.
    Backlog,
}

impl Wait {
    /// The word for it, as it is shown.
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

//! Notices: what the core tells its host, for logs and people.

use alloc::boxed::Box;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::audit_records::AuditEntry;
use crate::id::{ConnId, JobId, Principal, SessionId, WireId};
use crate::model::agent::AgentRef;
use crate::model::job::FinalStatus;
use crate::time::UtcMs;

/// Something that an operator may want to know. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Notice {
    /// A session was opened.
    SessionOpened {
        /// The session.
        session: SessionId,
        /// Its principal.
        principal: Principal,
        /// The client program.
        client: String,
    },
    /// A session was resumed.
    SessionResumed {
        /// The session.
        session: SessionId,
    },
    /// A session lost its connection, or its client closed it.
    SessionDetached {
        /// The session.
        session: SessionId,
    },
    /// A session has ended and cannot be resumed.
    SessionEnded {
        /// The session.
        session: SessionId,
    },
    /// A request was refused.
    Refused {
        /// The connection.
        conn: ConnId,
        /// The principal of the peer, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        principal: Option<Principal>,
        /// The session of the peer, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        /// The job that the request names, as the peer wrote it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<WireId>,
        /// The error code.
        code: String,
        /// The reason that the peer is given: the first 256 characters.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
        /// Whether the peer was told of the refusal.
        told: bool,
    },
    /// A client asked to resume a session and was refused. The refused request has a
    /// notice of its own.
    ResumeRefused {
        /// The connection.
        conn: ConnId,
        /// The error code.
        code: String,
    },
    /// A decision about authority was written to the audit trail.
    Audited(Box<AuditEntry>),
    /// A job was accepted.
    JobAccepted {
        /// The job.
        job: JobId,
        /// Its principal.
        principal: Principal,
        /// The agent.
        agent: AgentRef,
    },
    /// The policy refused something.
    PolicyRefused {
        /// The principal that was refused.
        principal: Principal,
        /// Its session; `None`: it asked to open one.
        session: Option<SessionId>,
        /// What was refused, and by which rule; only the operator is told this.
        why: String,
    },
    /// A schedule fired, and its job was refused.
    FiringRefused {
        /// The principal of the schedule.
        principal: Principal,
        /// The id of the schedule.
        schedule: WireId,
        /// The time at which it was due.
        at: UtcMs,
        /// The reason: the first 256 characters.
        reason: String,
    },
    /// A principal began to watch a job.
    JobWatched {
        /// The job.
        job: JobId,
        /// The watching session.
        session: SessionId,
    },
    /// A job ended.
    JobEnded {
        /// The job.
        job: JobId,
        /// How it ended.
        status: FinalStatus,
    },
    /// A job asks people something.
    PeopleAsked {
        /// The job.
        job: JobId,
        /// The number of the question in the job.
        question: u32,
    },
    /// Credentials of a job could not be revoked, or not before its end was due. The runtime
    /// tries again, at growing intervals.
    CredentialsNotRevoked {
        /// The job.
        job: JobId,
        /// How many attempts have failed.
        failures: u32,
    },
    /// Credentials of a job were revoked after earlier attempts had failed.
    CredentialsRevoked {
        /// The job.
        job: JobId,
    },
    /// A message of [`Input::SendExtension`](super::Input::SendExtension) was not sent.
    ExtensionDropped {
        /// The session that it was for.
        session: SessionId,
        /// The type of the message.
        kind: String,
    },
    /// The driver opened a connection under the id of one that is open. The
    /// first one goes on; the core ignores the second.
    ConnIdInUse {
        /// The id.
        conn: ConnId,
    },
    /// The store failed; no numbered frame is sent until it recovers.
    StoreFailed,
    /// The store works again.
    StoreRecovered,
}

//! What an operator is told of what happens.

use alloc::boxed::Box;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::audit_records::AuditEntry;
use crate::id::{ConnId, JobId, Principal, SessionId, WireId};
use crate::model::agent::AgentRef;
use crate::model::job::FinalStatus;
use crate::time::UtcMs;

/// Something an operator may want to know. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Notice {
    /// A session was opened.
    SessionOpened {
        /// The session.
        session: SessionId,
        /// Whose.
        principal: Principal,
        /// The client program.
        client: String,
    },
    /// A session was resumed.
    SessionResumed {
        /// The session.
        session: SessionId,
    },
    /// A session lost its connection, or gave it up.
    SessionDetached {
        /// The session.
        session: SessionId,
    },
    /// A session can no longer be resumed.
    SessionEnded {
        /// The session.
        session: SessionId,
    },
    /// A request was refused.
    Refused {
        /// The connection.
        conn: ConnId,
        /// Whose it is, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        principal: Option<Principal>,
        /// Its session, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<SessionId>,
        /// The job that it is about, as the peer named it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<WireId>,
        /// The code.
        code: String,
        /// Why, as the peer is told: the first 256 characters.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
        /// Whether the peer was told.
        told: bool,
    },
    /// Somebody wanted an earlier session back and does not get it; what was
    /// refused is told besides.
    ResumeRefused {
        /// The connection.
        conn: ConnId,
        /// The code.
        code: String,
    },
    /// A decision about authority was written into the audit trail.
    Audited(Box<AuditEntry>),
    /// A job was accepted.
    JobAccepted {
        /// The job.
        job: JobId,
        /// Whose.
        principal: Principal,
        /// The agent.
        agent: AgentRef,
    },
    /// Policy has refused something.
    PolicyRefused {
        /// Whom.
        principal: Principal,
        /// In which session; `None`: it wanted to open one.
        session: Option<SessionId>,
        /// What, and by which rule, for the operator alone.
        why: String,
    },
    /// The job of a schedule's time was refused.
    FiringRefused {
        /// Whose schedule.
        principal: Principal,
        /// What it is known by there.
        schedule: WireId,
        /// The time.
        at: UtcMs,
        /// Why: the first 256 characters.
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
        /// How.
        status: FinalStatus,
    },
    /// A job asks people something.
    PeopleAsked {
        /// The job.
        job: JobId,
        /// The number of the question in it.
        question: u32,
    },
    /// Credentials of a job could not be revoked, or not before its end was due. That
    /// is tried again, ever more rarely.
    CredentialsNotRevoked {
        /// The job.
        job: JobId,
        /// How often that was.
        failures: u32,
    },
    /// Credentials of a job are revoked that could not be before.
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
    /// A driver opened a connection under the number of one that is open; the
    /// first one goes on, and nothing is known of the other.
    ConnIdInUse {
        /// The number.
        conn: ConnId,
    },
    /// The store failed; nothing numbered is sent until it works again.
    StoreFailed,
    /// The store works again.
    StoreRecovered,
}

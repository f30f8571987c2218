//! Records: what must survive the process, in the order of the log.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::audit_records::AuditEntry;
use super::checkpoint_records::{BegunAt, CheckpointMark};
use super::numbered::Numbered;
use super::prompt_records::KeptPrompts;
use super::schedule_records::{Firing, ScheduleRecord, ScheduleState};
use super::stream_io::OpenedStream;
use super::token_records::TokenRecord;
use super::workflow_records::StepRecord;
use crate::id::{JobId, LogPos, Principal, SessionId, WireId};
use crate::json::Json;
use crate::lease::{Budget, Ceiling, Constraints};
use crate::model::agent::AgentRef;
use crate::model::artifact::{ArtifactRef, BlobDigest, MediaType};
use crate::model::event::{EventClass, JobEvent};
use crate::model::handoff::Destination;
use crate::model::request::{Filter, Invocation};
use crate::policy::Roles;
use crate::scope::Scopes;
use crate::secret::SecretDigest;
use crate::time::UtcMs;
use crate::trust::TrustLevel;
use crate::wire::View;

/// A fact that must survive the process. Frames that reveal a record wait until it is durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// A session was opened.
    SessionOpened {
        /// The session.
        session: SessionId,
        /// Its principal.
        principal: Principal,
        /// Whether it is anonymous: it has no credential, and a principal of its own.
        anonymous: bool,
        /// The scopes of the credential that opened it; it never gets others.
        #[serde(default, skip_serializing_if = "Scopes::is_empty")]
        scopes: Scopes,
        /// The roles of the credential that opened it.
        #[serde(default, skip_serializing_if = "Roles::is_empty")]
        roles: Roles,
        /// The ceiling of the credential that opened it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ceiling: Option<Box<Ceiling>>,
        /// Its family, features and profile.
        view: View,
        /// The digest of the token that resumes it.
        token: SecretDigest,
        /// Namespaces of extensions negotiated with its client.
        extensions: Vec<String>,
    },
    /// A session has a new token.
    TokenRotated {
        /// The session.
        session: SessionId,
        /// The digest of the token that resumes it from here on.
        token: SecretDigest,
    },
    /// A session has ended.
    SessionEnded {
        /// The session.
        session: SessionId,
    },
    /// The client of a session has closed it, although some frames were not acknowledged, or more
    /// were to come. Holds until the session is resumed.
    SessionClosed {
        /// The session.
        session: SessionId,
    },
    /// A job was accepted, and its key claimed.
    JobAccepted(Arc<JobRecord>),
    /// An event was appended to a job.
    JobEvent {
        /// The job.
        job: JobId,
        /// The event.
        event: EventRecord,
    },
    /// A summary of the events of an ended job. Follows the last of them; a store that has it gives
    /// back only the last event.
    JobHistory {
        /// The job.
        job: JobId,
        /// How many events at the beginning were deleted.
        gone: u64,
        /// The classes of the others, run-length coded.
        classes: Vec<(EventClass, u32)>,
        /// Bytes they hold, approximately.
        bytes: usize,
        /// When the job was started, if its time limit holds for unfinished children.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        started: Option<UtcMs>,
    },
    /// The first events of a job were deleted. The latest such record of a job counts.
    HistoryTrimmed {
        /// The job.
        job: JobId,
        /// The last deleted event.
        upto: u64,
        /// When its agent was started, if that event was deleted.
        #[serde(default)]
        started: Option<UtcMs>,
        /// The streams that were open at that point, whose first events may be deleted.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        streams: Vec<OpenedStream>,
    },
    /// A checkpoint of a job. The latest one counts; those with a mark are kept as well.
    Checkpointed {
        /// The job.
        job: JobId,
        /// The state that the agent gave.
        #[serde(with = "crate::record::frame_text")]
        state: Vec<u8>,
        /// Its id and origin, if other jobs can begin at it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<Box<CheckpointMark>>,
    },
    /// Checkpoints of a job were deleted, so that no job can begin at them.
    CheckpointsForgotten {
        /// The job.
        job: JobId,
        /// The positions of their records.
        entries: Vec<LogPos>,
    },
    /// A job that ran when an earlier runtime ended is started again.
    JobRestarted {
        /// The job.
        job: JobId,
    },
    /// The cancel of a job was requested and permitted.
    CancelAsked {
        /// The job.
        job: JobId,
        /// The reason that the requester gave.
        reason: Option<String>,
    },
    /// The budget that a job has left, without what is reserved. The latest one counts; without
    /// any, all that its lease grants is left.
    BudgetLeft {
        /// The job.
        job: JobId,
        /// What is left in each bounded currency; negative if the job spent more than it had.
        left: Budget,
        /// What people have added to the budget of its lease, for the job and those below it,
        /// spent or not.
        #[serde(default, skip_serializing_if = "Budget::is_empty")]
        raised: Budget,
    },
    /// A session gets the new events of a job.
    Joined {
        /// The job.
        job: JobId,
        /// The session.
        session: SessionId,
        /// Whether it may cancel the job from here on.
        owner: bool,
        /// The request that its frames answer, if its frames name one and it is new.
        request: Option<WireId>,
        /// Which of the session's requests for the job its frames answer, from 1; 0 for none.
        /// Records of older versions have 0 beside a request: the next of all sessions' requests.
        #[serde(default)]
        number: u32,
        /// The position of the session's last record of joining or leaving the job, if that record
        /// has no other content; 0 if there is none.
        #[serde(default)]
        undoes: LogPos,
    },
    /// A session gets no more events of a job.
    Left {
        /// The job.
        job: JobId,
        /// The session.
        session: SessionId,
        /// As in [`Joined`](Self::Joined).
        #[serde(default)]
        undoes: LogPos,
    },
    /// Frames were numbered for a session. Is in the same batch as the event, if the event is new.
    Numbered {
        /// The session.
        session: SessionId,
        /// The numbered frames.
        run: Numbered,
    },
    /// A session needs no numbers up to this one.
    Released {
        /// The session.
        session: SessionId,
        /// The last of them.
        upto: u64,
    },
    /// A session made a subscription.
    Subscribed {
        /// The session.
        session: SessionId,
        /// Its number in the session, from 1.
        number: u32,
        /// The filter for its jobs and events.
        filter: Filter,
        /// The request that made it.
        request: WireId,
        /// A digest of the command: a message with this id and another digest is another command.
        command: [u8; 32],
    },
    /// A subscription has ended. The latest such record of a session counts, if it has `undoes`.
    Unsubscribed {
        /// The session.
        session: SessionId,
        /// Its number in the session.
        number: u32,
        /// The position of the subscription's record; 0 in records of older versions.
        #[serde(default)]
        undoes: LogPos,
        /// The last number given to a subscription of the session: numbers are not reused.
        #[serde(default)]
        last: u32,
    },
    /// An idempotency key is kept longer than its job.
    KeyKept {
        /// The job that claimed it.
        job: JobId,
        /// Its principal.
        principal: Principal,
        /// The key.
        key: KeyRecord,
        /// Until when it is kept.
        until: UtcMs,
    },
    /// A job is forgotten.
    JobForgotten {
        /// The job.
        job: JobId,
    },
    /// The kept keys that expired at this time or before are forgotten.
    KeysExpired {
        /// The expiry of the last of them.
        until: UtcMs,
    },
    /// The questions, permissions and interrupts of a job. The latest one counts.
    Prompted {
        /// The job.
        job: JobId,
        /// All of them.
        prompts: Box<KeptPrompts>,
    },
    /// Permissions of a job were extended. The latest one counts, until the job is
    /// [`Prompted`](Record::Prompted) again.
    GrantsProlonged {
        /// The job.
        job: JobId,
        /// The permissions extended since the last `Prompted`, by the number of the question, and
        /// until when each holds.
        until: Vec<(u32, UtcMs)>,
    },
    /// A decision about authority.
    Audited(Box<AuditEntry>),
    /// A job was handed over to another principal. The latest one counts.
    HandedOver {
        /// The job.
        job: JobId,
        /// The new principal.
        principal: Principal,
        /// The session of that principal that took it.
        session: SessionId,
        /// The principal that handed it over; older versions did not record it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Principal>,
    },
    /// A job is on its way to another runtime, is there, or stays. The latest one counts.
    Departing {
        /// The job.
        job: JobId,
        /// The state of its departure.
        departure: Box<DepartureRecord>,
    },
    /// Entries of the audit trail are forgotten.
    AuditForgotten {
        /// Their positions.
        entries: Vec<LogPos>,
    },
    /// The valid tokens of a job. The latest one counts, until the job is
    /// [`HandedOver`](Record::HandedOver).
    TokensIssued {
        /// The job.
        job: JobId,
        /// The tokens, oldest first.
        tokens: Vec<TokenRecord>,
    },
    /// Credentials are wanted for a job that is to be accepted: from here on some may be valid.
    /// Their values are not recorded.
    CredentialsWanted {
        /// The job.
        job: JobId,
        /// Its principal.
        principal: Principal,
    },
    /// An artifact is kept. Its bytes were stored before.
    ArtifactKept(Box<ArtifactRecord>),
    /// Artifacts were released, or have expired.
    ArtifactsForgotten {
        /// The positions of their records.
        entries: Vec<LogPos>,
    },
    /// A schedule was created.
    ScheduleKept(Box<ScheduleRecord>),
    /// The state of a schedule. The latest one counts; it is in the batch of the job that it names.
    ScheduleMoved(Box<ScheduleState>),
    /// Schedules have ended.
    SchedulesForgotten {
        /// The positions of their records, and of the last state of each.
        entries: Vec<LogPos>,
    },
    /// The state of a workflow's step. The latest one of a step counts; it is in the batch of what
    /// caused it.
    StepMoved(Box<StepRecord>),
    /// All credentials of a job are revoked.
    CredentialsRevoked {
        /// The job.
        job: JobId,
    },
}

impl Record {
    /// The job that the record belongs to. A number belongs to its session, a kept key to no job.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Record::JobAccepted(record) => Some(record.job),
            Record::StepMoved(step) => Some(step.job),
            Record::JobEvent { job, .. }
            | Record::JobHistory { job, .. }
            | Record::HistoryTrimmed { job, .. }
            | Record::Checkpointed { job, .. }
            | Record::CheckpointsForgotten { job, .. }
            | Record::JobRestarted { job }
            | Record::CancelAsked { job, .. }
            | Record::BudgetLeft { job, .. }
            | Record::Prompted { job, .. }
            | Record::GrantsProlonged { job, .. }
            | Record::HandedOver { job, .. }
            | Record::Departing { job, .. }
            | Record::TokensIssued { job, .. }
            | Record::Joined { job, .. }
            | Record::Left { job, .. }
            | Record::CredentialsWanted { job, .. }
            | Record::CredentialsRevoked { job }
            | Record::JobForgotten { job } => Some(*job),
            Record::SessionOpened { .. }
            | Record::TokenRotated { .. }
            | Record::SessionEnded { .. }
            | Record::SessionClosed { .. }
            | Record::Numbered { .. }
            | Record::Released { .. }
            | Record::Subscribed { .. }
            | Record::Unsubscribed { .. }
            | Record::KeyKept { .. }
            | Record::Audited(_)
            | Record::AuditForgotten { .. }
            | Record::ArtifactKept(_)
            | Record::ArtifactsForgotten { .. }
            | Record::ScheduleKept(_)
            | Record::ScheduleMoved(_)
            | Record::SchedulesForgotten { .. }
            | Record::KeysExpired { .. } => None,
        }
    }

    /// The session that the record belongs to.
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Record::SessionOpened { session, .. }
            | Record::TokenRotated { session, .. }
            | Record::SessionEnded { session }
            | Record::SessionClosed { session }
            | Record::Joined { session, .. }
            | Record::Left { session, .. }
            | Record::Released { session, .. }
            | Record::Subscribed { session, .. }
            | Record::Unsubscribed { session, .. }
            | Record::Numbered { session, .. } => Some(*session),
            Record::JobAccepted(_)
            | Record::JobEvent { .. }
            | Record::JobHistory { .. }
            | Record::HistoryTrimmed { .. }
            | Record::Checkpointed { .. }
            | Record::CheckpointsForgotten { .. }
            | Record::JobRestarted { .. }
            | Record::CancelAsked { .. }
            | Record::BudgetLeft { .. }
            | Record::Prompted { .. }
            | Record::GrantsProlonged { .. }
            | Record::HandedOver { .. }
            | Record::Departing { .. }
            | Record::TokensIssued { .. }
            | Record::KeyKept { .. }
            | Record::Audited(_)
            | Record::AuditForgotten { .. }
            | Record::ArtifactKept(_)
            | Record::ArtifactsForgotten { .. }
            | Record::ScheduleKept(_)
            | Record::ScheduleMoved(_)
            | Record::SchedulesForgotten { .. }
            | Record::StepMoved(_)
            | Record::KeysExpired { .. }
            | Record::CredentialsWanted { .. }
            | Record::CredentialsRevoked { .. }
            | Record::JobForgotten { .. } => None,
        }
    }

    /// Bytes it holds, approximately.
    pub(crate) fn weight(&self) -> usize {
        const FIXED: usize = 256;
        let list = |list: &[String]| list.iter().map(|text| FIXED + text.len()).sum::<usize>();
        FIXED
            + match self {
                Record::SessionOpened { scopes, ceiling, extensions, .. } => {
                    let ceiling = ceiling.as_ref().map_or(0, |ceiling| ceiling.bytes());
                    scopes.iter().map(str::len).sum::<usize>() + ceiling + list(extensions)
                }
                Record::JobAccepted(job) => {
                    let extensions = job.invocation.extensions.as_ref().map_or(0, |json| json.as_str().len());
                    FIXED + job.input.as_str().len() + job.lease.as_str().len() + extensions + job.trace.len()
                }
                Record::JobEvent { event, .. } => event.event.weight(),
                Record::JobHistory { classes, .. } => size_of_val(classes.as_slice()),
                Record::HistoryTrimmed { streams, .. } => streams.iter().map(|stream| FIXED + stream.id.len()).sum(),
                Record::Checkpointed { state, kept, .. } => state.len() + kept.as_ref().map_or(0, |kept| kept.bytes()),
                Record::BudgetLeft { left, raised, .. } => {
                    left.iter().chain(raised.iter()).map(|(currency, _)| FIXED + currency.as_str().len()).sum()
                }
                Record::Prompted { prompts, .. } => prompts.bytes(),
                Record::GrantsProlonged { until, .. } => size_of_val(until.as_slice()),
                Record::Audited(entry) => entry.bytes(),
                Record::Departing { departure, .. } => departure.bytes(),
                Record::TokensIssued { tokens, .. } => size_of_val(tokens.as_slice()),
                Record::AuditForgotten { entries }
                | Record::ArtifactsForgotten { entries }
                | Record::CheckpointsForgotten { entries, .. }
                | Record::SchedulesForgotten { entries } => size_of_val(entries.as_slice()),
                Record::ScheduleKept(schedule) => schedule.bytes(),
                Record::ScheduleMoved(state) => state.bytes(),
                Record::StepMoved(step) => step.state.bytes(),
                Record::ArtifactKept(artifact) => artifact.weight(),
                Record::CancelAsked { reason, .. } => reason.as_ref().map_or(0, String::len),
                Record::Numbered { run: Numbered::Local { frame, .. }, .. } => {
                    frame.about().map_or(0, |about| about.trace.len())
                }
                Record::Subscribed { filter, .. } => {
                    let Filter { sessions, traces, jobs, streams, types, min_priority: _ } = filter;
                    [sessions, traces, jobs, streams, types].into_iter().map(|ids| list(ids)).sum()
                }
                Record::TokenRotated { .. }
                | Record::SessionEnded { .. }
                | Record::SessionClosed { .. }
                | Record::JobRestarted { .. }
                | Record::HandedOver { .. }
                | Record::Joined { .. }
                | Record::Left { .. }
                | Record::Numbered { run: Numbered::Events(_) | Numbered::TakenBack { .. }, .. }
                | Record::Released { .. }
                | Record::Unsubscribed { .. }
                | Record::KeyKept { .. }
                | Record::KeysExpired { .. }
                | Record::CredentialsWanted { .. }
                | Record::CredentialsRevoked { .. }
                | Record::JobForgotten { .. } => 0,
            }
    }

    /// When the record expires, if that is known. A store has no clock, and keeps the record until
    /// another one says that this time [has come](Self::expires).
    pub fn until(&self) -> Option<UtcMs> {
        if let Record::KeyKept { until, .. } = self { Some(*until) } else { None }
    }

    /// A store that has this record may delete those that [expire](Self::until) at this time or
    /// before.
    pub fn expires(&self) -> Option<UtcMs> {
        if let Record::KeysExpired { until } = self { Some(*until) } else { None }
    }

    /// The latest time in the record, in UTC milliseconds.
    pub(crate) fn moment(&self) -> UtcMs {
        match self {
            Record::JobEvent { event, .. } => event.at,
            Record::JobAccepted(record) => record.created_at,
            Record::Audited(entry) => entry.at,
            Record::ScheduleKept(schedule) => schedule.created_at,
            Record::ScheduleMoved(state) => state.at,
            Record::Numbered { run: Numbered::Local { frame, .. }, .. } => frame.at,
            Record::SessionOpened { .. }
            | Record::TokenRotated { .. }
            | Record::SessionEnded { .. }
            | Record::SessionClosed { .. }
            | Record::JobHistory { .. }
            | Record::HistoryTrimmed { .. }
            | Record::Checkpointed { .. }
            | Record::CheckpointsForgotten { .. }
            | Record::JobRestarted { .. }
            | Record::CancelAsked { .. }
            | Record::BudgetLeft { .. }
            | Record::GrantsProlonged { .. }
            | Record::Prompted { .. }
            | Record::HandedOver { .. }
            | Record::Departing { .. }
            | Record::TokensIssued { .. }
            | Record::Joined { .. }
            | Record::Left { .. }
            | Record::Numbered { run: Numbered::Events(_) | Numbered::TakenBack { .. }, .. }
            | Record::Released { .. }
            | Record::Subscribed { .. }
            | Record::Unsubscribed { .. }
            | Record::KeyKept { .. }
            | Record::KeysExpired { .. }
            | Record::AuditForgotten { .. }
            | Record::ArtifactKept(_)
            | Record::ArtifactsForgotten { .. }
            | Record::SchedulesForgotten { .. }
            | Record::StepMoved(_)
            | Record::CredentialsWanted { .. }
            | Record::CredentialsRevoked { .. }
            | Record::JobForgotten { .. } => UtcMs(0),
        }
    }

    /// The positions of records that a store may delete once it has this one, and this one with
    /// them.
    pub fn forgets_entries(&self) -> &[LogPos] {
        if let Record::AuditForgotten { entries }
        | Record::ArtifactsForgotten { entries }
        | Record::CheckpointsForgotten { entries, .. }
        | Record::SchedulesForgotten { entries } = self
        {
            entries
        } else {
            &[]
        }
    }

    /// The position of a record that a store may delete once it has this one.
    pub fn undoes(&self) -> Option<LogPos> {
        let undoes = if let Record::Audited(entry) = self {
            entry.undoes
        } else if let Record::ScheduleMoved(state) = self {
            state.undoes
        } else if let Record::StepMoved(step) = self {
            step.undoes
        } else if let Record::Unsubscribed { undoes, .. }
        | Record::Joined { undoes, .. }
        | Record::Left { undoes, .. } = self
        {
            *undoes
        } else {
            return None;
        };
        Some(undoes).filter(|at| at.0 > 0)
    }

    /// The job whose records a store may delete once it has this one.
    pub fn forgets_job(&self) -> Option<JobId> {
        if let Record::JobForgotten { job } = self { Some(*job) } else { None }
    }

    /// The session whose records a store may delete once it has this one.
    pub fn ends_session(&self) -> Option<SessionId> {
        if let Record::SessionEnded { session } = self { Some(*session) } else { None }
    }
}

/// A job at its acceptance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The job.
    pub job: JobId,
    /// Its principal.
    pub principal: Principal,
    /// The session that submitted it.
    pub session: SessionId,
    /// The agent, resolved.
    pub agent: AgentRef,
    /// Its input.
    pub input: Json,
    /// The lease granted.
    pub lease: Json,
    /// Its trace.
    pub trace: String,
    /// Members that only the open family has.
    pub invocation: Invocation,
    /// The request that the acceptance answers.
    pub request: WireId,
    /// A digest of the submit: a message with the same id and another digest is another command.
    #[serde(default)]
    pub command: Option<[u8; 32]>,
    /// Whether the id of the request belongs to the principal, not to the session: then it outlives
    /// the session.
    #[serde(default)]
    pub id_is_of_principal: bool,
    /// Whether its agent is started at once, as a slot was free.
    #[serde(default)]
    pub starts: bool,
    /// When it was accepted, in UTC milliseconds.
    pub created_at: UtcMs,
    /// Its bounds.
    #[serde(flatten)]
    pub bounds: JobBounds,
    /// The key it claims.
    pub key: Option<KeyRecord>,
}

/// How a child refers to its parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentRecord {
    /// The parent.
    pub job: JobId,
    /// The id by which the parent refers to this child.
    pub delegate_id: WireId,
    /// A digest of the delegation: one with the same id and another digest is refused.
    pub fingerprint: [u8; 32],
}

/// The bounds of a job, fixed when it is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobBounds {
    /// Its time limit in seconds.
    pub max_runtime: Option<NonZeroU32>,
    /// When its lease expires, and whether the job ends with its budget.
    #[serde(default, skip_serializing_if = "Constraints::is_none")]
    pub constraints: Constraints,
    /// Its parent, if it is a child: it ends with its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Box<ParentRecord>>,
    /// Its trust level, which is that of its session. Anonymous sessions are not trusted.
    #[serde(default, skip_serializing_if = "TrustLevel::is_usual")]
    pub trust: TrustLevel,
    /// The roles by which its agent may delegate: those of its session when it was submitted.
    #[serde(default, skip_serializing_if = "Roles::is_empty")]
    pub roles: Roles,
    /// The time of a schedule for which it was submitted, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firing: Option<Box<Firing>>,
    /// The checkpoint of another job at which it began, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<Box<BegunAt>>,
}

/// An artifact, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// Its id, unique within its principal.
    pub id: WireId,
    /// Its principal.
    pub principal: Principal,
    /// The session that put it.
    pub session: SessionId,
    /// The media type of its bytes.
    pub media_type: MediaType,
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes, by which the host knows them.
    pub digest: BlobDigest,
    /// Until when it is kept.
    pub until: UtcMs,
    /// The job whose agent put it, if any: sessions that may watch the job may fetch it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
}

impl ArtifactRecord {
    /// The form that clients are shown.
    pub(crate) fn shown(&self) -> ArtifactRef {
        ArtifactRef {
            id: self.id.clone(),
            session: self.session,
            media_type: self.media_type.clone(),
            size: self.size,
            digest: self.digest,
            expires_at: self.until,
        }
    }

    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    /// Bytes of its texts.
    pub(crate) fn weight(&self) -> usize {
        self.id.as_str().len() + self.media_type.as_str().len()
    }
}

/// An event of a job, as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Its number in the job, from 1.
    pub n: u64,
    /// The time of the event, in UTC milliseconds.
    pub at: UtcMs,
    /// How many thoughts the job had before it.
    #[serde(default)]
    pub thoughts: u64,
    /// The event.
    pub event: Arc<JobEvent>,
}

/// An idempotency key, as it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// A digest of principal and key.
    pub digest: [u8; 32],
    /// A digest of the submit: with the same key and another digest, it is refused.
    pub fingerprint: [u8; 32],
}

/// The state of a job's departure to another runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DepartureRecord {
    /// The receiver is asked from here on, and may have accepted the job.
    Asked(DepartureTerms),
    /// The receiver does not have it.
    Stays,
    /// The receiver has it.
    Gone(Destination),
}

impl DepartureRecord {
    fn bytes(&self) -> usize {
        match self {
            DepartureRecord::Asked(terms) => terms.bytes(),
            DepartureRecord::Stays => 0,
            DepartureRecord::Gone(to) => to.bytes(),
        }
    }
}

/// The terms of a handoff that are not in the job's acceptance. Each retry has the same terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepartureTerms {
    /// The local name of the receiver.
    pub to: String,
    /// The URL of the receiver. If the name has another URL later, that may be another runtime,
    /// which does not know the job. Empty in records of older versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// The lease of the job, with what its budget has left.
    pub lease: Json,
    /// When the departure began.
    pub since: UtcMs,
}

impl DepartureTerms {
    /// Bytes it holds, approximately.
    pub(crate) fn bytes(&self) -> usize {
        let DepartureTerms { to, url, lease, since: UtcMs(_) } = self;
        size_of::<Self>() + to.len() + url.len() + lease.as_str().len()
    }
}

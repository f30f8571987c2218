//! What must survive the process: records, in the order of the log.

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

/// What must survive the process. Frames that reveal a record wait until it
/// is durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// A session was made.
    SessionOpened {
        /// The session.
        session: SessionId,
        /// Whose.
        principal: Principal,
        /// Whether nobody vouches for the principal, which says so itself.
        anonymous: bool,
        /// The scopes that it was opened with; it never has others.
        #[serde(default, skip_serializing_if = "Scopes::is_empty")]
        scopes: Scopes,
        /// The roles that the credential named which it was opened with.
        #[serde(default, skip_serializing_if = "Roles::is_empty")]
        roles: Roles,
        /// The most that the credential granted which it was opened with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ceiling: Option<Box<Ceiling>>,
        /// How its peer sees things.
        view: View,
        /// What resumes it.
        token: SecretDigest,
        /// Namespaces of extensions negotiated with its client.
        extensions: Vec<String>,
    },
    /// A session has a new token.
    TokenRotated {
        /// The session.
        session: SessionId,
        /// What resumes it now.
        token: SecretDigest,
    },
    /// A session is over.
    SessionEnded {
        /// The session.
        session: SessionId,
    },
    /// The client of a session has left it in order, though something of it was not
    /// acknowledged, or more was to come. It counts until the session is resumed.
    SessionClosed {
        /// The session.
        session: SessionId,
    },
    /// A job was accepted; with it its key is claimed.
    JobAccepted(Arc<JobRecord>),
    /// A job has one more event.
    JobEvent {
        /// The job.
        job: JobId,
        /// The event.
        event: EventRecord,
    },
    /// A job is over: what its events were. Comes after the last of them;
    /// with it a store gives back the last event only.
    JobHistory {
        /// The job.
        job: JobId,
        /// Events at the beginning that nobody has any more.
        gone: u64,
        /// How many of each class followed each other.
        classes: Vec<(EventClass, u32)>,
        /// Bytes they hold, roughly.
        bytes: usize,
        /// When it was started, if its time limit holds for children that go on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        started: Option<UtcMs>,
    },
    /// The first events of a job are no longer kept. The latest one counts.
    HistoryTrimmed {
        /// The job.
        job: JobId,
        /// The last of them.
        upto: u64,
        /// When its agent was started, if that was among them.
        #[serde(default)]
        started: Option<UtcMs>,
        /// The streams that were open then, which may have begun among them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        streams: Vec<OpenedStream>,
    },
    /// What a job can go on from. The latest one counts; those with a mark are kept besides.
    Checkpointed {
        /// The job.
        job: JobId,
        /// The agent's state.
        #[serde(with = "crate::record::frame_text")]
        state: Vec<u8>,
        /// What it is known by, if other jobs can begin at it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<Box<CheckpointMark>>,
    },
    /// No job begins at these checkpoints of a job any more.
    CheckpointsForgotten {
        /// The job.
        job: JobId,
        /// Where their records stand.
        entries: Vec<LogPos>,
    },
    /// A job that ran when an earlier runtime ended is started again.
    JobRestarted {
        /// The job.
        job: JobId,
    },
    /// Somebody who may cancel a job has asked for it.
    CancelAsked {
        /// The job.
        job: JobId,
        /// Why, in the words of who asked.
        reason: Option<String>,
    },
    /// What a job may still spend, with what is reserved taken out. The latest one
    /// counts; without any, all that its lease grants is left.
    BudgetLeft {
        /// The job.
        job: JobId,
        /// What is left of each currency that is bounded; below zero, what was
        /// spent beyond it.
        left: Budget,
        /// What people have added to what its lease grants, it and those below it; spent
        /// or not.
        #[serde(default, skip_serializing_if = "Budget::is_empty")]
        raised: Budget,
    },
    /// A session gets new events of a job.
    Joined {
        /// The job.
        job: JobId,
        /// The session.
        session: SessionId,
        /// Whether it may cancel the job from now on.
        owner: bool,
        /// The request that its frames follow from, if they say so and it is a
        /// new one.
        request: Option<WireId>,
        /// Which of the session's requests for the job its frames follow from,
        /// from 1; 0 for none. With a request in records of older versions 0:
        /// the next of all sessions'.
        #[serde(default)]
        number: u32,
        /// Where the session's last record of joining or leaving the job stands,
        /// if that says nothing else; 0 if there is none.
        #[serde(default)]
        undoes: LogPos,
    },
    /// A session no longer gets new events of a job.
    Left {
        /// The job.
        job: JobId,
        /// The session.
        session: SessionId,
        /// As of [`Joined`](Self::Joined).
        #[serde(default)]
        undoes: LogPos,
    },
    /// Frames were numbered for a session. Stands in the batch of the event that
    /// they are frames of, if that is new.
    Numbered {
        /// The session.
        session: SessionId,
        /// What was numbered.
        run: Numbered,
    },
    /// A session needs its first numbers no more.
    Released {
        /// The session.
        session: SessionId,
        /// The last of them.
        upto: u64,
    },
    /// A session has a subscription.
    Subscribed {
        /// The session.
        session: SessionId,
        /// Its number in the session, from 1.
        number: u32,
        /// What it is shown.
        filter: Filter,
        /// The request for it.
        request: WireId,
        /// What makes another message of that id the same.
        command: [u8; 32],
    },
    /// A subscription is over. The latest one counts, where it says what it
    /// undoes.
    Unsubscribed {
        /// The session.
        session: SessionId,
        /// Its number in the session.
        number: u32,
        /// Where the record of the subscription stands; 0 in records of older
        /// versions.
        #[serde(default)]
        undoes: LogPos,
        /// The last number that was given in the session: none is given again.
        #[serde(default)]
        last: u32,
    },
    /// A key outlives its job.
    KeyKept {
        /// The job it was claimed for.
        job: JobId,
        /// Whose it is.
        principal: Principal,
        /// The key.
        key: KeyRecord,
        /// Until when.
        until: UtcMs,
    },
    /// A job is forgotten.
    JobForgotten {
        /// The job.
        job: JobId,
    },
    /// Kept keys are over that held until then, and those that held shorter.
    KeysExpired {
        /// Until when the last of them held.
        until: UtcMs,
    },
    /// What a job has asked people. The latest one counts.
    Prompted {
        /// The job.
        job: JobId,
        /// All of it.
        prompts: Box<KeptPrompts>,
    },
    /// Permissions of a job are prolonged. The latest one counts, until the job is
    /// [`Prompted`](Record::Prompted) again.
    GrantsProlonged {
        /// The job.
        job: JobId,
        /// Those that were since it was prompted last, by the number of the question,
        /// and until when each holds.
        until: Vec<(u32, UtcMs)>,
    },
    /// A decision about authority.
    Audited(Box<AuditEntry>),
    /// A job is somebody else's. The latest one counts.
    HandedOver {
        /// The job.
        job: JobId,
        /// Whose.
        principal: Principal,
        /// The session of that one that took it.
        session: SessionId,
        /// Who handed it over, in records of versions that know.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Principal>,
    },
    /// A job is to go to another runtime, or has gone, or stays. The latest one counts.
    Departing {
        /// The job.
        job: JobId,
        /// How it stands with that.
        departure: Box<DepartureRecord>,
    },
    /// The first entries of the audit trail are forgotten.
    AuditForgotten {
        /// Where they stand.
        entries: Vec<LogPos>,
    },
    /// The tokens of a job that count. The latest one counts, until the job is
    /// [`HandedOver`](Record::HandedOver).
    TokensIssued {
        /// The job.
        job: JobId,
        /// What each is known by, the first one first.
        tokens: Vec<TokenRecord>,
    },
    /// Credentials are wanted for a job that is to be accepted: from here on some may
    /// count. What they are is not kept.
    CredentialsWanted {
        /// The job.
        job: JobId,
        /// Whose.
        principal: Principal,
    },
    /// Bytes are an artifact: they were stored before.
    ArtifactKept(Box<ArtifactRecord>),
    /// Artifacts were released, or their time is over.
    ArtifactsForgotten {
        /// Where their records stand.
        entries: Vec<LogPos>,
    },
    /// A schedule is kept.
    ScheduleKept(Box<ScheduleRecord>),
    /// How a schedule stands. The latest one counts; in the batch of the job that it
    /// tells of.
    ScheduleMoved(Box<ScheduleState>),
    /// Schedules are over.
    SchedulesForgotten {
        /// Where their records stand, and the last of how each stood.
        entries: Vec<LogPos>,
    },
    /// A step of a workflow stands otherwise. The latest one of a step counts; in the batch
    /// of what led to it.
    StepMoved(Box<StepRecord>),
    /// None of the credentials of a job counts any more.
    CredentialsRevoked {
        /// The job.
        job: JobId,
    },
}

impl Record {
    /// The job that the record is about, and goes with. A number goes with its
    /// session, a kept key with nobody.
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

    /// The session that the record is about, and goes with.
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

    /// Bytes it holds, roughly.
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

    /// Until when the record is of use, if that is known. A store keeps it until
    /// it is told that this moment has [come](Self::expires): it has no clock.
    pub fn until(&self) -> Option<UtcMs> {
        if let Record::KeyKept { until, .. } = self { Some(*until) } else { None }
    }

    /// Up to when records that are of use [until](Self::until) a moment are of
    /// none, once a store has this one.
    pub fn expires(&self) -> Option<UtcMs> {
        if let Record::KeysExpired { until } = self { Some(*until) } else { None }
    }

    /// The latest moment that the record tells of, by the clock of its time.
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

    /// The records that a store may let go of once it has this one, and of this one as
    /// well.
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

    /// The record that a store may let go of once it has this one.
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

    /// The job whose records a store may let go of once it has this one.
    pub fn forgets_job(&self) -> Option<JobId> {
        if let Record::JobForgotten { job } = self { Some(*job) } else { None }
    }

    /// The session whose records a store may let go of once it has this one.
    pub fn ends_session(&self) -> Option<SessionId> {
        if let Record::SessionEnded { session } = self { Some(*session) } else { None }
    }
}

/// The durable part of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The job.
    pub job: JobId,
    /// Whose.
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
    /// What only the open family says of it.
    pub invocation: Invocation,
    /// The request that it answers.
    pub request: WireId,
    /// What makes another message of that id the same.
    #[serde(default)]
    pub command: Option<[u8; 32]>,
    /// Whether the request's id stands for one message of the principal, not
    /// of the session: then it does so when the session is over.
    #[serde(default)]
    pub id_is_of_principal: bool,
    /// Whether its agent is started at once: there was a slot.
    #[serde(default)]
    pub starts: bool,
    /// When it was accepted.
    pub created_at: UtcMs,
    /// What bounds it.
    #[serde(flatten)]
    pub bounds: JobBounds,
    /// The key it claims.
    pub key: Option<KeyRecord>,
}

/// What a child is to its parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentRecord {
    /// The parent.
    pub job: JobId,
    /// What the child is known by there.
    pub delegate_id: WireId,
    /// What makes another delegation of that id the same.
    pub fingerprint: [u8; 32],
}

/// What bounds a job, fixed when it is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobBounds {
    /// Its time limit in seconds.
    pub max_runtime: Option<NonZeroU32>,
    /// When its lease ends, and what ends with a budget.
    #[serde(default, skip_serializing_if = "Constraints::is_none")]
    pub constraints: Constraints,
    /// The job that had it done, if one had: with that it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Box<ParentRecord>>,
    /// How far it is trusted, as its session was; whom nobody vouches for is not.
    #[serde(default, skip_serializing_if = "TrustLevel::is_usual")]
    pub trust: TrustLevel,
    /// By which its agent may delegate, besides its principal: those that counted
    /// when it was submitted.
    #[serde(default, skip_serializing_if = "Roles::is_empty")]
    pub roles: Roles,
    /// The time of a schedule that it is the job of, if it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firing: Option<Box<Firing>>,
    /// Where it began, if that was a checkpoint of another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<Box<BegunAt>>,
}

/// An artifact as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// What it is known by to whose it is.
    pub id: WireId,
    /// Whose it is.
    pub principal: Principal,
    /// The session that left it.
    pub session: SessionId,
    /// What its bytes are.
    pub media_type: MediaType,
    /// How many.
    pub size: u64,
    /// Their SHA-256, by which the host has them.
    pub digest: BlobDigest,
    /// Until when it is kept.
    pub until: UtcMs,
    /// The job whose agent left it, if one has: who may watch that may fetch it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
}

impl ArtifactRecord {
    /// What is shown of it.
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

    /// How many bytes it is of.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    /// Bytes that its texts hold.
    pub(crate) fn weight(&self) -> usize {
        self.id.as_str().len() + self.media_type.as_str().len()
    }
}

/// An event of a job as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Its number in the job, from 1.
    pub n: u64,
    /// When.
    pub at: UtcMs,
    /// How many thoughts the job had had before.
    #[serde(default)]
    pub thoughts: u64,
    /// The event.
    pub event: Arc<JobEvent>,
}

/// An idempotency key as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// A digest of principal and key.
    pub digest: [u8; 32],
    /// What makes two submits the same.
    pub fingerprint: [u8; 32],
}

/// How it stands with a job that is to go to another runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DepartureRecord {
    /// From here on the receiver may be asked, and perhaps has it.
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

/// What a receiver is asked besides what the acceptance of the job says: the same each
/// time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepartureTerms {
    /// What the receiver is called here.
    pub to: String,
    /// Where it is: whoever has its name later is perhaps another one, which does not
    /// know the job. Empty in records of versions that do not say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// What the job may do and still spend.
    pub lease: Json,
    /// Since when it is to go.
    pub since: UtcMs,
}

impl DepartureTerms {
    /// Bytes it holds, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let DepartureTerms { to, url, lease, since: UtcMs(_) } = self;
        size_of::<Self>() + to.len() + url.len() + lease.as_str().len()
    }
}

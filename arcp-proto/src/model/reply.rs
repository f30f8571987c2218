//! Answers and unrequested messages of a runtime.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::error::{ErrorCode, Violation};
use crate::id::WireId;
use crate::json::Json;
use crate::lease::{Budget, Constraints};
use crate::model::agent::AgentEntry;
use crate::model::artifact::ArtifactRef;
use crate::model::checkpoint::{CheckpointList, CheckpointRef};
use crate::model::credential::ProvisionedCredential;
use crate::model::feature::Features;
use crate::model::job::{JobStatus, JobSummary};
use crate::model::job_token::IssuedToken;
use crate::model::request::{ClientInfo, Extension, Target};
use crate::model::schedule::{SchedulePage, ScheduleSummary, Scheduled};
use crate::model::session::SessionPage;
use crate::model::upload::ArtifactAnswer;
use crate::secret::Secret;
use crate::time::UtcMs;

/// One message that is not part of a job's numbered stream, by the part that sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The refusal of any request.
    Refused(Refusal),
    /// A message to a peer without a session.
    Handshake(HandshakeReply),
    /// A message about the session itself or an answer to a query; some are sent without a request.
    Session(SessionReply),
    /// The answer to a command.
    Command(CommandReply),
}

/// A message to a peer that requests a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeReply {
    /// The session was opened or resumed (1.1 §6.2, §6.3; RFC §8.1).
    Opened(Box<Opened>),
    /// A challenge: the peer must prove its identity (RFC §8.1).
    Challenge(Challenge),
}

/// A message in a session, unrequested or in answer to a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionReply {
    /// The connection of the session is closed in order (1.1 §6.7).
    Closed {
        /// Why.
        reason: Option<String>,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// The lease of the session ends soon: the client must prove its principal again (RFC §8).
    Refresh {
        /// The time at which the lease ends.
        deadline: UtcMs,
        /// Milliseconds until then.
        deadline_ms: u64,
    },
    /// The session was taken from its client (RFC §8).
    Evicted {
        /// The code.
        code: ErrorCode,
        /// Why.
        reason: String,
    },
    /// A ping (1.1 §6.4).
    Ping {
        /// A nonce, which the answer repeats.
        nonce: String,
        /// When it was sent.
        at: UtcMs,
    },
    /// The answer to a ping (1.1 §6.4).
    Pong {
        /// The nonce of the ping.
        nonce: String,
        /// When the ping was received.
        at: UtcMs,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// The answer to a request for an echo (RFC §6.2).
    Echo {
        /// The nonce of the request.
        nonce: Option<String>,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// A request succeeded, and there is nothing else to report (RFC §6.2).
    Done {
        /// What was done.
        detail: String,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// A message of an extension, from the application (RFC §21).
    Extension(Extension),
    /// One page of jobs (1.1 §6.6).
    Jobs(JobPage),
    /// One page of sessions: an extension of ours (RFC §21).
    Sessions(SessionPage),
    /// One page of schedules: an extension of ours (RFC §21).
    Schedules(SchedulePage),
    /// The checkpoints of a job: an extension of ours (RFC §21).
    Checkpoints(CheckpointList),
    /// A heartbeat of a job, for peers whose family has a message for it (RFC §10.3).
    JobHeartbeat(JobHeartbeat),
    /// An artifact, with its bytes (RFC §16).
    Artifact(FetchedArtifact),
    /// Another answer about artifacts: an extension of ours (RFC §21).
    OfArtifacts(ArtifactAnswer),
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandReply {
    /// A job was accepted (1.1 §7.1, RFC §10).
    Accepted(Accepted),
    /// A cancel was accepted; the end of the job follows (1.1 §7.4, RFC §10.4).
    CancelTaken {
        /// What is being cancelled.
        target: Target,
        /// Why, in the client's words.
        reason: Option<String>,
        /// The cancel grace in milliseconds.
        deadline_ms: u64,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// A job is being watched; its events follow (1.1 §7.6).
    Watching(Watching),
    /// A subscription is open (RFC §13).
    Subscribed {
        /// The subscription.
        subscription: WireId,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// A subscription has ended (RFC §13).
    Unsubscribed {
        /// The subscription.
        subscription: WireId,
        /// The code.
        code: ErrorCode,
        /// Why.
        reason: String,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// An artifact is kept (RFC §16).
    Artifact {
        /// The artifact.
        artifact: ArtifactRef,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// A schedule is kept (RFC §10.6).
    Scheduled(Scheduled),
    /// A requested checkpoint is kept (RFC §19).
    Checkpoint {
        /// The checkpoint.
        checkpoint: CheckpointRef,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// A token was issued for a job: an extension of ours (RFC §21).
    Token(IssuedToken),
}

impl From<HandshakeReply> for Reply {
    fn from(reply: HandshakeReply) -> Reply {
        Reply::Handshake(reply)
    }
}

impl From<SessionReply> for Reply {
    fn from(reply: SessionReply) -> Reply {
        Reply::Session(reply)
    }
}

impl From<CommandReply> for Reply {
    fn from(reply: CommandReply) -> Reply {
        Reply::Command(reply)
    }
}

/// Bytes of any answer with its ids; an upper estimate.
const FIXED: usize = 512;

impl Reply {
    /// The request it answers.
    pub fn request(&self) -> Option<&WireId> {
        match self {
            Reply::Refused(refusal) => refusal.request.as_ref(),
            Reply::Handshake(HandshakeReply::Opened(opened)) => opened.request.as_ref(),
            Reply::Handshake(HandshakeReply::Challenge(challenge)) => challenge.request.as_ref(),
            Reply::Session(reply) => match reply {
                SessionReply::Closed { request, .. }
                | SessionReply::Pong { request, .. }
                | SessionReply::Echo { request, .. }
                | SessionReply::Done { request, .. } => request.as_ref(),
                SessionReply::Jobs(page) => page.request.as_ref(),
                SessionReply::Sessions(page) => page.request.as_ref(),
                SessionReply::Schedules(page) => page.request.as_ref(),
                SessionReply::Checkpoints(list) => list.request.as_ref(),
                SessionReply::JobHeartbeat(heartbeat) => heartbeat.request.as_ref(),
                SessionReply::Artifact(fetched) => fetched.request.as_ref(),
                SessionReply::OfArtifacts(answer) => answer.request(),
                SessionReply::Refresh { .. }
                | SessionReply::Evicted { .. }
                | SessionReply::Ping { .. }
                | SessionReply::Extension(_) => None,
            },
            Reply::Command(reply) => match reply {
                CommandReply::Accepted(accepted) => accepted.request.as_ref(),
                CommandReply::Watching(watching) => watching.request.as_ref(),
                CommandReply::Scheduled(scheduled) => scheduled.request.as_ref(),
                CommandReply::Token(issued) => issued.request.as_ref(),
                CommandReply::CancelTaken { request, .. }
                | CommandReply::Subscribed { request, .. }
                | CommandReply::Unsubscribed { request, .. }
                | CommandReply::Checkpoint { request, .. }
                | CommandReply::Artifact { request, .. } => request.as_ref(),
            },
        }
    }

    /// The job that it concerns, and the trace of the job.
    pub fn job(&self) -> (Option<&WireId>, Option<&str>) {
        match self {
            Reply::Refused(refusal) => (refusal.job.as_ref(), refusal.trace.as_deref()),
            Reply::Handshake(HandshakeReply::Opened(_) | HandshakeReply::Challenge(_)) => (None, None),
            Reply::Session(reply) => match reply {
                SessionReply::JobHeartbeat(heartbeat) => (Some(&heartbeat.job), Some(&heartbeat.trace)),
                SessionReply::Checkpoints(list) => (Some(&list.job), None),
                SessionReply::Closed { .. }
                | SessionReply::Refresh { .. }
                | SessionReply::Evicted { .. }
                | SessionReply::Ping { .. }
                | SessionReply::Pong { .. }
                | SessionReply::Echo { .. }
                | SessionReply::Done { .. }
                | SessionReply::Extension(_)
                | SessionReply::Jobs(_)
                | SessionReply::Sessions(_)
                | SessionReply::Schedules(_)
                | SessionReply::OfArtifacts(_)
                | SessionReply::Artifact(_) => (None, None),
            },
            Reply::Command(reply) => match reply {
                CommandReply::Accepted(accepted) => (Some(&accepted.job), accepted.trace.as_deref()),
                CommandReply::Watching(watching) => (Some(&watching.job), watching.trace.as_deref()),
                CommandReply::CancelTaken { target, .. } => (target.job(), None),
                CommandReply::Checkpoint { checkpoint, .. } => (Some(&checkpoint.job), None),
                CommandReply::Token(issued) => (Some(issued.token.job()), None),
                CommandReply::Subscribed { .. }
                | CommandReply::Unsubscribed { .. }
                | CommandReply::Artifact { .. }
                | CommandReply::Scheduled(_) => (None, None),
            },
        }
    }

    /// Bytes that it holds, approximately.
    pub(crate) fn weight(&self) -> usize {
        FIXED
            + match self {
                Reply::Refused(refusal) => refusal.message.len() + refusal.details.as_ref().map_or(0, json_bytes),
                Reply::Handshake(HandshakeReply::Opened(opened)) => {
                    let said = |agent: &AgentEntry| {
                        FIXED + text_bytes(&agent.description) + agent.input_schema.as_ref().map_or(0, json_bytes)
                    };
                    opened.agents.iter().map(said).sum::<usize>() + opened.extensions.len() * FIXED
                }
                Reply::Handshake(HandshakeReply::Challenge(_)) => 0,
                Reply::Session(reply) => reply.weight(),
                Reply::Command(reply) => reply.weight(),
            }
    }
}

impl SessionReply {
    fn weight(&self) -> usize {
        match self {
            SessionReply::Closed { reason, .. } => text_bytes(reason),
            SessionReply::Evicted { reason, .. } => reason.len(),
            SessionReply::Ping { nonce, .. } | SessionReply::Pong { nonce, .. } => nonce.len(),
            SessionReply::Echo { nonce, .. } => text_bytes(nonce),
            SessionReply::Done { detail, .. } => detail.len(),
            SessionReply::Jobs(page) => page.jobs.iter().map(|job| FIXED + json_bytes(&job.lease)).sum(),
            SessionReply::Sessions(page) => page.sessions.iter().map(|session| FIXED + session.principal.len()).sum(),
            SessionReply::Schedules(page) => page.schedules.iter().map(ScheduleSummary::weight).sum(),
            SessionReply::Checkpoints(list) => list.checkpoints.iter().map(CheckpointRef::weight).sum(),
            SessionReply::JobHeartbeat(heartbeat) => heartbeat.trace.len(),
            SessionReply::Extension(message) => message.kind.len() + json_bytes(&message.payload),
            SessionReply::Artifact(fetched) => fetched.data.len(),
            SessionReply::OfArtifacts(answer) => answer.weight(),
            SessionReply::Refresh { .. } => 0,
        }
    }
}

impl CommandReply {
    fn weight(&self) -> usize {
        match self {
            CommandReply::Accepted(accepted) => {
                let credentials: usize = accepted.credentials.iter().map(ProvisionedCredential::bytes).sum();
                json_bytes(&accepted.lease) + text_bytes(&accepted.trace) + credentials
            }
            CommandReply::CancelTaken { reason, .. } => text_bytes(reason),
            CommandReply::Watching(watching) => json_bytes(&watching.lease) + text_bytes(&watching.trace),
            CommandReply::Unsubscribed { reason, .. } => reason.len(),
            CommandReply::Checkpoint { checkpoint, .. } => checkpoint.weight(),
            CommandReply::Subscribed { .. }
            | CommandReply::Artifact { .. }
            | CommandReply::Scheduled(_)
            | CommandReply::Token(_) => 0,
        }
    }
}

fn text_bytes(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, String::len)
}

fn json_bytes(json: &Json) -> usize {
    json.as_str().len()
}

/// A runtime's description of itself (1.1 §6.2, RFC §8.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// The name and version of its program.
    pub program: ClientInfo,
    /// The fingerprint by which clients can identify it.
    pub fingerprint: Option<String>,
    /// How long it keeps artifacts, if it keeps any.
    pub artifact_retention: Option<ArtifactRetention>,
}

/// How long artifacts are kept (RFC §16.3), in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArtifactRetention {
    /// If the request says nothing.
    pub default_s: u64,
    /// The maximum.
    pub max_s: u64,
}

/// The answer to a fetch of an artifact.
#[derive(Clone, PartialEq, Eq)]
pub struct FetchedArtifact {
    /// The artifact.
    pub artifact: ArtifactRef,
    /// Its bytes, or the requested range of them.
    pub data: Vec<u8>,
    /// The number of its bytes before them.
    pub offset: u64,
    /// The request it answers.
    pub request: Option<WireId>,
}

/// Shows no bytes: they may have any value.
impl fmt::Debug for FetchedArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FetchedArtifact { artifact, data, offset, request } = self;
        let mut shown = f.debug_struct("FetchedArtifact");
        shown
            .field("artifact", artifact)
            .field("data", &data.len())
            .field("offset", offset)
            .field("request", request)
            .finish()
    }
}

/// A session opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The session.
    pub session: WireId,
    /// The token with which it can be resumed; empty if the peer issued none.
    pub resume_token: Secret,
    /// The resume window in seconds.
    pub resume_window_s: u64,
    /// Seconds between heartbeats of the connection, when negotiated.
    pub heartbeat_s: Option<u64>,
    /// Seconds between heartbeats of a job, where they are sent.
    pub job_heartbeat_s: Option<u64>,
    /// The features that both sides offer.
    pub features: Features,
    /// The agents on offer.
    pub agents: Vec<AgentEntry>,
    /// The runtime program.
    pub runtime: RuntimeInfo,
    /// When it was accepted.
    pub accepted_at: UtcMs,
    /// When the session ends unless it is refreshed.
    pub expires_at: Option<UtcMs>,
    /// Namespaces of extensions that both sides support.
    pub extensions: Vec<String>,
    /// Whether sessions without a credential are allowed.
    pub anonymous: bool,
    /// The capabilities that the runtime sent, including unknown ones; `{}` when this runtime is to
    /// write its own.
    pub capabilities: Json,
    /// For a resumed session: the number after which its stream continues, and whether earlier
    /// frames are replayed.
    pub replay: Option<(u64, bool)>,
    /// The request it answers.
    pub request: Option<WireId>,
}

/// A challenge to prove an identity (RFC §8.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The nonce that the proof must answer.
    pub nonce: String,
    /// The scheme of the proof.
    pub scheme: String,
    /// The time until which it is valid.
    pub expires_at: UtcMs,
    /// The request it answers.
    pub request: Option<WireId>,
}

/// A heartbeat of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobHeartbeat {
    /// The job.
    pub job: WireId,
    /// The number of the heartbeat of this job, from 0.
    pub sequence: u64,
    /// Milliseconds within which the next one follows.
    pub deadline_ms: u64,
    /// The status of the job.
    pub status: JobStatus,
    /// The request that gave this session access to the job.
    pub request: Option<WireId>,
    /// Its trace.
    pub trace: String,
}

/// What a refusal is about. Some published clients need different messages for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedKind {
    /// The session or connection as a whole.
    Session,
    /// A frame that could not be understood.
    Frame,
    /// A proof that may be repeated.
    Proof,
    /// A submit.
    Submit,
    /// A cancel.
    Cancel,
    /// Another request about one job.
    Job,
    /// A request to watch.
    Watch,
    /// A listing.
    Listing,
}

/// What a refused message is about, as far as it could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The kind of its request.
    pub kind: RefusedKind,
    /// Its id.
    pub id: Option<WireId>,
    /// The job in its envelope.
    pub job: Option<WireId>,
    /// The trace in its envelope.
    pub trace: Option<String>,
}

/// The refusal of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it is about.
    pub kind: RefusedKind,
    /// The code.
    pub code: ErrorCode,
    /// What happened, and what the client can do.
    pub message: Cow<'static, str>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// More for programs: an object.
    pub details: Option<Json>,
    /// The request it answers.
    pub request: Option<WireId>,
    /// The job it is about.
    pub job: Option<WireId>,
    /// The trace of the request, if it named one.
    pub trace: Option<String>,
}

impl Refusal {
    /// The refusal for a violation.
    pub fn new(kind: RefusedKind, violation: Violation, request: Option<WireId>) -> Refusal {
        Refusal {
            kind,
            retryable: violation.code.retryable(),
            code: violation.code,
            message: violation.message,
            details: violation.details,
            request,
            job: None,
            trace: None,
        }
    }

    /// The refusal of a message that could not be executed.
    pub fn about(subject: Subject, violation: Violation) -> Refusal {
        let Subject { kind, id, job, trace } = subject;
        Refusal { job, trace, ..Refusal::new(kind, violation, id) }
    }

    /// Whether a runtime of this project wrote it: such runtimes name the request that they answer.
    pub fn is_of_this_project(&self) -> bool {
        self.details.as_ref().and_then(|details| details.members().ok()).is_some_and(|m| m.get("open_code").is_some())
    }

    /// For a refused watch of history that is deleted: the event after which the history can be
    /// requested, if the runtime says so.
    pub fn history_after(&self) -> Option<u64> {
        // The error code differs by family.
        self.details.as_ref()?.members().ok()?.get("from_event_seq")?.parse().ok()
    }
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPage {
    /// The request it answers.
    pub request: Option<WireId>,
    /// The entries, oldest first.
    pub jobs: Vec<JobSummary>,
    /// The cursor of the next page; `None` at the end.
    pub next: Option<String>,
}

/// The acceptance of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The request it answers.
    pub request: Option<WireId>,
    /// The job.
    pub job: WireId,
    /// The agent as resolved.
    pub agent: String,
    /// The granted lease; `{}` if none.
    pub lease: Json,
    /// The constraints of its lease.
    pub constraints: Constraints,
    /// What the job may spend.
    pub budget: Budget,
    /// Its trace.
    pub trace: Option<String>,
    /// When it was accepted.
    pub accepted_at: UtcMs,
    /// The job that delegated it.
    pub parent: Option<WireId>,
    /// The id by which the parent refers to this job.
    pub delegate_id: Option<WireId>,
    /// The valid credentials that were issued for it, for sessions that may have them.
    pub credentials: Vec<ProvisionedCredential>,
}

/// The answer to a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watching {
    /// The request it answers.
    pub request: Option<WireId>,
    /// The job.
    pub job: WireId,
    /// Its status; `None` if the peer used an unknown word.
    pub status: Option<JobStatus>,
    /// The agent as resolved.
    pub agent: String,
    /// The granted lease; `{}` if none.
    pub lease: Json,
    /// The constraints of its lease.
    pub constraints: Constraints,
    /// What the job may still spend.
    pub budget: Budget,
    /// The job that delegated it.
    pub parent: Option<WireId>,
    /// Its trace.
    pub trace: Option<String>,
    /// The job's own number of the event after which events are sent.
    pub from: u64,
    /// Whether earlier events are replayed.
    pub replayed: bool,
}

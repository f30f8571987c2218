//! What a runtime answers, and says unasked.

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

/// One answer that is not part of a job's numbered stream, by whom it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Any request: it was refused.
    Refused(Refusal),
    /// Who is to be let in.
    Handshake(HandshakeReply),
    /// A request of the session itself, or nobody: it is said unasked.
    Session(SessionReply),
    /// A command.
    Command(CommandReply),
}

/// What is said to who is to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeReply {
    /// The session is open, or open again (1.1 §6.2, §6.3; RFC §8.1).
    Opened(Box<Opened>),
    /// Prove who you are with this (RFC §8.1).
    Challenge(Challenge),
}

/// What is said in a session, of itself or for looking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionReply {
    /// The session's connection ends in order (1.1 §6.7).
    Closed {
        /// Why.
        reason: Option<String>,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// The session's lease ends soon: prove again who you are (RFC §8).
    Refresh {
        /// Until when.
        deadline: UtcMs,
        /// Milliseconds until then.
        deadline_ms: u64,
    },
    /// The session is taken from its client (RFC §8).
    Evicted {
        /// The code.
        code: ErrorCode,
        /// Why.
        reason: String,
    },
    /// Are you there? (1.1 §6.4)
    Ping {
        /// To be echoed.
        nonce: String,
        /// When it was sent.
        at: UtcMs,
    },
    /// I am here (1.1 §6.4).
    Pong {
        /// The nonce of the ping.
        nonce: String,
        /// When the ping came.
        at: UtcMs,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// What was to be said back (RFC §6.2).
    Echo {
        /// As it came.
        nonce: Option<String>,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// It is done; there is nothing else to say (RFC §6.2).
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
    /// A job is alive; for peers that have a word for it (RFC §10.3).
    JobHeartbeat(JobHeartbeat),
    /// An artifact, with its bytes (RFC §16).
    Artifact(FetchedArtifact),
    /// Something else about artifacts: extensions of ours (RFC §21).
    OfArtifacts(ArtifactAnswer),
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandReply {
    /// A job was accepted (1.1 §7.1, RFC §10).
    Accepted(Accepted),
    /// A cancel was taken; the terminal follows (1.1 §7.4, RFC §10.4).
    CancelTaken {
        /// What is being stopped.
        target: Target,
        /// Why, in the client's words.
        reason: Option<String>,
        /// Milliseconds until it is made to stop.
        deadline_ms: u64,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// A job is being watched; its events follow (1.1 §7.6).
    Watching(Watching),
    /// A subscription is open (RFC §13).
    Subscribed {
        /// It.
        subscription: WireId,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// A subscription has ended (RFC §13).
    Unsubscribed {
        /// It.
        subscription: WireId,
        /// The code.
        code: ErrorCode,
        /// Why.
        reason: String,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// Bytes are kept (RFC §16).
    Artifact {
        /// What they are known by.
        artifact: ArtifactRef,
        /// The request it answers.
        request: Option<WireId>,
    },
    /// A schedule is kept (RFC §10.6).
    Scheduled(Scheduled),
    /// A checkpoint that was asked for is kept (RFC §19).
    Checkpoint {
        /// It.
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

/// Bytes that any answer holds with its ids, generously.
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

    /// The job that it is about, and the trace of that.
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

    /// Bytes that it holds, roughly.
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

/// What a runtime says of itself (1.1 §6.2, RFC §8.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// Its program.
    pub program: ClientInfo,
    /// By which it is known again.
    pub fingerprint: Option<String>,
    /// For how long it keeps artifacts, where it keeps any.
    pub artifact_retention: Option<ArtifactRetention>,
}

/// For how long artifacts are kept (RFC §16.3), in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArtifactRetention {
    /// Those of which nothing is said.
    pub default_s: u64,
    /// The longest.
    pub max_s: u64,
}

/// An artifact that was asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct FetchedArtifact {
    /// What it is known by.
    pub artifact: ArtifactRef,
    /// Its bytes, or the range of them that was asked for.
    pub data: Vec<u8>,
    /// How many of its bytes come before them.
    pub offset: u64,
    /// The request it answers.
    pub request: Option<WireId>,
}

/// Shows no bytes: they may be anything.
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
    /// What brings it back; empty if the peer issued none.
    pub resume_token: Secret,
    /// For how many seconds after a loss it can be brought back.
    pub resume_window_s: u64,
    /// Seconds between heartbeats of the connection, when negotiated.
    pub heartbeat_s: Option<u64>,
    /// Seconds between signs of life of a job, where they are given.
    pub job_heartbeat_s: Option<u64>,
    /// What both sides may use.
    pub features: Features,
    /// The agents on offer.
    pub agents: Vec<AgentEntry>,
    /// The runtime program.
    pub runtime: RuntimeInfo,
    /// When it was accepted.
    pub accepted_at: UtcMs,
    /// When the session ends unless it is refreshed.
    pub expires_at: Option<UtcMs>,
    /// Namespaces of extensions that both sides speak.
    pub extensions: Vec<String>,
    /// Whether sessions without a credential are allowed.
    pub anonymous: bool,
    /// What the runtime said it can do, as sent, with what nobody here knows;
    /// `{}` when it is ours to say.
    pub capabilities: Json,
    /// For a session that is back: the number after which it goes on, and
    /// whether anything is replayed.
    pub replay: Option<(u64, bool)>,
    /// The request it answers.
    pub request: Option<WireId>,
}

/// A demand for proof (RFC §8.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// What to answer.
    pub nonce: String,
    /// The scheme in which.
    pub scheme: String,
    /// Until when.
    pub expires_at: UtcMs,
    /// The request it answers.
    pub request: Option<WireId>,
}

/// A sign of life of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobHeartbeat {
    /// The job.
    pub job: WireId,
    /// 0, 1, 2, ... per job.
    pub sequence: u64,
    /// Milliseconds within which the next one comes.
    pub deadline_ms: u64,
    /// Where it stands.
    pub status: JobStatus,
    /// The request that made the job known to this session.
    pub request: Option<WireId>,
    /// Its trace.
    pub trace: String,
}

/// What a refusal is about. Some published clients need to be told in
/// different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedKind {
    /// The session or connection as a whole.
    Session,
    /// A frame that could not be understood.
    Frame,
    /// A proof that may be given once more.
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

/// What a message that is refused is about, as far as could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What it asks for.
    pub kind: RefusedKind,
    /// Its id.
    pub id: Option<WireId>,
    /// The job in its envelope.
    pub job: Option<WireId>,
    /// The trace in its envelope.
    pub trace: Option<String>,
}

/// A request that was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it is about.
    pub kind: RefusedKind,
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
    /// The trace of the request, if that named one.
    pub trace: Option<String>,
}

impl Refusal {
    /// The answer to a violation.
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

    /// The answer to a message that was not done.
    pub fn about(subject: Subject, violation: Violation) -> Refusal {
        let Subject { kind, id, job, trace } = subject;
        Refusal { job, trace, ..Refusal::new(kind, violation, id) }
    }

    /// Whether a runtime of this project wrote it: those name the request that
    /// they answer.
    pub fn is_of_this_project(&self) -> bool {
        self.details.as_ref().and_then(|details| details.members().ok()).is_some_and(|m| m.get("open_code").is_some())
    }

    /// Where the beginning of a job's history is no longer kept: after which
    /// event it can be asked for, if the runtime says so.
    pub fn history_after(&self) -> Option<u64> {
        // Its code differs by family.
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
    /// Its bounds.
    pub constraints: Constraints,
    /// What the job may spend.
    pub budget: Budget,
    /// Its trace.
    pub trace: Option<String>,
    /// When it was accepted.
    pub accepted_at: UtcMs,
    /// The job that delegated it.
    pub parent: Option<WireId>,
    /// By which name that one knows it.
    pub delegate_id: Option<WireId>,
    /// Credentials that were issued for it and count, for whoever may have them.
    pub credentials: Vec<ProvisionedCredential>,
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
    /// Its bounds.
    pub constraints: Constraints,
    /// What the job may still spend.
    pub budget: Budget,
    /// The job that delegated it.
    pub parent: Option<WireId>,
    /// Its trace.
    pub trace: Option<String>,
    /// The job's own event number after which events are sent.
    pub from: u64,
    /// Whether earlier events are replayed.
    pub replayed: bool,
}

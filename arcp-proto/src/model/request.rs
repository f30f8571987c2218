//! Requests of a client to a runtime.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::time::Duration;

use crate::id::{IdempotencyKey, Principal, WireId};
use crate::json::Json;
use crate::model::agent::AgentRef;
use crate::model::artifact::{ArtifactTerms, PutArtifact};
use crate::model::checkpoint::{CreateCheckpoint, RestoreCheckpoint};
use crate::model::feature::Features;
use crate::model::job::JobStatus;
use crate::model::job_token::ExchangeToken;
use crate::model::prompt::PromptAnswer;
use crate::model::schedule::{NewSchedule, ScheduleChange, ScheduleQuery};
use crate::model::session::{Eviction, SessionQuery};
use crate::model::stream::StreamRequest;
use crate::model::upload::ArtifactWish;
use crate::secret::{Secret, SecretDigest};
use crate::time::UtcMs;

/// One request, by the part that handles it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A request of a peer for a session.
    Handshake(HandshakeRequest),
    /// A request about the session itself, or a query. It may be repeated without harm.
    Session(SessionRequest),
    /// A command, executed once per message id.
    Command(Command),
}

/// A request of a peer for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeRequest {
    /// Open a session (1.1 §6.2, RFC §8.1).
    Open(Open),
    /// Resume an earlier session on this connection (1.1 §6.3).
    Resume(ResumeClaim),
    /// Answer a challenge (RFC §8.1).
    Authenticate(Proof),
}

/// A request in a session, which may be repeated without harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionRequest {
    /// Close the connection; jobs continue (1.1 §6.7).
    Close {
        /// Why, in the client's words.
        reason: Option<String>,
        /// Whether the peer waits for an answer.
        answered: bool,
    },
    /// A ping (1.1 §6.4).
    Ping {
        /// A nonce, which the answer repeats.
        nonce: String,
    },
    /// The answer to a ping (1.1 §6.4).
    Pong {
        /// The nonce of the ping.
        nonce: String,
    },
    /// Echo a nonce; this is no heartbeat (RFC §6.2).
    Echo {
        /// A nonce, which the answer repeats.
        nonce: Option<String>,
    },
    /// The answer to a runtime that requested an echo (RFC §6.2).
    Echoed {
        /// The nonce of the request.
        nonce: Option<String>,
    },
    /// Everything up to this number is processed (1.1 §6.5).
    Ack {
        /// The last sequence number processed.
        seq: u64,
    },
    /// List jobs (1.1 §6.6).
    List(ListQuery),
    /// List sessions: an extension of ours (RFC §21).
    ListSessions(SessionQuery),
    /// List schedules: an extension of ours (RFC §21).
    ListSchedules(ScheduleQuery),
    /// Be notified of questions to people, in jobs that the session may see: an extension of ours
    /// (RFC §21).
    AwaitPrompt,
    /// List the checkpoints of a job: an extension of ours (RFC §21).
    ListCheckpoints {
        /// The job.
        job: WireId,
    },
    /// Send earlier frames again (RFC §19).
    Replay(Replay),
    /// Limit the rate of a stream (RFC §11.2).
    Pace {
        /// The stream.
        stream: WireId,
        /// The time between two events; `None`: no limit.
        every: Option<Duration>,
    },
    /// A fetch of an artifact, or another request about artifacts (RFC §16).
    AboutArtifacts(ArtifactWish),
    /// A message of an extension, which the host gets if the extension was negotiated (RFC §21).
    Extension(Extension),
    /// A message that is ignored and never an error (1.1 §5).
    Ignored,
}

/// A request that is executed once per message id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Submit a job (1.1 §7.1, RFC §10).
    Submit(Submit, Invocation),
    /// Cancel a job, stream or session (1.1 §7.4, RFC §10.4).
    Cancel(Cancel),
    /// Watch a job (1.1 §7.6).
    Watch(Watch),
    /// Stop watching a job (1.1 §7.6).
    Unwatch {
        /// The job.
        job: WireId,
    },
    /// Subscribe to the events of the principal's sessions (RFC §13).
    Subscribe(Subscribe),
    /// End a subscription (RFC §13).
    Unsubscribe {
        /// The subscription.
        subscription: WireId,
    },
    /// Answer a question (RFC §12, §15.4).
    Answer(Answering),
    /// Take a session from its client: an extension of ours (RFC §21).
    Evict(Eviction),
    /// Send a message to a running agent (RFC §10.5).
    Interrupt(Interrupt),
    /// Send part of a stream to a running agent (RFC §11).
    Stream(Box<StreamRequest>),
    /// Give a job to another owner or runtime (RFC §14).
    HandOver(HandOver),
    /// Keep bytes as an artifact (RFC §16).
    PutArtifact(PutArtifact),
    /// Keep bytes that arrived in parts as an artifact: an extension of ours (RFC §21).
    KeepParts(ArtifactTerms),
    /// Release an artifact (RFC §16).
    ReleaseArtifact {
        /// The artifact.
        id: WireId,
    },
    /// Keep a schedule (RFC §10.6).
    Schedule(Box<NewSchedule>),
    /// Pause or resume a schedule: an extension of ours (RFC §21).
    ChangeSchedule(ScheduleChange),
    /// Request a checkpoint of a job (RFC §19).
    CreateCheckpoint(CreateCheckpoint),
    /// Submit a job that begins at a checkpoint (RFC §19).
    RestoreCheckpoint(RestoreCheckpoint),
    /// Issue a token for the rest of a job: an extension of ours (RFC §21).
    IssueToken {
        /// The job.
        job: WireId,
    },
    /// Exchange a token for the rest of its job: an extension of ours (RFC §21).
    ExchangeToken(ExchangeToken),
}

/// A request to give a job to another principal or runtime, with the right to cancel it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// The job.
    pub job: WireId,
    /// The new owner. `None` only if the job goes to another runtime: there it is owned by the
    /// principal as which this runtime authenticates.
    pub to: Option<Principal>,
    /// The session of the new owner that is to get it; `None`: the latest that takes jobs.
    pub session: Option<WireId>,
    /// The other runtime: its name in the configuration of this one, or its configured URL.
    pub runtime: Option<String>,
    /// The fingerprint that the other runtime must have in the configuration; without `runtime`, it
    /// selects the runtime.
    pub fingerprint: Option<String>,
    /// Why, in the client's words.
    pub reason: Option<String>,
}

impl HandOver {
    /// Gives a job to another principal of this runtime.
    pub fn to(job: WireId, to: Principal) -> HandOver {
        HandOver { job, to: Some(to), session: None, runtime: None, fingerprint: None, reason: None }
    }

    /// Hands a job off to the runtime that has this name here.
    pub fn to_runtime(job: WireId, runtime: impl Into<String>) -> HandOver {
        HandOver { job, to: None, session: None, runtime: Some(runtime.into()), fingerprint: None, reason: None }
    }
}

/// A message to a running agent (RFC §10.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// The job of the agent.
    pub target: Target,
    /// The text of the message; may be empty.
    pub prompt: String,
}

/// An answer to a question of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answering {
    /// The question: its id, or the id of a message that showed it.
    pub prompt: WireId,
    /// The answer.
    pub answer: PromptAnswer,
}

impl Request {
    /// The job that the request names.
    pub fn job(&self) -> Option<&WireId> {
        match self {
            Request::Command(command) => command.job(),
            Request::Handshake(_) | Request::Session(_) => None,
        }
    }
}

impl Command {
    /// A cancel of a job, with the runtime's cancel grace.
    pub fn cancel(job: WireId, reason: Option<String>) -> Command {
        Command::Cancel(Cancel { target: Target::Job(job), reason, deadline: None })
    }

    /// The job that the command names.
    pub fn job(&self) -> Option<&WireId> {
        match self {
            Command::Cancel(cancel) => cancel.target.job(),
            Command::Interrupt(interrupt) => interrupt.target.job(),
            Command::Stream(request) => Some(&request.job),
            Command::Watch(watch) => Some(&watch.job),
            Command::Unwatch { job } => Some(job),
            Command::HandOver(wish) => Some(&wish.job),
            Command::CreateCheckpoint(wish) => Some(&wish.job),
            Command::IssueToken { job } => Some(job),
            Command::ExchangeToken(wish) => Some(wish.token.job()),
            Command::Submit(..)
            | Command::Subscribe(_)
            | Command::Unsubscribe { .. }
            | Command::Answer(_)
            | Command::Evict(_)
            | Command::PutArtifact(_)
            | Command::KeepParts(_)
            | Command::ReleaseArtifact { .. }
            | Command::Schedule(_)
            | Command::ChangeSchedule(_)
            | Command::RestoreCheckpoint(_) => None,
        }
    }
}

impl From<HandshakeRequest> for Request {
    fn from(request: HandshakeRequest) -> Request {
        Request::Handshake(request)
    }
}

impl From<SessionRequest> for Request {
    fn from(request: SessionRequest) -> Request {
        Request::Session(request)
    }
}

impl From<Command> for Request {
    fn from(command: Command) -> Request {
        Request::Command(command)
    }
}

/// A request to cancel something (1.1 §7.4, RFC §10.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// What to cancel.
    pub target: Target,
    /// Why, in the client's words.
    pub reason: Option<String>,
    /// The cancel grace, at most ten minutes; `None`: that of the runtime.
    pub deadline: Option<Duration>,
}

/// The target of a cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A job.
    Job(WireId),
    /// A stream.
    Stream(WireId),
    /// A session: first its jobs, then itself.
    Session(WireId),
}

impl Target {
    /// The id of the target.
    pub fn id(&self) -> &WireId {
        match self {
            Target::Job(id) | Target::Stream(id) | Target::Session(id) => id,
        }
    }

    /// The job, if the target is one.
    pub fn job(&self) -> Option<&WireId> {
        match self {
            Target::Job(id) => Some(id),
            Target::Stream(_) | Target::Session(_) => None,
        }
    }
}

/// The answer to a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The proof for the challenge.
    pub response: Secret,
    /// The nonce of the challenge, if the client sent it.
    pub nonce: Option<String>,
}

/// A message whose type neither family defines (RFC §21).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Extension {
    /// Its type.
    pub kind: String,
    /// Its content.
    pub payload: Json,
    /// Whether the sender accepts that the receiver does not know it.
    pub optional: bool,
}

impl Extension {
    /// Whether it belongs to one of these namespaces.
    pub fn is_of(&self, namespaces: &[String]) -> bool {
        namespaces.iter().any(|namespace| {
            let rest = self.kind.strip_prefix(namespace.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

/// A request to open a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Name and version of the client program.
    pub client: ClientInfo,
    /// The credential of the client.
    pub credential: Credential,
    /// The features that the client offers.
    pub features: Features,
    /// The session to resume, if any.
    pub resume: Option<ResumeClaim>,
    /// The features that the client requires.
    pub required: Features,
    /// A required feature that no runtime of ours has.
    pub required_unknown: Option<String>,
    /// Namespaces of the extensions that the client supports.
    pub extensions: Vec<String>,
    /// The fingerprint of its certificate, as the client declares it (RFC §8.2).
    pub fingerprint: Option<String>,
}

impl Open {
    /// A request that offers these features and requires none.
    pub fn new(client: ClientInfo, credential: Credential, features: Features) -> Open {
        Open {
            client,
            credential,
            features,
            resume: None,
            required: Features::default(),
            required_unknown: None,
            extensions: Vec::new(),
            fingerprint: None,
        }
    }
}

/// A program's name and version.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ClientInfo {
    /// The name.
    pub name: String,
    /// The version.
    pub version: String,
}

/// A scheme with its token (1.1 §6.1, RFC §8.2).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Credential {
    /// A bearer token.
    Bearer(Secret),
    /// No credential.
    Anonymous,
    /// A scheme that the runtime may or may not accept, with its token.
    Other {
        /// The scheme.
        scheme: String,
        /// The token; empty if none was sent.
        token: Secret,
    },
}

impl Credential {
    /// A digest that identifies the credential without revealing it; the same for all anonymous
    /// clients.
    pub fn digest(&self) -> SecretDigest {
        match self {
            Credential::Bearer(token) | Credential::Other { scheme: _, token } => token.digest(),
            Credential::Anonymous => SecretDigest([0; 32]),
        }
    }
}

/// A request to resume a session (1.1 §6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeClaim {
    /// The session; the token identifies it even without this.
    pub session: Option<WireId>,
    /// The latest token.
    pub token: Secret,
    /// The last sequence number that the client has received.
    pub last_seq: u64,
}

/// A request for a job (1.1 §7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    /// The agent.
    pub agent: AgentRef,
    /// Its input, as sent; `None` if there was none.
    pub input: Option<Json>,
    /// The requested lease, as sent.
    pub lease_request: Option<Json>,
    /// Bounds of the lease, as sent.
    pub lease_constraints: Option<Json>,
    /// The idempotency key: the same key of the same principal means the same job.
    pub key: Option<IdempotencyKey>,
    /// Time limit in seconds.
    pub max_runtime: Option<NonZeroU32>,
    /// The parent job.
    pub parent: Option<WireId>,
    /// The id by which the parent refers to the job: unique among its children. `None`: the runtime
    /// makes one.
    pub delegate_id: Option<WireId>,
    /// Its trace, if the client has one: 32 lower-case hex digits, in the hello family also a W3C
    /// traceparent, in the open family any text.
    pub trace: Option<String>,
}

/// Members of a submit that the open family has. The hello family has only the span.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Invocation {
    /// Its priority among the jobs of its principal.
    pub priority: Priority,
    /// The client's span of the submit, if it has one.
    pub span: Option<String>,
    /// Whether the client's tracer does not record the trace.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub unsampled: bool,
    /// Members of extensions for the agent, an object.
    pub extensions: Option<Json>,
}

/// The urgency of a job or message (RFC §6.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Priority {
    /// After all others.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before those with the default.
    High,
    /// Before all others.
    Critical,
}

impl Submit {
    /// A submit without input, key, time limit or lease.
    ///
    /// ```
    /// use arcp_proto::{json::Json, model::{agent::AgentRef, request::Submit}};
    /// let input = Some(Json::string("hi"));
    /// let submit = Submit { input, ..Submit::new(AgentRef::parse("echo")?) };
    /// assert_eq!(submit.key, None);
    /// # Ok::<(), arcp_proto::error::Violation>(())
    /// ```
    pub fn new(agent: AgentRef) -> Submit {
        Submit {
            agent,
            input: None,
            lease_request: None,
            lease_constraints: None,
            key: None,
            max_runtime: None,
            parent: None,
            delegate_id: None,
            trace: None,
        }
    }
}

/// A query for jobs (1.1 §6.6). A job must meet all given conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Jobs with one of these; empty: any.
    pub status: Vec<JobStatus>,
    /// `name` or `name@version`.
    pub agent: Option<AgentRef>,
    /// Created later than this.
    pub created_after: Option<UtcMs>,
    /// Created at this time or earlier.
    pub created_before: Option<UtcMs>,
    /// Entries per page, 1..=1000.
    pub limit: Option<u64>,
    /// The cursor where the page before ended.
    pub cursor: Option<String>,
}

/// A request to watch a job (1.1 §7.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The job.
    pub job: WireId,
    /// Replay events after this one.
    pub after: Option<u64>,
    /// Whether to replay; `None` means "if `after` is given".
    pub history: Option<bool>,
}

/// A request for a subscription (RFC §13.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Which events.
    pub filter: Filter,
    /// The history to send first; `None`: none.
    pub since: Option<Since>,
}

/// The beginning of a requested history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// The oldest event that is kept.
    Beginning,
    /// After this message.
    Message(WireId),
}

/// The filter of a subscription. An event must meet every condition; a list is met by any of its
/// entries, and an empty list by every event.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Filter {
    /// Sessions that submitted the job.
    pub sessions: Vec<String>,
    /// Traces of the job.
    pub traces: Vec<String>,
    /// Jobs.
    pub jobs: Vec<String>,
    /// Streams.
    pub streams: Vec<String>,
    /// Types of messages.
    pub types: Vec<String>,
    /// The lowest priority.
    pub min_priority: Option<Priority>,
}

impl Filter {
    /// Bytes of its lists.
    pub(crate) fn bytes(&self) -> usize {
        let Filter { sessions, traces, jobs, streams, types, min_priority: _ } = self;
        [sessions, traces, jobs, streams, types].into_iter().flatten().map(String::len).sum()
    }
}

/// A request for frames that were sent before (RFC §19).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The last message that the client has; `None`: all that are kept.
    pub after: Option<WireId>,
    /// The last checkpoint that the client has: events of all jobs after it are sent. With a
    /// message as well, the later of the two counts.
    pub checkpoint: Option<WireId>,
    /// Whether the messages that opened streams that are still open are sent first.
    pub open_streams: bool,
}

//! What a client asks of a runtime.

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

/// One request, by who takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Of who is to be let in.
    Handshake(HandshakeRequest),
    /// Of the session itself, or only for looking.
    Session(SessionRequest),
    /// Executed once per message id.
    Command(Command),
}

/// A request of who is to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeRequest {
    /// Open a session (1.1 §6.2, RFC §8.1).
    Open(Open),
    /// Take an earlier session over to this connection (1.1 §6.3).
    Resume(ResumeClaim),
    /// Prove once more who you are (RFC §8.1).
    Authenticate(Proof),
}

/// A request of a session, which may come again without harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionRequest {
    /// End the connection; jobs go on (1.1 §6.7). `answered`: the peer waits for
    /// a reply.
    Close {
        /// Why, in the client's words.
        reason: Option<String>,
        /// Whether a reply is owed.
        answered: bool,
    },
    /// Are you there? (1.1 §6.4)
    Ping {
        /// Echoed in the answer.
        nonce: String,
    },
    /// I am here (1.1 §6.4).
    Pong {
        /// The nonce of the ping.
        nonce: String,
    },
    /// Say this back; no sign of life is asked for (RFC §6.2).
    Echo {
        /// Said back in the answer.
        nonce: Option<String>,
    },
    /// The answer to a runtime that has something said back (RFC §6.2).
    Echoed {
        /// What it is.
        nonce: Option<String>,
    },
    /// Everything up to here is processed (1.1 §6.5).
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
    /// Be told when people are asked something, in a job that the session may see: an
    /// extension of ours (RFC §21).
    AwaitPrompt,
    /// List the checkpoints of a job: an extension of ours (RFC §21).
    ListCheckpoints {
        /// The job.
        job: WireId,
    },
    /// The frames after this one once more (RFC §19).
    Replay(Replay),
    /// Say no more than so much in a stream (RFC §11.2).
    Pace {
        /// The stream.
        stream: WireId,
        /// Time between two events; `None`: as fast as they come.
        every: Option<Duration>,
    },
    /// Bytes of an artifact, or something else about those that are kept (RFC §16).
    AboutArtifacts(ArtifactWish),
    /// A message of an extension, for the host if it was negotiated (RFC §21).
    Extension(Extension),
    /// A message nobody has to handle; never an error (1.1 §5).
    Ignored,
}

/// A request that is executed once per message id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run a job (1.1 §7.1, RFC §10).
    Submit(Submit, Invocation),
    /// Stop something (1.1 §7.4, RFC §10.4).
    Cancel(Cancel),
    /// Watch a job (1.1 §7.6).
    Watch(Watch),
    /// Stop watching a job (1.1 §7.6).
    Unwatch {
        /// The job.
        job: WireId,
    },
    /// Be shown what happens in the principal's sessions (RFC §13).
    Subscribe(Subscribe),
    /// Be shown no more (RFC §13).
    Unsubscribe {
        /// The subscription.
        subscription: WireId,
    },
    /// Answer a question (RFC §12, §15.4).
    Answer(Answering),
    /// Take a session from its client: an extension of ours (RFC §21).
    Evict(Eviction),
    /// Say something to an agent that runs (RFC §10.5).
    Interrupt(Interrupt),
    /// Say something in a stream to an agent that runs (RFC §11).
    Stream(Box<StreamRequest>),
    /// Make a job somebody else's (RFC §14).
    HandOver(HandOver),
    /// Leave bytes with the runtime for a while (RFC §16).
    PutArtifact(PutArtifact),
    /// Keep the bytes that have come in parts: an extension of ours (RFC §21).
    KeepParts(ArtifactTerms),
    /// Let go of an artifact (RFC §16).
    ReleaseArtifact {
        /// The artifact.
        id: WireId,
    },
    /// Have jobs submitted at times (RFC §10.6).
    Schedule(Box<NewSchedule>),
    /// Pause a schedule, or resume it: an extension of ours (RFC §21).
    ChangeSchedule(ScheduleChange),
    /// Have the agent of a job make a checkpoint (RFC §19).
    CreateCheckpoint(CreateCheckpoint),
    /// Run a job that begins at a checkpoint (RFC §19).
    RestoreCheckpoint(RestoreCheckpoint),
    /// Issue a token for the rest of a job: an extension of ours (RFC §21).
    IssueToken {
        /// The job.
        job: WireId,
    },
    /// Give the rest of a job for its token: an extension of ours (RFC §21).
    ExchangeToken(ExchangeToken),
}

/// A wish to make a job that goes on somebody else's, with the right to cancel it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// The job.
    pub job: WireId,
    /// Whose it is to be; `None` only if it goes to another runtime, where it is whose
    /// token that runtime was given by this one.
    pub to: Option<Principal>,
    /// The session of that one which is to take it; `None`: the latest that takes jobs.
    pub session: Option<WireId>,
    /// Another runtime to which it is to go, as the operator of this one calls it, or
    /// its URL as that one gave it.
    pub runtime: Option<String>,
    /// The fingerprint by which that runtime must be known to this one; without a
    /// runtime, the one that has it.
    pub fingerprint: Option<String>,
    /// Why, in the client's words.
    pub reason: Option<String>,
}

impl HandOver {
    /// Makes a job somebody else's, in this runtime.
    pub fn to(job: WireId, to: Principal) -> HandOver {
        HandOver { job, to: Some(to), session: None, runtime: None, fingerprint: None, reason: None }
    }

    /// Has another runtime take a job, that which this one's operator calls so.
    pub fn to_runtime(job: WireId, runtime: impl Into<String>) -> HandOver {
        HandOver { job, to: None, session: None, runtime: Some(runtime.into()), fingerprint: None, reason: None }
    }
}

/// A wish to say something to an agent that runs (RFC §10.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Whose agent: a job.
    pub target: Target,
    /// What is said; may be empty.
    pub prompt: String,
}

/// An answer to a question of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answering {
    /// The question: its id, or that of a message that showed it.
    pub prompt: WireId,
    /// The answer.
    pub answer: PromptAnswer,
}

impl Request {
    /// The job that it names.
    pub fn job(&self) -> Option<&WireId> {
        match self {
            Request::Command(command) => command.job(),
            Request::Handshake(_) | Request::Session(_) => None,
        }
    }
}

impl Command {
    /// Stop a job, in the runtime's own time.
    pub fn cancel(job: WireId, reason: Option<String>) -> Command {
        Command::Cancel(Cancel { target: Target::Job(job), reason, deadline: None })
    }

    /// The job that it names.
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

/// A wish to stop something (1.1 §7.4, RFC §10.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// What to stop.
    pub target: Target,
    /// Why, in the client's words.
    pub reason: Option<String>,
    /// How long an agent may take before it is made to stop, up to ten
    /// minutes; `None`: as long as the runtime gives.
    pub deadline: Option<Duration>,
}

/// What a cancel is aimed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A job.
    Job(WireId),
    /// A stream.
    Stream(WireId),
    /// A session: its jobs, then itself.
    Session(WireId),
}

impl Target {
    /// The id of whatever it is.
    pub fn id(&self) -> &WireId {
        match self {
            Target::Job(id) | Target::Stream(id) | Target::Session(id) => id,
        }
    }

    /// The job, if it is one.
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
    /// What was asked for.
    pub response: Secret,
    /// The challenge it answers, if it says so.
    pub nonce: Option<String>,
}

/// A message whose type neither family defines (RFC §21).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Extension {
    /// Its type.
    pub kind: String,
    /// What it says.
    pub payload: Json,
    /// Whether its sender does not mind if nobody understands it.
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

/// The opening of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Name and version of the client program.
    pub client: ClientInfo,
    /// How it proves who it is.
    pub credential: Credential,
    /// What it offers.
    pub features: Features,
    /// The session it wants back.
    pub resume: Option<ResumeClaim>,
    /// What it cannot do without.
    pub required: Features,
    /// Something it cannot do without that no runtime of ours has.
    pub required_unknown: Option<String>,
    /// Namespaces of extensions it speaks.
    pub extensions: Vec<String>,
    /// The fingerprint of its certificate, as it says (RFC §8.2).
    pub fingerprint: Option<String>,
}

impl Open {
    /// An opening that offers features and asks for nothing else.
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

/// A scheme and what goes with it (1.1 §6.1, RFC §8.2).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Credential {
    /// A bearer token.
    Bearer(Secret),
    /// Nobody in particular.
    Anonymous,
    /// A scheme this runtime may or may not accept, with its token.
    Other {
        /// The scheme.
        scheme: String,
        /// The token, empty if none was sent.
        token: Secret,
    },
}

impl Credential {
    /// What it is known by, without being told; the same for all that say nothing.
    pub fn digest(&self) -> SecretDigest {
        match self {
            Credential::Bearer(token) | Credential::Other { scheme: _, token } => token.digest(),
            Credential::Anonymous => SecretDigest([0; 32]),
        }
    }
}

/// The claim to an earlier session (1.1 §6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeClaim {
    /// The session; the token alone finds it too.
    pub session: Option<WireId>,
    /// The latest token.
    pub token: Secret,
    /// The last sequence number the client has.
    pub last_seq: u64,
}

/// A job to run (1.1 §7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    /// The agent.
    pub agent: AgentRef,
    /// Its input, as sent; `None` if there was none.
    pub input: Option<Json>,
    /// The lease asked for, as sent.
    pub lease_request: Option<Json>,
    /// Bounds of the lease, as sent.
    pub lease_constraints: Option<Json>,
    /// Same key, same principal, same job.
    pub key: Option<IdempotencyKey>,
    /// Time limit in seconds.
    pub max_runtime: Option<NonZeroU32>,
    /// The job it belongs to.
    pub parent: Option<WireId>,
    /// By which name that one knows it: same name there, same job. `None`: the runtime
    /// makes one.
    pub delegate_id: Option<WireId>,
    /// Its trace, if the client has one: 32 lower-case hex digits, in the hello family
    /// also a whole W3C traceparent, in the open family any text.
    pub trace: Option<String>,
}

/// How a job is asked for. Of this the hello family can say only in which span.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Invocation {
    /// Whether it goes before others of its principal.
    pub priority: Priority,
    /// The span it was asked for in, if the client has one.
    pub span: Option<String>,
    /// Whether the client's tracer says that it does not record its trace.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub unsampled: bool,
    /// Members of extensions, an object, for the agent.
    pub extensions: Option<Json>,
}

/// How urgent something is (RFC §6.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Priority {
    /// After everything else.
    Low,
    /// As usual.
    #[default]
    Normal,
    /// Before what is usual.
    High,
    /// Before everything else.
    Critical,
}

impl Submit {
    /// A job for an agent, without input, key, limit or lease.
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

/// A question for jobs (1.1 §6.6). All given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Any of these; empty means any.
    pub status: Vec<JobStatus>,
    /// `name` or `name@version`.
    pub agent: Option<AgentRef>,
    /// Strictly later than this.
    pub created_after: Option<UtcMs>,
    /// This or earlier.
    pub created_before: Option<UtcMs>,
    /// Entries per page, 1..=1000.
    pub limit: Option<u64>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// A wish to watch a job (1.1 §7.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The job.
    pub job: WireId,
    /// Replay what is later than this.
    pub after: Option<u64>,
    /// Whether to replay; `None` means "if `after` is given".
    pub history: Option<bool>,
}

/// A wish to be shown what happens (RFC §13.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// What of it.
    pub filter: Filter,
    /// Which history, too; `None`: none.
    pub since: Option<Since>,
}

/// Where the history that is asked for begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// As far as it is kept.
    Beginning,
    /// After this message.
    Message(WireId),
}

/// What a subscription is shown: what meets every condition that is given; a
/// list is met by any of its entries, and an empty one by everything.
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
    /// Nothing less urgent than this.
    pub min_priority: Option<Priority>,
}

impl Filter {
    /// Bytes of its lists.
    pub(crate) fn bytes(&self) -> usize {
        let Filter { sessions, traces, jobs, streams, types, min_priority: _ } = self;
        [sessions, traces, jobs, streams, types].into_iter().flatten().map(String::len).sum()
    }
}

/// A wish for frames that were sent before (RFC §19).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The last message that its client has; `None`: all that is kept.
    pub after: Option<WireId>,
    /// The last checkpoint that its client has: what came after it of all jobs. With a
    /// message as well, the later of both counts.
    pub checkpoint: Option<WireId>,
    /// Whether the messages that opened streams still open come first.
    pub open_streams: bool,
}

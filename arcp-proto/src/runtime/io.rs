//! What goes into a runtime and what comes out of it.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::entropy::Seeds;
use crate::id::{CallId, ConnId, JobId, LogPos, OpId, Principal, SessionId, WireId};
use crate::json::Json;
use crate::lease::Ceiling;
use crate::model::agent::{AgentEntry, AgentRef};
use crate::model::artifact::BlobDigest;
use crate::model::credential::{CredentialOrder, Issuance, ProvisionedCredential, Revocation};
use crate::model::feature::Features;
use crate::model::handoff::{HandoffAnswer, HandoffOrder};
use crate::model::request::{Credential, Extension, HandshakeRequest, Request, ResumeClaim};
use crate::model::schedule::{Plan, PlanFault, Rule};
use crate::policy::Roles;
use crate::scope::Scopes;
use crate::secret::SecretDigest;
use crate::time::UtcMs;
use crate::wire::envelope::Header;
use crate::wire::{self, Family};

pub use super::agent_io::{AgentCall, AgentExit, AgentReply, ChildEnd, Remaining};
pub use super::blob_io::{BlobRange, PartsStep};
pub use super::close_reason::CloseReason;
pub use super::input_fault::InputFault;
pub(super) use super::input_fault::LONGEST_CHECK;
pub use super::notice::Notice;
pub use super::numbered::{AboutJob, LocalFrame, LocalWord, Numbered, NumberedRun, Shown};
pub use super::operator::Operator;
use super::prompt_records::OpenInterrupt;
pub use super::records::{
    ArtifactRecord, DepartureRecord, DepartureTerms, EventRecord, JobBounds, JobRecord, KeyRecord, ParentRecord, Record,
};
pub use super::schedule_records::{Firing, ScheduleRecord, ScheduleState};
pub use super::stream_io::{ChunkData, INBOUND, OpenedStream, StreamCall, StreamWord};
pub use super::timers::{Deadline, Timer};
pub use super::workflow_records::{StepRecord, StepState};

/// Something that happened outside.
///
/// Ids nobody knows, and completions that come early, late or twice, change
/// nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// A connection is open.
    Opened {
        /// Its number; never used before.
        conn: ConnId,
        /// What carries it.
        transport: Transport,
        /// Where its peer is, if that is known: peers without a credential
        /// share their bounds by it.
        #[serde(default)]
        address: Option<IpAddr>,
        /// What the channel proves by itself, such as the fingerprint of its
        /// peer's certificate, or `uid:` and the number of its peer's user on this
        /// machine: a credential that is bound to something else vouches for nobody,
        /// and one that is bound to nothing goes before whom the transport vouches for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        binding: Option<String>,
        /// Who the transport itself vouches for, if it does, and until when.
        peer: Option<Verdict>,
    },
    /// A connection comes from an [`Edge`](super::Edge), instead of
    /// [`Opened`](Self::Opened): its peer is known.
    HandedOver(Box<HandOver>),
    /// One whole frame arrived: a text message, or a line.
    Received {
        /// The connection.
        conn: ConnId,
        /// The bytes, unchecked.
        #[serde(with = "crate::record::frame_text")]
        frame: Vec<u8>,
    },
    /// A binary message arrived: bytes that a frame announced (RFC §11.3), or a frame
    /// in UTF-8.
    ReceivedBinary {
        /// The connection.
        conn: ConnId,
        /// The message, unchecked.
        #[serde(with = "crate::record::frame_text")]
        message: Vec<u8>,
    },
    /// A frame arrived that is longer than what may be taken at present; the
    /// transport did not keep it.
    TooLong {
        /// The connection.
        conn: ConnId,
    },
    /// The writer of a connection can take more.
    Credit {
        /// The connection.
        conn: ConnId,
        /// Bytes more.
        bytes: u32,
        /// Frames more.
        frames: u32,
    },
    /// A connection is gone.
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// A credential was judged.
    Authenticated {
        /// The operation.
        op: OpId,
        /// Who it is; `None`: nobody.
        #[serde(default, alias = "principal")]
        verdict: Option<Verdict>,
    },
    /// A credential was judged that came to the host by no connection of the runtime,
    /// such as over HTTP: wrong ones count for where they came from, as those of
    /// connections do. [`may_judge`](super::may_judge) comes before.
    JudgedElsewhere {
        /// Where it came from.
        address: IpAddr,
        /// Which it was.
        credential: SecretDigest,
        /// Whether it is somebody's.
        counts: bool,
    },
    /// Every batch that ends here or before is durable.
    Persisted {
        /// The last durable position.
        up_to: LogPos,
    },
    /// Batches from here on could not be written. They are asked for again.
    PersistFailed {
        /// The first position that is not durable.
        from: LogPos,
    },
    /// An agent says something.
    Agent {
        /// Its job.
        job: JobId,
        /// What it says.
        call: AgentCall,
    },
    /// An agent says several things, one after the other, of which each costs and does
    /// what [`Agent`](Self::Agent) would: they become durable together.
    AgentSays {
        /// Its job.
        job: JobId,
        /// What it says.
        calls: Vec<AgentCall>,
    },
    /// An agent says or asks something and wants to know what becomes of it. It
    /// gets exactly one [`Output::AgentReply`] with this id, unless it exits
    /// first.
    AgentAsked {
        /// Its job.
        job: JobId,
        /// What the answer is known by.
        id: CallId,
        /// What it says or asks.
        call: AgentCall,
    },
    /// An agent is done, or gone. The last input about a job.
    AgentExited {
        /// Its job.
        job: JobId,
        /// How.
        exit: AgentExit,
    },
    /// Events that were asked for, in order, from the first of them on: all
    /// of them, or as many as could be had at once.
    Loaded {
        /// The operation.
        op: OpId,
        /// The events; `None` if the store failed.
        events: Option<Vec<EventRecord>>,
    },
    /// The host has taken the oldest message of an extension that it was given
    /// of a session.
    ExtensionTaken {
        /// The session.
        session: SessionId,
    },
    /// The application has a message of an extension for a client. It is sent
    /// once and not kept, without a number, and passes by what waits for the
    /// store. A session that has no connection, that did not agree to the
    /// extension, or whose answers have reached
    /// [`ConnectionLimits::replies_per_connection`] or
    /// [`ConnectionLimits::reply_bytes_per_connection`] does not get it:
    /// [`Notice::ExtensionDropped`]. The hello family has no such messages.
    ///
    /// [`ConnectionLimits::replies_per_connection`]: crate::limits::ConnectionLimits::replies_per_connection
    /// [`ConnectionLimits::reply_bytes_per_connection`]: crate::limits::ConnectionLimits::reply_bytes_per_connection
    SendExtension {
        /// The session.
        session: SessionId,
        /// The message; its type is in a namespace of
        /// [`Config::extensions`](super::Config::extensions).
        message: Extension,
    },
    /// The operator wants something.
    Operator(Operator),
    /// An input was checked.
    InputChecked {
        /// The operation.
        op: OpId,
        /// What does not fit; `None`: nothing.
        fault: Option<InputFault>,
    },
    /// The provisioner has issued credentials, or has not.
    CredentialsIssued {
        /// The operation.
        op: OpId,
        /// What it has done.
        issuance: Issuance,
    },
    /// The provisioner has revoked what it was asked to, or could not.
    CredentialsRevoked {
        /// The operation.
        op: OpId,
        /// Whether none of it counts any more.
        done: bool,
    },
    /// Another runtime that was asked to take a job has answered, or has not.
    HandedOff {
        /// The operation.
        op: OpId,
        /// What became of it.
        answer: HandoffAnswer,
    },
    /// The host has stored bytes, or could not.
    BlobStored {
        /// The operation.
        op: OpId,
        /// Whether no crash takes them back.
        stored: bool,
    },
    /// The host has read bytes.
    BlobRead {
        /// The operation.
        op: OpId,
        /// The bytes; `None`: they are not there, or cannot be read.
        #[serde(default, with = "crate::record::maybe_text")]
        bytes: Option<Vec<u8>>,
    },
    /// The host has found the times of a schedule.
    SchedulePlanned {
        /// The operation.
        op: OpId,
        /// The times, or why they are not known.
        plan: Result<Plan, PlanFault>,
    },
    /// The host hosts these agents from now on. Jobs that are accepted stay as
    /// they are; which of them may start is looked at anew. What could not stand
    /// in a [`Config`](super::Config) changes nothing.
    Agents {
        /// The agents.
        agents: Vec<AgentEntry>,
        /// Those that can go on from their last checkpoint, by name.
        restartable: BTreeSet<String>,
    },
    /// Fresh randomness; mixed in.
    Reseed(Seeds),
    /// Nobody can tell now whose a credential is: it counts for nothing, and neither does
    /// it count as a wrong one.
    NotJudged {
        /// The operation.
        op: OpId,
    },
    /// A record that the store kept from an earlier run, in the order of the
    /// positions; before everything else.
    Restore {
        /// Its position.
        at: LogPos,
        /// The record.
        record: Record,
    },
    /// The store had no more.
    Restored {
        /// The last position it ever committed.
        last: LogPos,
    },
    /// Time has passed, and everything was handed over that had arrived by then.
    Tick,
}

/// A connection on its way from an [`Edge`](super::Edge) to a runtime: the frame
/// that it opened with, and what was found out about its peer.
///
/// The runtime takes its word for it. Without a verdict that counts at that
/// time it judges the credential of the frame itself.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct HandOver {
    /// The connection; the same number to the edge and the runtime.
    pub conn: ConnId,
    /// What carries it.
    pub transport: Transport,
    /// Where its peer is, if that is known.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// Who the transport itself vouches for, if it does, and until when.
    #[serde(default)]
    pub peer: Option<Verdict>,
    /// What the channel proves by itself.
    #[serde(default)]
    pub binding: Option<String>,
    /// The frame that it opened with; it may hold a credential or a token.
    #[serde(with = "crate::record::frame_text")]
    pub frame: Vec<u8>,
    /// The request that is answered: that of the frame, or of the proof that
    /// was asked for.
    pub request: WireId,
    /// Who its peer is; `None`: nobody vouches for it.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// The nonce that its peer was challenged with.
    #[serde(default)]
    pub nonce: Option<String>,
    /// Proofs of it that were not accepted.
    #[serde(default)]
    pub failures: u8,
    /// What may be written to it without more [`Input::Credit`].
    #[serde(default)]
    pub credit: Credit,
}

/// How much may be written to a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// Bytes; less than nothing where the last frame was larger than what was
    /// left.
    pub bytes: i64,
    /// Frames.
    pub frames: u32,
}

impl HandOver {
    /// Who its peer is; `None`: nobody vouches for it.
    pub fn principal(&self) -> Option<&Principal> {
        self.verdict.as_ref().map(|verdict| &verdict.principal)
    }

    /// The earlier session that its peer opens with the wish to have back: who
    /// has no principal is told apart by its token.
    pub fn resumes(&self) -> Option<ResumeClaim> {
        let header = Header::read(core::str::from_utf8(&self.frame).ok()?).ok()?;
        match wire::read_request(Family::from_first(&header)?, &header).ok()?.request {
            Request::Handshake(HandshakeRequest::Open(open)) => open.resume,
            Request::Handshake(HandshakeRequest::Resume(claim)) => Some(claim),
            Request::Handshake(HandshakeRequest::Authenticate(_)) | Request::Session(_) | Request::Command(_) => None,
        }
    }
}

/// Shows no frame: it may hold a credential.
impl fmt::Debug for HandOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HandOver { conn, transport, address, request, verdict, .. } = self;
        let mut shown = f.debug_struct("HandOver");
        shown.field("conn", conn).field("transport", transport).field("address", address);
        shown.field("request", request).field("verdict", verdict).finish_non_exhaustive()
    }
}

/// Whom an authenticator vouches for.
///
/// ```
/// use arcp_proto::{id::Principal, runtime::Verdict, time::UtcMs};
/// let alice = Principal::new("alice").unwrap();
/// let verdict = Verdict { expires_at: Some(UtcMs(1_800_000_000_000)), ..Verdict::from(alice) };
/// assert_eq!(verdict.principal.to_string(), "alice");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredVerdict")]
pub struct Verdict {
    /// Who it is.
    pub principal: Principal,
    /// What the credential may be used for.
    #[serde(skip_serializing_if = "Scopes::is_empty")]
    pub scopes: Scopes,
    /// What it says of its holder for [policy](crate::policy::Policy): what an issuer
    /// says counts as far as that lets it.
    #[serde(skip_serializing_if = "Roles::is_empty")]
    pub roles: Roles,
    /// When the credential expires; `None`: never. A session that is not
    /// refreshed by then, or resumed, is taken from its client. One that is
    /// over already vouches for nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UtcMs>,
    /// What the credential is bound to, such as the fingerprint of a
    /// certificate: it counts only on a channel that
    /// [says the same](Input::Opened::binding).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// The most that leases grant which are asked for with the credential, and that
    /// permissions do; `None`: it bounds nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Box<Ceiling>>,
    /// The most that a session agrees to use; `None`: it bounds nothing. A session that
    /// uses more is not renewed by the credential, and nobody comes back to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
}

impl From<Principal> for Verdict {
    fn from(principal: Principal) -> Verdict {
        let (scopes, roles) = Default::default();
        Verdict { principal, scopes, roles, expires_at: None, binding: None, ceiling: None, features: None }
    }
}

/// A verdict as recordings have it: earlier ones held the principal alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredVerdict {
    Alone(Principal),
    Whole {
        principal: Principal,
        #[serde(default)]
        scopes: Scopes,
        #[serde(default)]
        roles: Roles,
        #[serde(default)]
        expires_at: Option<UtcMs>,
        #[serde(default)]
        binding: Option<String>,
        #[serde(default)]
        ceiling: Option<Box<Ceiling>>,
        #[serde(default)]
        features: Option<Features>,
    },
}

impl From<StoredVerdict> for Verdict {
    fn from(stored: StoredVerdict) -> Verdict {
        match stored {
            StoredVerdict::Alone(principal) => Verdict::from(principal),
            StoredVerdict::Whole { principal, scopes, roles, expires_at, binding, ceiling, features } => {
                Verdict { principal, scopes, roles, expires_at, binding, ceiling, features }
            }
        }
    }
}

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// A message each.
    WebSocket,
    /// A line each.
    Lines,
    /// A line each, with binary messages beside them.
    LinesBeside,
}

/// Something to be done outside, in the order given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// Write one frame.
    Send {
        /// The connection.
        conn: ConnId,
        /// The frame, valid JSON text without a line end.
        frame: String,
    },
    /// Write one binary message: the bytes that the frame before it announces. Not on
    /// [`Transport::Lines`].
    SendSidecar {
        /// The connection.
        conn: ConnId,
        /// The message.
        #[serde(with = "crate::record::frame_text")]
        message: Vec<u8>,
    },
    /// Close after writing what was given before.
    Close {
        /// The connection; the core has forgotten it.
        conn: ConnId,
        /// Why.
        reason: CloseReason,
    },
    /// Its peer is known: frames up to [`crate::limits::FrameLimits::frame_bytes`]
    /// may be taken from it, no longer only those of a handshake.
    #[serde(alias = "Admit")]
    RaiseFrameLimit {
        /// The connection.
        conn: ConnId,
    },
    /// Its peer reads WebSocket frames of at most this many bytes: longer
    /// messages go to it in fragments.
    Fragment {
        /// The connection.
        conn: ConnId,
        /// The bytes of one fragment.
        bytes: usize,
    },
    /// Stop reading from a connection.
    PauseRead {
        /// The connection.
        conn: ConnId,
    },
    /// Read from it again.
    ResumeRead {
        /// The connection.
        conn: ConnId,
    },
    /// Judge a credential; answer with [`Input::Authenticated`], or [`Input::NotJudged`] if
    /// nobody can tell.
    Authenticate {
        /// The operation.
        op: OpId,
        /// The connection it is for.
        conn: ConnId,
        /// The credential.
        credential: Credential,
        /// The challenge it answers, if one was sent.
        challenge: Option<String>,
    },
    /// Check whether an input fits its agent; answer with
    /// [`Input::InputChecked`]. Whoever waits for longer than two seconds is
    /// refused; until then nothing more is read from that connection, or heard of that agent. The check
    /// counts for [`JobLimits::input_checks`] until it is answered, also when nobody
    /// waits for it any more.
    ///
    /// [`JobLimits::input_checks`]: crate::limits::JobLimits::input_checks
    CheckInput {
        /// The operation.
        op: OpId,
        /// The agent, resolved.
        agent: AgentRef,
        /// Its input as sent; `{}` when there was none.
        input: Json,
    },
    /// Store bytes, so that no crash takes them back; answer with
    /// [`Input::BlobStored`]. Bytes with this digest may be there already.
    StoreBlob {
        /// The operation.
        op: OpId,
        /// What they are known by: their SHA-256.
        digest: BlobDigest,
        /// The bytes.
        #[serde(with = "crate::record::frame_text")]
        bytes: Vec<u8>,
    },
    /// Store bytes that an agent has offered with a call, so that no crash takes them
    /// back; answer with [`Input::BlobStored`].
    TakeBlob {
        /// The operation.
        op: OpId,
        /// The job of the agent.
        job: JobId,
        /// The call.
        call: CallId,
        /// What they are known by: if theirs is another SHA-256, they are not stored.
        digest: BlobDigest,
        /// How many they are.
        size: u64,
    },
    /// Read bytes that were stored; answer with [`Input::BlobRead`].
    ReadBlob {
        /// The operation.
        op: OpId,
        /// What they are known by.
        digest: BlobDigest,
        /// Which of them; `None`: all. There may be fewer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        range: Option<BlobRange>,
    },
    /// Do something with bytes that come in parts.
    Parts(PartsStep),
    /// Nothing refers to these bytes any more.
    DropBlob {
        /// What they are known by.
        digest: BlobDigest,
    },
    /// Of what an earlier run has stored only these bytes are referred to.
    KeepBlobs {
        /// What they are known by.
        digests: Vec<BlobDigest>,
    },
    /// Find the times of a schedule, with a bound on the effort that a rule may take;
    /// answer with [`Input::SchedulePlanned`].
    PlanSchedule {
        /// The operation.
        op: OpId,
        /// The rule.
        rule: Rule,
        /// No times up to this one.
        after: UtcMs,
        /// What time it is: a rule that does not say so begins then.
        now: UtcMs,
        /// How many of those that have been by now are wanted: the latest.
        missed: usize,
        /// How many of those to come are wanted.
        coming: usize,
        /// The last of all, of a rule that counts them, as an earlier plan said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ends: Option<UtcMs>,
    },
    /// Check whether a text is a JSON Schema, and whether a value fits it, which is an
    /// answer to a question or the default of one; answer with
    /// [`Input::InputChecked`]. Whoever waits for longer than two seconds is refused.
    CheckValue {
        /// The operation.
        op: OpId,
        /// The schema, of draft 2020-12.
        schema: Json,
        /// The value; `None`: the schema alone.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::present")]
        value: Option<Json>,
    },
    /// Have credentials issued for a job that is to be accepted; answer with
    /// [`Input::CredentialsIssued`]. Whoever asks for the job waits no longer than
    /// [`Timing::provision_timeout`](super::Timing::provision_timeout).
    IssueCredentials {
        /// The operation.
        op: OpId,
        /// What for.
        order: Box<CredentialOrder>,
    },
    /// Have credentials of a job revoked; answer with [`Input::CredentialsRevoked`].
    /// What does not count any more, or never did, is revoked.
    RevokeCredentials {
        /// The operation.
        op: OpId,
        /// The job that they were issued for, in this run of the runtime or an
        /// earlier one.
        job: JobId,
        /// Which of them.
        what: Revocation,
    },
    /// Ask another runtime to take a job; answer with [`Input::HandedOff`]. After
    /// [`Handoffs::timeout`](super::Handoffs::timeout) it is asked again.
    HandOff {
        /// The operation.
        op: OpId,
        /// Which runtime, and what to ask of it.
        order: Box<HandoffOrder>,
    },
    /// Make a batch durable, whole or not at all; answer with
    /// [`Input::Persisted`]. Batches come in the order of their positions and
    /// are committed in it.
    Persist(Batch),
    /// Read events of a job back; answer with [`Input::Loaded`]. They were
    /// made durable before.
    Load {
        /// The operation.
        op: OpId,
        /// The job.
        job: JobId,
        /// The first event.
        from: u64,
        /// The last one.
        to: u64,
        /// Bytes after which there may be fewer, but one in any case.
        bytes: usize,
    },
    /// Run an agent; answer with [`Input::AgentExited`] in the end.
    StartAgent {
        /// Its job.
        job: JobId,
        /// What to run.
        spec: Box<AgentSpec>,
    },
    /// Tell an agent to stop; with `force`, make it.
    StopAgent {
        /// Its job.
        job: JobId,
        /// Whether asking was not enough.
        force: bool,
    },
    /// An agent may make this many more calls.
    AgentCredit {
        /// Its job.
        job: JobId,
        /// Calls more.
        calls: u32,
        /// Bytes more.
        bytes: u64,
    },
    /// What became of a call that an agent wanted to know about.
    AgentReply {
        /// Its job.
        job: JobId,
        /// The call.
        id: CallId,
        /// What became of it.
        reply: AgentReply,
    },
    /// People say something to an agent that observes interrupts; its job is blocked
    /// until it calls [`AgentCall::GoOn`]. One that is started again is told once more
    /// what it has not gone on from.
    InterruptAgent {
        /// Its job.
        job: JobId,
        /// What they say.
        interrupt: OpenInterrupt,
    },
    /// Something happened to a stream of an agent's job.
    AgentStream {
        /// Its job.
        job: JobId,
        /// What it knows the stream by.
        stream: u32,
        /// What happened.
        says: StreamWord,
    },
    /// Somebody asks for a checkpoint of a job: its agent, which gives some on request,
    /// calls [`AgentCall::Checkpoint`]. What it calls before it has heard of that counts
    /// as well; several that are asked for may be given at once.
    AskCheckpoint {
        /// Its job.
        job: JobId,
        /// What it is to be called, if whoever asks says so.
        label: Option<String>,
    },
    /// A client sent a message of an extension that was negotiated with it;
    /// answer with [`Input::ExtensionTaken`]. Until then it counts against
    /// [`crate::limits::SessionLimits::extension_bytes`].
    Extension {
        /// Its session.
        session: SessionId,
        /// The message.
        message: Extension,
    },
    /// Something an operator may want to know.
    Observe(Notice),
}

/// What one input appended to the log: it is durable whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The position of its first record; the others follow without a gap.
    pub first: LogPos,
    /// Its records, one or more. The core holds them too until they are durable.
    pub records: Arc<Vec<Record>>,
}

impl Batch {
    /// The position of its last record.
    pub fn last(&self) -> LogPos {
        LogPos((self.first.0 + self.records.len() as u64).saturating_sub(1))
    }

    /// Its records, each with its position.
    pub fn entries(&self) -> impl Iterator<Item = (LogPos, &Record)> {
        (self.first.0..).map(LogPos).zip(self.records.iter())
    }
}

/// What an agent is run with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// The agent, resolved.
    pub agent: AgentRef,
    /// Its input as sent; `{}` when there was none.
    pub input: Json,
    /// On whose behalf.
    pub principal: Principal,
    /// The trace of the job.
    pub trace: String,
    /// Whether the client's tracer says that it does not record that trace.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub unsampled: bool,
    /// Members of extensions, as the client sent them; `{}` when none.
    pub extensions: Json,
    /// How many calls it may make before it gets more credit.
    pub credit: u32,
    /// Bytes of calls it may make before it gets more credit.
    pub credit_bytes: u64,
    /// The state that it left in its last checkpoint, if it runs again.
    #[serde(with = "crate::record::maybe_text")]
    pub checkpoint: Option<Vec<u8>>,
    /// How often it was started before.
    pub restarts: u32,
    /// What the job may do; `{}` when nothing was asked for.
    #[serde(default = "Json::empty_object", skip_serializing_if = "grants_nothing")]
    pub lease: Json,
    /// Credentials that were issued for the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<ProvisionedCredential>,
    /// Bytes that an artifact of it may have; none: it can leave none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub artifact_bytes: u64,
}

fn is_none(bytes: &u64) -> bool {
    *bytes == 0
}

/// As of every agent in recordings that knew no leases.
fn grants_nothing(lease: &Json) -> bool {
    lease.is_empty_object()
}

//! The inputs and outputs of a runtime.

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

/// Something that happened outside the runtime.
///
/// Unknown ids, and answers that come early, late or twice, change
/// nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// A connection was opened.
    Opened {
        /// The id of the connection; never used before.
        conn: ConnId,
        /// How it carries frames.
        transport: Transport,
        /// The address of its peer, if known: peers without a credential from one
        /// network share their bounds.
        #[serde(default)]
        address: Option<IpAddr>,
        /// What the channel itself proves, such as the fingerprint of the peer's
        /// certificate, or `uid:` and the number of the peer's user on this machine.
        /// A credential that is bound to anything else does not count. A credential that
        /// is bound to nothing takes precedence over `peer`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        binding: Option<String>,
        /// The principal that the transport itself vouches for, if any, and until when.
        peer: Option<Verdict>,
    },
    /// A connection comes from an [`Edge`](super::Edge), which already knows its peer.
    /// Takes the place of [`Opened`](Self::Opened).
    HandedOver(Box<HandOver>),
    /// One whole frame arrived: a text message of a WebSocket, or a line.
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
    /// A frame arrived that is longer than the connection may send at present; the
    /// transport dropped it.
    TooLong {
        /// The connection.
        conn: ConnId,
    },
    /// The writer of a connection can take more.
    Credit {
        /// The connection.
        conn: ConnId,
        /// Additional bytes.
        bytes: u32,
        /// Additional frames.
        frames: u32,
    },
    /// A connection was closed, or lost.
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// The host has judged a credential.
    Authenticated {
        /// The operation.
        op: OpId,
        /// The principal that it proves; `None`: the credential is wrong.
        #[serde(default, alias = "principal")]
        verdict: Option<Verdict>,
    },
    /// The host has judged a credential that did not come by a connection of the runtime,
    /// such as one over HTTP. A wrong one counts against the address that it came from, as
    /// wrong ones of connections do. Ask [`may_judge`](super::may_judge) first.
    JudgedElsewhere {
        /// The address that it came from.
        address: IpAddr,
        /// Its digest.
        credential: SecretDigest,
        /// Whether it is valid.
        counts: bool,
    },
    /// Every batch that ends at or before a position is durable.
    Persisted {
        /// The last durable position.
        up_to: LogPos,
    },
    /// Batches from a position on could not be written. The runtime asks for them again.
    PersistFailed {
        /// The first position that is not durable.
        from: LogPos,
    },
    /// An agent makes a call.
    Agent {
        /// Its job.
        job: JobId,
        /// The call.
        call: AgentCall,
    },
    /// An agent makes several calls, in order. Each costs and does what it would in
    /// [`Agent`](Self::Agent), but they become durable together.
    AgentSays {
        /// Its job.
        job: JobId,
        /// The calls.
        calls: Vec<AgentCall>,
    },
    /// An agent makes a call and wants to know its outcome. It gets exactly one
    /// [`Output::AgentReply`] with this id, unless it exits first.
    AgentAsked {
        /// Its job.
        job: JobId,
        /// The id that the reply will have.
        id: CallId,
        /// The call.
        call: AgentCall,
    },
    /// An agent has exited, or is lost. The last input about its run.
    AgentExited {
        /// Its job.
        job: JobId,
        /// How it exited.
        exit: AgentExit,
    },
    /// Events that [`Output::Load`] asked for, in order, from the first on: all
    /// of them, or as many as the store could give at once.
    Loaded {
        /// The operation.
        op: OpId,
        /// The events; `None` if the store failed.
        events: Option<Vec<EventRecord>>,
    },
    /// The host has taken the oldest message of an extension that the runtime gave it
    /// for a session.
    ExtensionTaken {
        /// The session.
        session: SessionId,
    },
    /// The application sends a message of an extension to a client. It is sent
    /// once, has no number, is not kept, and does not wait for the
    /// store. It is dropped if the session has no connection or did not agree to the
    /// extension, or if the answers waiting for its connection have reached
    /// [`ConnectionLimits::replies_per_connection`] or
    /// [`ConnectionLimits::reply_bytes_per_connection`]: see
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
    /// The operator asks for something.
    Operator(Operator),
    /// The host has checked an input or a value.
    InputChecked {
        /// The operation.
        op: OpId,
        /// What does not fit; `None`: it fits.
        fault: Option<InputFault>,
    },
    /// The provisioner has issued credentials, or has failed to.
    CredentialsIssued {
        /// The operation.
        op: OpId,
        /// The outcome.
        issuance: Issuance,
    },
    /// The provisioner has revoked the credentials, or could not.
    CredentialsRevoked {
        /// The operation.
        op: OpId,
        /// Whether all of them are revoked.
        done: bool,
    },
    /// Another runtime that was asked to take a job has answered, or has not.
    HandedOff {
        /// The operation.
        op: OpId,
        /// The outcome.
        answer: HandoffAnswer,
    },
    /// The host has stored bytes, or could not.
    BlobStored {
        /// The operation.
        op: OpId,
        /// Whether they are stored, so that no crash takes them back.
        stored: bool,
    },
    /// The host has read bytes, or could not.
    BlobRead {
        /// The operation.
        op: OpId,
        /// The bytes; `None`: they do not exist, or cannot be read.
        #[serde(default, with = "crate::record::maybe_text")]
        bytes: Option<Vec<u8>>,
    },
    /// The host has found the times of a schedule.
    SchedulePlanned {
        /// The operation.
        op: OpId,
        /// The times, or why there are none.
        plan: Result<Plan, PlanFault>,
    },
    /// The host offers these agents from this input on. Accepted jobs stay as
    /// they are; the runtime decides anew which of them may start. A list that would
    /// not be valid in a [`Config`](super::Config) changes nothing.
    Agents {
        /// The agents.
        agents: Vec<AgentEntry>,
        /// The names of those that can go on from their last checkpoint.
        restartable: BTreeSet<String>,
    },
    /// Fresh randomness, to be mixed into that of the runtime.
    Reseed(Seeds),
    /// The host cannot tell at present whose a credential is. It is not accepted, and
    /// does not count as a wrong one either.
    NotJudged {
        /// The operation.
        op: OpId,
    },
    /// A record that the store kept from an earlier run. These come in the order of their
    /// positions, before all other inputs.
    Restore {
        /// Its position.
        at: LogPos,
        /// The record.
        record: Record,
    },
    /// The store has no more records.
    Restored {
        /// The last position that it ever committed.
        last: LogPos,
    },
    /// Time has passed, and everything was handed over that had arrived until then.
    Tick,
}

/// A connection that an [`Edge`](super::Edge) hands to a runtime: the frame
/// that opened it, and what the edge learned about its peer.
///
/// The runtime trusts the edge. If there is no verdict, or it has expired by then, the
/// runtime has the credential of the frame judged itself.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct HandOver {
    /// The connection; edge and runtime use the same id.
    pub conn: ConnId,
    /// How it carries frames.
    pub transport: Transport,
    /// The address of its peer, if known.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// The principal that the transport itself vouches for, if any, and until when.
    #[serde(default)]
    pub peer: Option<Verdict>,
    /// What the channel itself proves.
    #[serde(default)]
    pub binding: Option<String>,
    /// The frame that opened it; it may hold a credential or a token.
    #[serde(with = "crate::record::frame_text")]
    pub frame: Vec<u8>,
    /// The request to answer: that of the frame, or of the proof that
    /// the edge asked for.
    pub request: WireId,
    /// Who its peer is; `None`: it has no credential.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// The nonce of the challenge that the edge sent to its peer.
    #[serde(default)]
    pub nonce: Option<String>,
    /// Number of its proofs that were wrong.
    #[serde(default)]
    pub failures: u8,
    /// What may be written to it before more [`Input::Credit`].
    #[serde(default)]
    pub credit: Credit,
}

/// How much may be written to a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// Bytes; negative if the last frame was larger than the credit that was
    /// left.
    pub bytes: i64,
    /// Frames.
    pub frames: u32,
}

impl HandOver {
    /// The principal of its peer; `None`: it has no credential.
    pub fn principal(&self) -> Option<&Principal> {
        self.verdict.as_ref().map(|verdict| &verdict.principal)
    }

    /// The earlier session that its peer asks to resume: a peer without a
    /// principal is identified by the token of that session.
    pub fn resumes(&self) -> Option<ResumeClaim> {
        let header = Header::read(core::str::from_utf8(&self.frame).ok()?).ok()?;
        match wire::read_request(Family::from_first(&header)?, &header).ok()?.request {
            Request::Handshake(HandshakeRequest::Open(open)) => open.resume,
            Request::Handshake(HandshakeRequest::Resume(claim)) => Some(claim),
            Request::Handshake(HandshakeRequest::Authenticate(_)) | Request::Session(_) | Request::Command(_) => None,
        }
    }
}

/// Leaves the frame out: it may hold a credential.
impl fmt::Debug for HandOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HandOver { conn, transport, address, request, verdict, .. } = self;
        let mut shown = f.debug_struct("HandOver");
        shown.field("conn", conn).field("transport", transport).field("address", address);
        shown.field("request", request).field("verdict", verdict).finish_non_exhaustive()
    }
}

/// What an authenticator says of a credential: its principal, and what bounds it.
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
    /// The principal that the credential proves.
    pub principal: Principal,
    /// The operations that the credential may be used for.
    #[serde(skip_serializing_if = "Scopes::is_empty")]
    pub scopes: Scopes,
    /// The roles of the principal for [policy](crate::policy::Policy). What an issuer
    /// says counts only as far as the policy lets that issuer.
    #[serde(skip_serializing_if = "Roles::is_empty")]
    pub roles: Roles,
    /// When the credential expires; `None`: never. A session that its client has
    /// neither renewed nor resumed by then is taken from it. A credential that has
    /// expired already proves nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UtcMs>,
    /// What the credential is bound to, such as the fingerprint of a
    /// certificate: it counts only on a channel with the
    /// [same binding](Input::Opened::binding).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// The most that leases may grant that are requested with the credential, and that
    /// permissions may; `None`: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Box<Ceiling>>,
    /// The features that a session may use at most; `None`: no bound. A session that
    /// uses more cannot be renewed or resumed with the credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
}

impl From<Principal> for Verdict {
    fn from(principal: Principal) -> Verdict {
        let (scopes, roles) = Default::default();
        Verdict { principal, scopes, roles, expires_at: None, binding: None, ceiling: None, features: None }
    }
}

/// A verdict as recordings have it: early ones hold the principal alone.
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

/// How a connection carries frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// One frame per message.
    WebSocket,
    /// One frame per line.
    Lines,
    /// One frame per line, with binary messages beside them.
    LinesBeside,
}

/// Something for the driver to do, in the order given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// Write one frame.
    Send {
        /// The connection.
        conn: ConnId,
        /// The frame, valid JSON text without a line end.
        frame: String,
    },
    /// Write one binary message: the bytes that the frame before it announced. Never on
    /// [`Transport::Lines`].
    SendSidecar {
        /// The connection.
        conn: ConnId,
        /// The message.
        #[serde(with = "crate::record::frame_text")]
        message: Vec<u8>,
    },
    /// Close a connection, after everything given before is written.
    Close {
        /// The connection; the core has forgotten it.
        conn: ConnId,
        /// The reason.
        reason: CloseReason,
    },
    /// The peer of a connection is known: accept frames of up to
    /// [`crate::limits::FrameLimits::frame_bytes`] from it, not only short ones.
    #[serde(alias = "Admit")]
    RaiseFrameLimit {
        /// The connection.
        conn: ConnId,
    },
    /// The peer of a connection reads WebSocket frames of at most this many bytes: send
    /// longer messages to it in fragments.
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
    /// Read from a connection again.
    ResumeRead {
        /// The connection.
        conn: ConnId,
    },
    /// Judge a credential; answer with [`Input::Authenticated`], or [`Input::NotJudged`] if
    /// that is impossible at present.
    Authenticate {
        /// The operation.
        op: OpId,
        /// The connection it is for.
        conn: ConnId,
        /// The credential.
        credential: Credential,
        /// The nonce of the challenge that it answers, if one was sent.
        challenge: Option<String>,
    },
    /// Check whether an input fits its agent; answer with
    /// [`Input::InputChecked`]. After two seconds without an answer the runtime refuses the submit
    /// or the delegation. Until then it reads no more from that connection, and handles no more calls
    /// of that agent. The check counts towards [`JobLimits::input_checks`] until it is answered, even if the
    /// submit was refused.
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
    /// [`Input::BlobStored`]. Bytes with this digest may exist already.
    StoreBlob {
        /// The operation.
        op: OpId,
        /// Their SHA-256, which identifies them.
        digest: BlobDigest,
        /// The bytes.
        #[serde(with = "crate::record::frame_text")]
        bytes: Vec<u8>,
    },
    /// Store bytes that an agent offered with a call, so that no crash takes them
    /// back; answer with [`Input::BlobStored`].
    TakeBlob {
        /// The operation.
        op: OpId,
        /// The job of the agent.
        job: JobId,
        /// The id of the call.
        call: CallId,
        /// Their SHA-256. Bytes with another digest are not stored.
        digest: BlobDigest,
        /// Their number.
        size: u64,
    },
    /// Read stored bytes; answer with [`Input::BlobRead`].
    ReadBlob {
        /// The operation.
        op: OpId,
        /// The SHA-256 of the whole.
        digest: BlobDigest,
        /// The range to read; `None`: all bytes. There may be fewer than it asks for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        range: Option<BlobRange>,
    },
    /// Handle bytes that arrive in parts.
    Parts(PartsStep),
    /// Delete bytes that nothing refers to.
    DropBlob {
        /// Their SHA-256.
        digest: BlobDigest,
    },
    /// Delete all bytes of earlier runs but these: nothing refers to the others.
    KeepBlobs {
        /// The SHA-256 of each.
        digests: Vec<BlobDigest>,
    },
    /// Find the times of a schedule, within a bound on the work that a rule may cost;
    /// answer with [`Input::SchedulePlanned`].
    PlanSchedule {
        /// The operation.
        op: OpId,
        /// The rule.
        rule: Rule,
        /// Find times after this one only.
        after: UtcMs,
        /// The current time. A rule without a start begins then.
        now: UtcMs,
        /// How many times are wanted that lie between `after` and `now`: the latest ones.
        missed: usize,
        /// How many times after `now` are wanted.
        coming: usize,
        /// The last time of a rule with a count, as an earlier plan gave it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ends: Option<UtcMs>,
    },
    /// Check whether a text is a JSON Schema, and whether a value fits it. The value is an
    /// answer to a question, or its default. Answer with
    /// [`Input::InputChecked`]; after two seconds without one the runtime refuses the request.
    CheckValue {
        /// The operation.
        op: OpId,
        /// The schema, of draft 2020-12.
        schema: Json,
        /// The value; `None`: check the schema alone.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::present")]
        value: Option<Json>,
    },
    /// Have credentials issued for a job that is about to be accepted; answer with
    /// [`Input::CredentialsIssued`]. The request for the job waits at most
    /// [`Timing::provision_timeout`](super::Timing::provision_timeout).
    IssueCredentials {
        /// The operation.
        op: OpId,
        /// What to issue.
        order: Box<CredentialOrder>,
    },
    /// Have credentials of a job revoked; answer with [`Input::CredentialsRevoked`].
    /// Credentials that have expired, or never existed, count as revoked.
    RevokeCredentials {
        /// The operation.
        op: OpId,
        /// The job that they were issued for, by this run of the runtime or an
        /// earlier one.
        job: JobId,
        /// Which credentials.
        what: Revocation,
    },
    /// Ask another runtime to take a job; answer with [`Input::HandedOff`]. After
    /// [`Handoffs::timeout`](super::Handoffs::timeout) the core asks again.
    HandOff {
        /// The operation.
        op: OpId,
        /// Which runtime, and what to ask of it.
        order: Box<HandoffOrder>,
    },
    /// Make a batch durable, whole or not at all; answer with
    /// [`Input::Persisted`]. Batches come, and are committed, in the order of their
    /// positions.
    Persist(Batch),
    /// Read events of a job back from the store; answer with [`Input::Loaded`]. They
    /// are durable.
    Load {
        /// The operation.
        op: OpId,
        /// The job.
        job: JobId,
        /// The first event.
        from: u64,
        /// The last one.
        to: u64,
        /// Bytes after which the answer may stop; it has at least one event.
        bytes: usize,
    },
    /// Run an agent; [`Input::AgentExited`] answers once it has ended.
    StartAgent {
        /// Its job.
        job: JobId,
        /// What to run, and with what.
        spec: Box<AgentSpec>,
    },
    /// Ask an agent to stop; with `force`, end it.
    StopAgent {
        /// Its job.
        job: JobId,
        /// Whether to end it without its consent.
        force: bool,
    },
    /// Let an agent make more calls.
    AgentCredit {
        /// Its job.
        job: JobId,
        /// Additional calls.
        calls: u32,
        /// Additional bytes.
        bytes: u64,
    },
    /// The outcome of a call of [`Input::AgentAsked`].
    AgentReply {
        /// Its job.
        job: JobId,
        /// The id of the call.
        id: CallId,
        /// The outcome.
        reply: AgentReply,
    },
    /// Give a message of people to an agent that observes interrupts; its job is blocked
    /// until the agent calls [`AgentCall::GoOn`]. An agent that is started again is given
    /// the interrupts once more that it has not gone on from.
    InterruptAgent {
        /// Its job.
        job: JobId,
        /// The interrupt.
        interrupt: OpenInterrupt,
    },
    /// Tell an agent what happened to a stream of its job.
    AgentStream {
        /// Its job.
        job: JobId,
        /// The agent's number of the stream.
        stream: u32,
        /// What happened.
        says: StreamWord,
    },
    /// Ask an agent for a checkpoint of its job; it answers by [`AgentCall::Checkpoint`].
    /// A checkpoint that it makes before this reaches it counts
    /// as well, and one checkpoint may answer several requests.
    AskCheckpoint {
        /// Its job.
        job: JobId,
        /// The label that the request wants it to have, if any.
        label: Option<String>,
    },
    /// Give the host a message of an extension that a client sent and had negotiated;
    /// answer with [`Input::ExtensionTaken`]. Until then the message counts towards
    /// [`crate::limits::SessionLimits::extension_bytes`].
    Extension {
        /// Its session.
        session: SessionId,
        /// The message.
        message: Extension,
    },
    /// Tell the operator what happened.
    Observe(Notice),
}

/// The records that one input appended to the log. A batch is durable whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The position of its first record; the others follow without a gap.
    pub first: LogPos,
    /// Its records, at least one. The core holds them too until they are durable.
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

/// What an agent runs, and with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// The agent, resolved.
    pub agent: AgentRef,
    /// Its input as sent; `{}` when there was none.
    pub input: Json,
    /// The principal on whose behalf it runs.
    pub principal: Principal,
    /// The trace id of the job.
    pub trace: String,
    /// Whether the client's tracer says that it does not record the trace.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub unsampled: bool,
    /// Members of extensions, as the client sent them; `{}` if none.
    pub extensions: Json,
    /// Calls that it may make before it gets more credit.
    pub credit: u32,
    /// Bytes of calls it may make before it gets more credit.
    pub credit_bytes: u64,
    /// The state of its last checkpoint, if it runs again.
    #[serde(with = "crate::record::maybe_text")]
    pub checkpoint: Option<Vec<u8>>,
    /// How often it was started before.
    pub restarts: u32,
    /// The lease of the job; `{}` if none was requested.
    #[serde(default = "Json::empty_object", skip_serializing_if = "grants_nothing")]
    pub lease: Json,
    /// Credentials that were issued for the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<ProvisionedCredential>,
    /// Bytes that one artifact of it may have; 0: it cannot leave artifacts.
    #[serde(default, skip_serializing_if = "is_none")]
    pub artifact_bytes: u64,
}

fn is_none(bytes: &u64) -> bool {
    *bytes == 0
}

/// Recordings from before leases have `{}` for every agent.
fn grants_nothing(lease: &Json) -> bool {
    lease.is_empty_object()
}

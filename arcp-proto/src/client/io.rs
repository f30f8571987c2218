//! What goes into a client and what comes out of it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::error::ConfigError;
use crate::id::WireId;
use crate::json::Json;
use crate::model::agent::AgentEntry;
use crate::model::artifact::ArtifactRef;
use crate::model::checkpoint::{CheckpointList, CheckpointRef};
use crate::model::event::{JobEvent, Terminal};
use crate::model::feature::{Feature, Features};
use crate::model::job_token::IssuedToken;
use crate::model::reply::{Accepted, FetchedArtifact, JobPage, Refusal, Watching};
use crate::model::request::{ClientInfo, Credential, Extension, Proof, ResumeClaim};
use crate::model::schedule::{SchedulePage, Scheduled};
use crate::model::session::SessionPage;
use crate::model::upload::ArtifactAnswer;
use crate::secret::Secret;
use crate::time::UtcMs;
use crate::wire::Family;

/// The configuration of a [`super::Client`].
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The program's name and version.
    pub client: ClientInfo,
    /// How it proves who it is.
    pub credential: Credential,
    /// What it offers.
    pub features: Features,
    /// The wire family it speaks.
    pub family: Family,
    /// Namespaces of extensions it speaks.
    pub extensions: Vec<String>,
    /// A session that another client left, to go on with; if that cannot be, a
    /// new one is opened.
    pub resume: Option<ResumeClaim>,
    /// How long connecting and opening a session may take.
    pub open_timeout: Duration,
    /// How long after a loss to go on trying; `None`: for ever.
    pub give_up_after: Option<Duration>,
    /// The longest pause between two attempts.
    pub longest_pause: Duration,
    /// Every bound.
    pub limits: ClientLimits,
}

impl ClientConfig {
    /// Everything on offer, ten seconds to open, a minute of attempts.
    pub fn new(name: &str, version: &str, credential: Credential) -> ClientConfig {
        ClientConfig {
            client: ClientInfo { name: name.into(), version: version.into() },
            credential,
            features: Features::new(&[
                Feature::LeaseExpiresAt,
                Feature::CostBudget,
                Feature::ModelUse,
                Feature::Heartbeat,
                Feature::Ack,
                Feature::ListJobs,
                Feature::WatchJobs,
                Feature::Progress,
                Feature::ResultChunk,
                Feature::AgentVersions,
                Feature::CancelAnywhere,
                Feature::ListDetails,
                Feature::HumanInput,
                Feature::Interrupts,
                Feature::Streaming,
                Feature::BinaryStreams,
                Feature::OpenSurfaces,
                Feature::Sessions,
                Feature::Artifacts,
                Feature::Schedules,
                Feature::Workflows,
                Feature::Sidecars,
                Feature::Checkpoints,
                Feature::JobTokens,
            ]),
            family: Family::default(),
            extensions: Vec::new(),
            resume: None,
            open_timeout: Duration::from_secs(10),
            give_up_after: Some(Duration::from_secs(60)),
            longest_pause: Duration::from_secs(5),
            limits: ClientLimits::default(),
        }
    }

    /// The proof a runtime asks for, if there is one.
    pub(super) fn proof(&self, nonce: Option<String>) -> Option<Proof> {
        let response = match &self.credential {
            Credential::Bearer(token) | Credential::Other { token, .. } => token.clone(),
            Credential::Anonymous => Secret::new(String::new()),
        };
        let given = !response.expose().is_empty() || self.credential == Credential::Anonymous;
        given.then_some(Proof { response, nonce })
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let bad = |name, value: usize, expected| Err(ConfigError::Limit { name, value: value as u64, expected });
        if self.limits.pending == 0 {
            return bad("pending", 0, "1 or more");
        }
        if self.limits.frame_bytes < 1024 {
            return bad("frame_bytes", self.limits.frame_bytes, "1024 or more");
        }
        Ok(())
    }
}

/// The bounds of a [`super::Client`].
#[derive(Clone, Debug)]
pub struct ClientLimits {
    /// Commands waiting for an answer (256). More: `ApiMisuse`.
    pub pending: usize,
    /// Largest inbound frame in bytes (16 MiB). Larger: the connection is
    /// given up and resumed.
    pub frame_bytes: usize,
    /// Largest result put together from pieces, in bytes (256 MiB). Larger:
    /// the result is reported as broken; its pieces were delivered.
    pub result_bytes: usize,
    /// Jobs followed at once, submits without an answer among them (4,096).
    /// More: the command is refused.
    pub followed: usize,
    /// Events kept while the acceptance of their job has not come (16,384).
    /// More: the connection is given up and they are asked for again.
    pub early: usize,
    /// Processed events after which an acknowledgement is sent (64).
    pub ack_every: u64,
}

impl Default for ClientLimits {
    fn default() -> ClientLimits {
        ClientLimits {
            pending: 256,
            frame_bytes: 16 << 20,
            result_bytes: 256 << 20,
            followed: 4096,
            early: 16_384,
            ack_every: 64,
        }
    }
}

/// Something that happened outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientInput {
    /// The transport asked for by [`ClientOutput::Connect`] is open.
    Connected,
    /// It could not be opened.
    ConnectFailed {
        /// Why, for a person.
        why: String,
    },
    /// One whole frame arrived.
    Received {
        /// The bytes, unchecked.
        frame: Vec<u8>,
    },
    /// A binary message arrived: bytes that a frame announced (RFC §11.3), or a frame
    /// in UTF-8.
    ReceivedBinary {
        /// The message, unchecked.
        message: Vec<u8>,
    },
    /// The transport is gone because a frame of ours was too large for the
    /// runtime: a WebSocket closed with 1009.
    TooLarge {
        /// What the runtime said.
        why: String,
    },
    /// The transport is gone.
    Disconnected {
        /// Why, for a person.
        why: String,
    },
    /// Time has passed, and everything was handed over that had arrived by then.
    Tick,
}

/// Something to be done outside, in the order given.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a box would cost an allocation for every event")]
pub enum ClientOutput {
    /// Open a transport; answer with `Connected` or `ConnectFailed`.
    Connect,
    /// Write one frame.
    Send {
        /// Valid JSON text without a line end.
        frame: String,
    },
    /// Write one binary message: the bytes that the frame before it announces. Over
    /// a transport that has no such messages [`Feature::Sidecars`] is not to be offered.
    SendSidecar {
        /// The message.
        message: Vec<u8>,
    },
    /// Close the transport after writing what was given before. It counts as
    /// gone from here on.
    Disconnect,
    /// Tell the application.
    Event(ClientEvent),
}

/// A command that was given. Its answer carries the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);

/// Something the application wants to know.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// The session is open; commands can be given.
    Accepted {
        /// The session.
        session: WireId,
        /// What both sides may use.
        features: Features,
        /// The agents on offer.
        agents: Vec<AgentEntry>,
        /// The runtime program.
        runtime: ClientInfo,
        /// By which it is known again, as it says.
        fingerprint: Option<String>,
        /// What it said it can do, as sent, with what nobody here knows.
        capabilities: Json,
        /// Whether it is the earlier session, back again.
        resumed: bool,
    },
    /// The connection was lost; another attempt follows.
    Reconnecting {
        /// Which attempt, from 1.
        attempt: u32,
        /// After which pause.
        after: Duration,
        /// What happened.
        why: String,
    },
    /// The session is over.
    Ended(SessionEnd),
    /// A job was accepted.
    Submitted {
        /// The command.
        handle: Handle,
        /// The acceptance.
        accepted: Accepted,
    },
    /// A job is being watched.
    Watching {
        /// The command.
        handle: Handle,
        /// The answer.
        watching: Watching,
    },
    /// A page of jobs.
    Jobs {
        /// The command.
        handle: Handle,
        /// The page.
        page: JobPage,
    },
    /// A cancel was taken; the end of what it is aimed at follows.
    CancelTaken {
        /// The command, if it was ours.
        handle: Option<Handle>,
        /// The job, stream or schedule.
        job: WireId,
    },
    /// An answer to a question counts, an interrupt is kept for its agent, an artifact is
    /// released, or a schedule is paused or goes on.
    AnswerTaken {
        /// The command.
        handle: Handle,
    },
    /// A page of sessions.
    Sessions {
        /// The command.
        handle: Handle,
        /// The page.
        page: SessionPage,
    },
    /// Bytes are kept.
    ArtifactKept {
        /// The command.
        handle: Handle,
        /// What they are known by.
        artifact: ArtifactRef,
    },
    /// The bytes of an artifact.
    ArtifactFetched {
        /// The command.
        handle: Handle,
        /// The artifact.
        fetched: FetchedArtifact,
    },
    /// What was asked about artifacts besides.
    OfArtifacts {
        /// The command.
        handle: Handle,
        /// The answer.
        answer: ArtifactAnswer,
    },
    /// A schedule is kept.
    Scheduled {
        /// The command.
        handle: Handle,
        /// What it is known by, and its next time.
        scheduled: Scheduled,
    },
    /// A page of schedules.
    Schedules {
        /// The command.
        handle: Handle,
        /// The page.
        page: SchedulePage,
    },
    /// A checkpoint that was asked for is kept.
    Checkpoint {
        /// The command.
        handle: Handle,
        /// It.
        checkpoint: CheckpointRef,
    },
    /// A token was issued for a job.
    Token {
        /// The command.
        handle: Handle,
        /// It.
        issued: IssuedToken,
    },
    /// The checkpoints of a job.
    Checkpoints {
        /// The command.
        handle: Handle,
        /// Them.
        list: CheckpointList,
    },
    /// A session was taken from its client.
    Evicted {
        /// The command.
        handle: Handle,
    },
    /// A job is somebody else's. If it is not shown to this session any more,
    /// [`Refused`](Self::Refused) says so of the job.
    HandedOver {
        /// The command.
        handle: Handle,
    },
    /// A job was handed over to this session, which offered that by
    /// [`Feature::AgentHandoff`]. It may be cancelled here, and what happens in it
    /// follows, beginning with that it was handed over.
    Taken {
        /// The job.
        watching: Watching,
    },
    /// What was to be said back was.
    Echoed {
        /// The command.
        handle: Handle,
        /// What was said.
        nonce: Option<String>,
    },
    /// The runtime's application sent a message of an extension of
    /// [`ClientConfig::extensions`]: once, or never if it could not be sent then.
    Extension(Extension),
    /// A command was refused.
    Refused {
        /// The command; `None` if the runtime did not say which.
        handle: Option<Handle>,
        /// What it said.
        refusal: Refusal,
    },
    /// The session was lost, and so were events of a job: the runtime no longer
    /// keeps them. Those after them follow.
    Missed {
        /// The job.
        job: WireId,
        /// How many.
        events: u64,
    },
    /// The runtime sent a message that makes no sense; it was passed over.
    Unreadable {
        /// What is wrong with it.
        why: String,
    },
    /// Something happened in a job.
    Job {
        /// The job.
        job: WireId,
        /// Its number in the session; 0 if the runtime gave none.
        seq: u64,
        /// When it happened, if the runtime said so.
        at: Option<UtcMs>,
        /// What.
        event: JobEvent,
    },
    /// A job ended.
    JobEnded {
        /// The job.
        job: WireId,
        /// Its number in the session; 0 if the runtime gave none.
        seq: u64,
        /// How it ended.
        terminal: Terminal,
        /// Its result, put together.
        result: ResultData,
    },
}

/// The result of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultData {
    /// There is none.
    None,
    /// JSON, in the last frame.
    Inline(Json),
    /// Bytes, put together from pieces.
    Streamed {
        /// The bytes.
        bytes: Vec<u8>,
        /// Whether they were sent as text.
        text: bool,
    },
    /// An artifact that the agent has left, which is fetched by its id.
    Stored(Box<ArtifactRef>),
    /// Pieces are missing or contradict each other.
    Broken {
        /// What is wrong.
        why: String,
    },
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionEnd {
    /// The application closed it.
    #[error("the session was closed")]
    Closed,
    /// The runtime closed it.
    #[error("the runtime closed the session: {0}")]
    Goodbye(String),
    /// The runtime did not accept it.
    #[error("the runtime refused the session: {}", .0.message)]
    Denied(Refusal),
    /// No connection could be made for too long.
    #[error("the connection was lost for good: {0}")]
    Lost(String),
}

//! The configuration, inputs and outputs of a client.

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
    /// The credential that it presents.
    pub credential: Credential,
    /// The features that it offers.
    pub features: Features,
    /// The wire family that it speaks.
    pub family: Family,
    /// Namespaces of the extensions that it supports.
    pub extensions: Vec<String>,
    /// A session of another client to resume; if that is not possible, a new one is opened.
    pub resume: Option<ResumeClaim>,
    /// How long connecting and opening a session may take.
    pub open_timeout: Duration,
    /// How long after a loss the client keeps trying; `None`: for ever.
    pub give_up_after: Option<Duration>,
    /// The longest pause between two attempts.
    pub longest_pause: Duration,
    /// The bounds.
    pub limits: ClientLimits,
}

impl ClientConfig {
    /// A configuration with all features, ten seconds to open a session, and a minute of attempts
    /// after a loss.
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

    /// The proof for a challenge, if the credential has one.
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
    /// Unanswered commands (256). More: `ApiMisuse`.
    pub pending: usize,
    /// Bytes of an inbound frame (16 MiB). Larger: the connection is closed and the session
    /// resumed.
    pub frame_bytes: usize,
    /// Bytes of a result assembled from chunks (256 MiB). Larger: the result is reported as broken;
    /// its chunks were delivered.
    pub result_bytes: usize,
    /// Jobs followed at once, including unanswered submits (4,096). More: the command is refused.
    pub followed: usize,
    /// Events kept that came before the acceptance of their job (16,384). More: the connection is
    /// closed, and they are requested again.
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

/// An input of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientInput {
    /// The transport that [`ClientOutput::Connect`] requested is open.
    Connected,
    /// The transport could not be opened.
    ConnectFailed {
        /// Why, for a person.
        why: String,
    },
    /// One whole frame arrived.
    Received {
        /// The bytes, unchecked.
        frame: Vec<u8>,
    },
    /// A binary message arrived: a sidecar, whose bytes a frame announced (RFC §11.3), or a frame
    /// in UTF-8.
    ReceivedBinary {
        /// The message, unchecked.
        message: Vec<u8>,
    },
    /// The transport was closed because a frame of this client was too large for the runtime: a
    /// WebSocket closed with 1009.
    TooLarge {
        /// The reason that the runtime gave.
        why: String,
    },
    /// The transport was closed.
    Disconnected {
        /// Why, for a person.
        why: String,
    },
    /// Time has passed, and everything that had arrived by then was handed over.
    Tick,
}

/// An output of a client. Outputs are performed in order.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a box would cost an allocation for every event")]
pub enum ClientOutput {
    /// Open a transport; its outcome is the input `Connected` or `ConnectFailed`.
    Connect,
    /// Write one frame.
    Send {
        /// Valid JSON text without a line end.
        frame: String,
    },
    /// Write one binary message: the sidecar that the frame before it announces. On a transport
    /// without such messages, [`Feature::Sidecars`] must not be offered.
    SendSidecar {
        /// The message.
        message: Vec<u8>,
    },
    /// Close the transport once all earlier frames are written. The client counts it as closed from
    /// here on.
    Disconnect,
    /// Inform the application.
    Event(ClientEvent),
}

/// The number of a command. Its answer carries the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);

/// An event for the application.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientEvent {
    /// The session is open; commands are sent.
    Accepted {
        /// The session.
        session: WireId,
        /// The features that both sides offer.
        features: Features,
        /// The agents of the runtime.
        agents: Vec<AgentEntry>,
        /// The name and version of the runtime program.
        runtime: ClientInfo,
        /// The fingerprint that the runtime declares.
        fingerprint: Option<String>,
        /// The capabilities of the runtime, as sent, including unknown ones.
        capabilities: Json,
        /// Whether it is the earlier session, resumed.
        resumed: bool,
    },
    /// The connection was lost; another attempt follows.
    Reconnecting {
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The pause before it.
        after: Duration,
        /// Why the connection was lost.
        why: String,
    },
    /// The session has ended.
    Ended(SessionEnd),
    /// A job was accepted.
    Submitted {
        /// The command.
        handle: Handle,
        /// The acceptance.
        accepted: Accepted,
    },
    /// The answer to a watch.
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
    /// A cancel was accepted; the end of its target follows.
    CancelTaken {
        /// The command, if this client sent it.
        handle: Option<Handle>,
        /// The id of the target: a job, stream or schedule.
        job: WireId,
    },
    /// A command was executed and has no other answer: an answer to a question was taken, an
    /// interrupt or a part of a stream was accepted, an artifact was released, a schedule was
    /// paused or resumed.
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
    /// An artifact is kept.
    ArtifactKept {
        /// The command.
        handle: Handle,
        /// The artifact.
        artifact: ArtifactRef,
    },
    /// A fetched artifact, or a range of it.
    ArtifactFetched {
        /// The command.
        handle: Handle,
        /// The artifact with its bytes.
        fetched: FetchedArtifact,
    },
    /// Another answer about artifacts.
    OfArtifacts {
        /// The command.
        handle: Handle,
        /// The answer.
        answer: ArtifactAnswer,
    },
    /// A schedule was accepted.
    Scheduled {
        /// The command.
        handle: Handle,
        /// Its id and next time.
        scheduled: Scheduled,
    },
    /// A page of schedules.
    Schedules {
        /// The command.
        handle: Handle,
        /// The page.
        page: SchedulePage,
    },
    /// A requested checkpoint is kept.
    Checkpoint {
        /// The command.
        handle: Handle,
        /// The checkpoint.
        checkpoint: CheckpointRef,
    },
    /// A token was issued for a job.
    Token {
        /// The command.
        handle: Handle,
        /// The token.
        issued: IssuedToken,
    },
    /// The checkpoints of a job.
    Checkpoints {
        /// The command.
        handle: Handle,
        /// The checkpoints.
        list: CheckpointList,
    },
    /// A session was taken from its client.
    Evicted {
        /// The command.
        handle: Handle,
    },
    /// A job was handed over to another owner. If this session is not shown it any more,
    /// [`Refused`](Self::Refused) follows for the job.
    HandedOver {
        /// The command.
        handle: Handle,
    },
    /// A job was handed over to this session, which offered [`Feature::AgentHandoff`]. The session
    /// may cancel it. Its events follow, beginning with that of the handoff.
    Taken {
        /// The job.
        watching: Watching,
    },
    /// The answer to an echo.
    Echoed {
        /// The command.
        handle: Handle,
        /// The nonce of the request.
        nonce: Option<String>,
    },
    /// A message of an extension of [`ClientConfig::extensions`], from the application of the
    /// runtime. It is sent once at most: never if it could not be sent at once.
    Extension(Extension),
    /// A command was refused.
    Refused {
        /// The command; `None` if the runtime named none.
        handle: Option<Handle>,
        /// The refusal.
        refusal: Refusal,
    },
    /// Events of a job were missed: the session was lost, and the runtime has deleted them. Later
    /// events follow.
    Missed {
        /// The job.
        job: WireId,
        /// The number of missed events.
        events: u64,
    },
    /// The runtime sent a message that cannot be read; it was ignored.
    Unreadable {
        /// What is wrong with it.
        why: String,
    },
    /// An event of a job.
    Job {
        /// The job.
        job: WireId,
        /// Its number in the session's stream; 0 if the runtime gave none.
        seq: u64,
        /// When it happened, if the runtime said so.
        at: Option<UtcMs>,
        /// The event.
        event: JobEvent,
    },
    /// A job ended.
    JobEnded {
        /// The job.
        job: WireId,
        /// Its number in the session's stream; 0 if the runtime gave none.
        seq: u64,
        /// How it ended.
        terminal: Terminal,
        /// Its assembled result.
        result: ResultData,
    },
}

/// The result of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultData {
    /// No result.
    None,
    /// JSON, in the terminal event.
    Inline(Json),
    /// Bytes, assembled from chunks.
    Streamed {
        /// The bytes.
        bytes: Vec<u8>,
        /// Whether the chunks were text.
        text: bool,
    },
    /// An artifact that the agent stored, which is fetched by its id.
    Stored(Box<ArtifactRef>),
    /// Chunks are missing or contradict each other.
    Broken {
        /// What is wrong.
        why: String,
    },
}

/// Why a session has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionEnd {
    /// The application closed it.
    #[error("the session was closed")]
    Closed,
    /// The runtime closed it, for this reason.
    #[error("the runtime closed the session: {0}")]
    Goodbye(String),
    /// The runtime refused it.
    #[error("the runtime refused the session: {}", .0.message)]
    Denied(Refusal),
    /// No connection could be made for too long; with the reason of the last failure.
    #[error("the connection was lost for good: {0}")]
    Lost(String),
}

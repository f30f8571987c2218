//! What a client asks of a runtime.

use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use crate::id::WireId;
use crate::json::Json;
use crate::model::agent::AgentRef;
use crate::model::feature::Features;
use crate::model::job::JobStatus;
use crate::secret::Secret;
use crate::time::UtcMs;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Open a session.
    Open(Open),
    /// Take an earlier session over to this connection.
    Resume(ResumeClaim),
    /// End the connection; jobs go on. `answered`: the peer waits for a
    /// reply.
    Close {
        /// Why, in the client's words.
        reason: Option<String>,
        /// Whether a reply is owed.
        answered: bool,
    },
    /// Are you there?
    Ping {
        /// Echoed in the answer.
        nonce: String,
    },
    /// I am here.
    Pong {
        /// The nonce of the ping.
        nonce: String,
    },
    /// Everything up to here is processed.
    Ack {
        /// The last sequence number processed.
        seq: u64,
    },
    /// List jobs.
    List(ListQuery),
    /// Run a job.
    Submit(Submit),
    /// Stop a job.
    Cancel {
        /// The job.
        job: WireId,
        /// Why, in the client's words.
        reason: Option<String>,
    },
    /// Watch a job.
    Watch(Watch),
    /// Stop watching a job.
    Unwatch {
        /// The job.
        job: WireId,
    },
    /// A vendor message nobody here handles; never an error.
    Ignored,
}

impl Request {
    /// The job that it names.
    pub fn job(&self) -> Option<&WireId> {
        match self {
            Request::Cancel { job, .. } | Request::Unwatch { job } => Some(job),
            Request::Watch(watch) => Some(&watch.job),
            Request::Open(_)
            | Request::Resume(_)
            | Request::Close { .. }
            | Request::Ping { .. }
            | Request::Pong { .. }
            | Request::Ack { .. }
            | Request::List(_)
            | Request::Submit(_)
            | Request::Ignored => None,
        }
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
    /// Same key, same principal, same job. 1..=256 bytes.
    pub key: Option<String>,
    /// Time limit in seconds.
    pub max_runtime: Option<NonZeroU32>,
    /// The job it belongs to.
    pub parent: Option<WireId>,
    /// Its trace, if the client has one.
    pub trace: Option<String>,
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
    pub limit: Option<u16>,
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

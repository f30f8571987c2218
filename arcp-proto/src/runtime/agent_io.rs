//! The calls of an agent, the replies to them, and how its run ends.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::delegation::Delegation;
use super::stream_io::{ChunkData, StreamCall};
use crate::id::{JobId, WireId};
use crate::json::Json;
use crate::lease::Budget;
use crate::model::artifact::{ArtifactRef, ArtifactTerms};
use crate::model::credential::ProvisionedCredential;
use crate::model::event::{EventKind, JobError};
use crate::model::job::FinalStatus;
use crate::model::prompt::Question;
use crate::secret::Secret;
use crate::time::UtcMs;

/// A call that an agent makes while it runs. Unless it [is free](AgentCall::is_free), it costs
/// one call of credit and its [bytes](AgentCall::bytes). It may be made while both credits are
/// above zero, however large it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AgentCall {
    /// Emits an event.
    #[serde(alias = "Say")]
    Emit {
        /// Its kind; recordings hold the name.
        #[serde(with = "by_name")]
        kind: EventKind,
        /// Its body, an object.
        body: Json,
    },
    /// Sends a piece of the result, of any size.
    Chunk {
        /// The piece.
        data: ChunkData,
        /// Whether another one follows.
        more: bool,
    },
    /// Makes a checkpoint, from which the agent can go on.
    Checkpoint {
        /// The state, in a format of the agent's own.
        #[serde(with = "crate::record::frame_text")]
        state: Vec<u8>,
        /// A label for people.
        label: Option<String>,
    },
    /// Asks how much time, credit and budget its job has left. Has no effect without an id.
    Remaining,
    /// Asks whether its job may do something. Has no effect without an id.
    Authorize {
        /// The operation: a [`Namespace`](crate::lease::Namespace).
        operation: String,
        /// The target of the operation.
        target: String,
        /// The price of the operation, such as `USD:0.05`: it is reserved.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        price: Vec<String>,
    },
    /// Says that the agent is alive. Costs no credit. Several of these that wait to be handed
    /// over mean as much as one, so a driver holds at most one for each job.
    #[serde(alias = "Beat")]
    Heartbeat,
    /// Has another agent do something, as a child of its job.
    Delegate(Delegation),
    /// Waits until a child of its job has ended. Has no effect without an
    /// id.
    AwaitChild {
        /// The child.
        job: JobId,
    },
    /// Asks people something; the job is blocked until they answer. Has no effect without an
    /// id.
    Ask {
        /// The question.
        question: Box<Question>,
        /// How long people have, in milliseconds; `None`:
        /// [`Timing::prompt_timeout`](super::Timing::prompt_timeout), or five minutes
        /// for a permission.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// Asks for a new value of a credential of its job; the earlier value is then
    /// revoked. Has no effect without an id.
    RenewCredential {
        /// The credential.
        id: String,
        /// The value that it wants; `None`: the issuer chooses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<Secret>,
    },
    /// Stores an artifact, for sessions that may watch its job. The host has the bytes,
    /// under the id of the call. The agent cannot choose the id of the artifact. Has no effect
    /// without an id of the call.
    PutArtifact(Box<ArtifactTerms>),
    /// Goes on from an [interrupt](super::Output::InterruptAgent).
    GoOn {
        /// The number of the interrupt; `None`: the first that it was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interrupt: Option<u32>,
    },
    /// Acts on a stream of its job.
    Stream {
        /// The agent's number of the stream.
        stream: u32,
        /// What it does.
        says: StreamCall,
    },
}

impl AgentCall {
    /// Whether it costs no credit.
    pub fn is_free(&self) -> bool {
        matches!(self, AgentCall::Heartbeat | AgentCall::Stream { says: StreamCall::Took | StreamCall::Leave, .. })
    }

    /// Called when the agent gave up the reply: an event that asks for a child still makes it.
    pub(super) fn wait_for_no_answer(&mut self) {
        if let AgentCall::Emit { kind: EventKind::Delegate, body } = self
            && let Some(delegation) = Delegation::of_event(body)
        {
            *self = AgentCall::Delegate(delegation);
        }
    }

    /// Bytes of credit it costs.
    pub fn bytes(&self) -> u64 {
        let bytes = match self {
            AgentCall::Emit { kind, body } => body.as_str().len() + beyond(kind.as_str()),
            AgentCall::Chunk { data: ChunkData::Text(text), .. } => text.len(),
            AgentCall::Chunk { data: ChunkData::Binary(bytes), .. } => bytes.len(),
            AgentCall::Checkpoint { state, label } => state.len() + label.as_deref().map_or(0, beyond),
            AgentCall::Authorize { operation, target, price } => {
                operation.len() + target.len() + price.iter().map(String::len).sum::<usize>()
            }
            AgentCall::Delegate(delegation) => delegation.bytes(),
            AgentCall::RenewCredential { id, value } => {
                id.len() + value.as_ref().map_or(0, |value| value.expose().len())
            }
            AgentCall::Ask { question, .. } => question.bytes(),
            AgentCall::Stream { says, .. } => says.bytes(),
            AgentCall::PutArtifact(terms) => terms.media_type.as_str().len(),
            AgentCall::Remaining | AgentCall::Heartbeat | AgentCall::AwaitChild { .. } | AgentCall::GoOn { .. } => 0,
        };
        bytes as u64
    }
}

/// Bytes of a name beyond the length that is free: agents may use names of any length.
fn beyond(name: &str) -> usize {
    name.len().saturating_sub(WireId::MAX)
}

/// Kinds of events, serialised as their names.
mod by_name {
    use alloc::string::String;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::EventKind;

    pub(super) fn serialize<S: Serializer>(kind: &EventKind, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(kind.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EventKind, D::Error> {
        String::deserialize(deserializer).map(|name| EventKind::from(name.as_str()))
    }
}

/// The reply to a call of [`Input::AgentAsked`](super::Input::AgentAsked).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentReply {
    /// It was done, and that is durable.
    Taken {
        /// The number of the job's event that it became (the last, if it became several);
        /// `None` if it became none.
        event: Option<u64>,
    },
    /// It was not done. The job goes on as if the call had not been made.
    Refused(JobError),
    /// What the job has left.
    Remaining(Remaining),
    /// The job was told to stop, or has ended, before there was an answer. Whether
    /// the call was done is unknown.
    Stopped,
    /// The job may do what it asked for.
    Allowed {
        /// The pattern of the lease that allows it.
        pattern: String,
        /// The id under which its price is reserved, if it gave a price in a bounded currency.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reservation: Option<u64>,
    },
    /// The renewed credential, with its value.
    Renewed(Box<ProvisionedCredential>),
    /// The artifact that holds its bytes.
    Kept(Box<ArtifactRef>),
    /// The child that the call made.
    Delegated {
        /// The job of the child.
        job: JobId,
    },
    /// The child that it waited for has ended.
    ChildEnded(ChildEnd),
    /// Its question was answered.
    Answered {
        /// The answer: a value that fits the question, the id of an option, or the permission granted.
        value: Json,
        /// The principal that gave it; `default` if nobody answered in time.
        by: String,
        /// The time of the answer, in UTC milliseconds.
        at: UtcMs,
    },
}

impl AgentReply {
    /// Bytes that it holds outside of the value itself, approximately.
    pub(in crate::runtime) fn bytes(&self) -> usize {
        match self {
            AgentReply::Refused(error) => error.message.len(),
            AgentReply::Allowed { pattern, .. } => pattern.len(),
            AgentReply::ChildEnded(end) => {
                let error = end.error.as_ref().map_or(0, |error| error.message.len());
                end.result.as_ref().map_or(0, |result| result.as_str().len()) + error
            }
            AgentReply::Answered { value, by, .. } => value.as_str().len() + by.len(),
            AgentReply::Renewed(credential) => credential.bytes(),
            AgentReply::Kept(kept) => size_of::<ArtifactRef>() + kept.weight(),
            AgentReply::Taken { .. }
            | AgentReply::Remaining(_)
            | AgentReply::Stopped
            | AgentReply::Delegated { .. } => 0,
        }
    }
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildEnd {
    /// The child.
    pub job: JobId,
    /// How it ended.
    pub status: FinalStatus,
    /// The result of a success, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::present")]
    pub result: Option<Json>,
    /// What went wrong, if it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

/// What a job has left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remaining {
    /// Milliseconds until its agent is stopped; `None`: it has no time limit.
    pub time_ms: Option<u64>,
    /// Calls that its agent may make before it gets more credit.
    pub calls: u32,
    /// Bytes that those calls may have.
    pub bytes: u64,
    /// What it may still spend, in each bounded currency.
    #[serde(default, skip_serializing_if = "Budget::is_empty")]
    pub budget: Budget,
}

/// How an agent's run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AgentExit {
    /// With a result, or with the chunks that it sent.
    Success {
        /// The result; `None` after chunks, or for a success without a result.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::present")]
        result: Option<Json>,
        /// A summary in one line.
        summary: Option<String>,
    },
    /// With an artifact as its result, which it stored before.
    Stored {
        /// The id of the artifact.
        artifact: WireId,
        /// A summary in one line.
        summary: Option<String>,
    },
    /// With an error. The codes `CANCELLED` and `TIMEOUT` give the job that status.
    Failure(JobError),
    /// By a panic, or without any word. Clients are told no detail.
    Lost,
}

impl AgentExit {
    /// Whether it is anything but a success.
    pub(in crate::runtime) fn is_failed(&self) -> bool {
        match self {
            AgentExit::Success { .. } | AgentExit::Stored { .. } => false,
            AgentExit::Failure(_) | AgentExit::Lost => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    #[test]
    fn whatever_of_a_call_an_agent_may_make_long_costs_credit() {
        let long = |name: &str| "x".repeat(1000 + WireId::MAX) + name;
        let emit = |kind: &str| AgentCall::Emit { kind: kind.into(), body: Json::empty_object() };
        assert_eq!([emit("log"), emit("x-vendor.acme.thing"), emit(&long(""))].map(|call| call.bytes()), [2, 2, 1002]);
        let checkpoint =
            |label: Option<&str>| AgentCall::Checkpoint { state: b"s".to_vec(), label: label.map(Into::into) };
        assert_eq!([None, Some("l"), Some(&*long("l"))].map(|label| checkpoint(label).bytes()), [1, 1, 1002]);
        let details = Json::parse(&alloc::format!("{{\"a\":\"{}\"}}", long(""))).ok();
        let error = JobError { details, ..JobError::new(ErrorCode::Internal, "") };
        let fails = AgentCall::Stream { stream: 1, says: StreamCall::Fail { error, shed: 0 } };
        assert!(fails.bytes() > 1000, "{}", fails.bytes());
    }
}

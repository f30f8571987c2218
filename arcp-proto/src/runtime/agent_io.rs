//! What an agent says of its job, what it is answered, and how its run ends.

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

/// What an agent says while it runs. Each call that says something costs one
/// call of credit and its [bytes](AgentCall::bytes); it may be made while there
/// is any of both, however large it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AgentCall {
    /// An event.
    #[serde(alias = "Say")]
    Emit {
        /// Its kind; a recording has its name.
        #[serde(with = "by_name")]
        kind: EventKind,
        /// Its body, an object.
        body: Json,
    },
    /// A piece of the result, of any size.
    Chunk {
        /// The piece.
        data: ChunkData,
        /// Whether another one follows.
        more: bool,
    },
    /// What it can go on from.
    Checkpoint {
        /// Its state, in its own terms.
        #[serde(with = "crate::record::frame_text")]
        state: Vec<u8>,
        /// What to call it.
        label: Option<String>,
    },
    /// It asks what is left of its job. Without an id nothing follows from it.
    Remaining,
    /// It asks whether it may do something. Without an id nothing follows from it.
    Authorize {
        /// What it does: a [`Namespace`](crate::lease::Namespace).
        operation: String,
        /// What it does it to.
        target: String,
        /// What that will cost, such as `USD:0.05`: it is reserved.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        price: Vec<String>,
    },
    /// It is alive. Costs no credit: one that waits to be handed over says as
    /// much as several, so a driver holds no more than one of a job.
    #[serde(alias = "Beat")]
    Heartbeat,
    /// It has another agent do something, as a child of its job.
    Delegate(Delegation),
    /// It waits for a child of its job to end. Without an id nothing follows from
    /// it.
    AwaitChild {
        /// The child.
        job: JobId,
    },
    /// It asks people something; its job is blocked until they answer. Without an
    /// id nothing follows from it.
    Ask {
        /// The question.
        question: Box<Question>,
        /// Milliseconds that people have; `None`:
        /// [`Timing::prompt_timeout`](super::Timing::prompt_timeout), or five minutes
        /// for a permission.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// It wants another value for a credential of its job, whose earlier one is
    /// revoked then. Without an id nothing follows from it.
    RenewCredential {
        /// The credential.
        id: String,
        /// The value; `None`: whatever is issued.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<Secret>,
    },
    /// It leaves bytes with the runtime, for whoever may watch its job: the host has
    /// them, under the id of the call. They have no id of its own choice. Without an id
    /// of the call nothing follows from it.
    PutArtifact(Box<ArtifactTerms>),
    /// It goes on from an [interrupt](super::Output::InterruptAgent).
    GoOn {
        /// The number of that; `None`: of the first that it was told of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interrupt: Option<u32>,
    },
    /// It says something in a stream of its job.
    Stream {
        /// What it knows the stream by.
        stream: u32,
        /// What it says.
        says: StreamCall,
    },
}

impl AgentCall {
    /// Whether it costs no credit.
    pub fn is_free(&self) -> bool {
        matches!(self, AgentCall::Heartbeat | AgentCall::Stream { says: StreamCall::Took | StreamCall::Leave, .. })
    }

    /// Its agent waits for no answer to it any more: what asked for a child does so all the same.
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

/// Bytes of a name beyond what costs nothing: agents may give names of any length.
fn beyond(name: &str) -> usize {
    name.len().saturating_sub(WireId::MAX)
}

/// Kinds of events as their names.
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

/// What becomes of a call that an agent wants to know about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentReply {
    /// It was done, and that is durable.
    Taken {
        /// The number in the job of the event that it became, of several the
        /// last; `None` if it became none.
        event: Option<u64>,
    },
    /// It was not done, and its job goes on as if it had not been made.
    Refused(JobError),
    /// What is left of the job.
    Remaining(Remaining),
    /// The job was told to stop before there was an answer, or is over: nobody
    /// says any more whether it was done.
    Stopped,
    /// It may do what it asked for.
    Allowed {
        /// The pattern of its lease that says so.
        pattern: String,
        /// What its price was reserved under, if it gave one and that is bounded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reservation: Option<u64>,
    },
    /// The credential that it has renewed, with its value.
    Renewed(Box<ProvisionedCredential>),
    /// The artifact that its bytes are now.
    Kept(Box<ArtifactRef>),
    /// The child that it has made.
    Delegated {
        /// Its job.
        job: JobId,
    },
    /// How the child ended that it waited for.
    ChildEnded(ChildEnd),
    /// Its question was answered.
    Answered {
        /// The answer: a value that fits, the id of an option, or what was granted.
        value: Json,
        /// The principal that gave it; `default` if nobody did in time.
        by: String,
        /// When.
        at: UtcMs,
    },
}

impl AgentReply {
    /// Bytes it holds besides itself, roughly.
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
    /// What went wrong otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

/// What is left of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remaining {
    /// Milliseconds until its agent is made to stop; `None`: no time is set.
    pub time_ms: Option<u64>,
    /// Calls that its agent may make before it gets more credit.
    pub calls: u32,
    /// Bytes of them.
    pub bytes: u64,
    /// What it may still spend, of each currency that is bounded.
    #[serde(default, skip_serializing_if = "Budget::is_empty")]
    pub budget: Budget,
}

/// How an agent's run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AgentExit {
    /// With a result, or with what it streamed.
    Success {
        /// The result; `None` after chunks, or for a success without any.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "crate::json::present")]
        result: Option<Json>,
        /// One line about it.
        summary: Option<String>,
    },
    /// With an artifact as its result, which it has left before.
    Stored {
        /// What that is known by.
        artifact: WireId,
        /// One line about it.
        summary: Option<String>,
    },
    /// With an error. Codes `CANCELLED` and `TIMEOUT` end the job so.
    Failure(JobError),
    /// By a panic or by vanishing. No detail crosses the wire.
    Lost,
}

impl AgentExit {
    /// Whether its job has no success.
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

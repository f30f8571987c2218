//! Conversion of the runtime's answers to the results of agents' calls.

use arcp_proto::id::JobId;
use arcp_proto::lease::Namespace;
use arcp_proto::runtime::{AgentCall, AgentReply, ChildEnd, Remaining};

use super::{Answered, CallError, Stopped};

/// The call that asks whether an operation is allowed, with its price if it has one.
pub(super) fn authorize(operation: &Namespace, target: &str, price: Vec<String>) -> AgentCall {
    AgentCall::Authorize { operation: operation.as_str().to_string(), target: target.to_string(), price }
}

/// The number of the event that a call became.
pub(super) fn event_of(reply: AgentReply) -> Result<u64, CallError> {
    if let AgentReply::Taken { event } = reply { Ok(event.unwrap_or(0)) } else { Err(not_done(reply)) }
}

/// The pattern that allows an operation, and the number of the reservation.
pub(super) fn allowed(reply: AgentReply) -> Result<(String, Option<u64>), CallError> {
    if let AgentReply::Allowed { pattern, reservation } = reply {
        Ok((pattern, reservation))
    } else {
        Err(not_done(reply))
    }
}

pub(super) fn remaining_of(reply: AgentReply) -> Result<Remaining, Stopped> {
    // This call is never refused.
    if let AgentReply::Remaining(remaining) = reply { Ok(remaining) } else { Err(Stopped) }
}

/// The child that was made.
pub(super) fn child_of(reply: AgentReply) -> Result<JobId, CallError> {
    if let AgentReply::Delegated { job } = reply { Ok(job) } else { Err(not_done(reply)) }
}

/// The end of a child.
pub(super) fn end_of(reply: AgentReply) -> Result<ChildEnd, CallError> {
    if let AgentReply::ChildEnded(end) = reply { Ok(end) } else { Err(not_done(reply)) }
}

/// The answer of people.
pub(super) fn answered(reply: AgentReply) -> Result<Answered, CallError> {
    if let AgentReply::Answered { value, by, at } = reply {
        Ok(Answered { value, by, at })
    } else {
        Err(not_done(reply))
    }
}

/// The error for any other answer. An answer has the id of its call, so an answer that is not a
/// refusal means that the job has ended.
pub(super) fn not_done(reply: AgentReply) -> CallError {
    match reply {
        AgentReply::Refused(error) => CallError::Refused(error),
        AgentReply::Taken { .. }
        | AgentReply::Remaining(_)
        | AgentReply::Answered { .. }
        | AgentReply::Renewed(_)
        | AgentReply::Kept(_)
        | AgentReply::Stopped
        | AgentReply::Allowed { .. }
        | AgentReply::Delegated { .. }
        | AgentReply::ChildEnded(_) => Stopped.into(),
    }
}

//! What agents are answered, as what their calls give.

use arcp_proto::id::JobId;
use arcp_proto::lease::Namespace;
use arcp_proto::runtime::{AgentCall, AgentReply, ChildEnd, Remaining};

use super::{Answered, CallError, Stopped};

/// Asks whether something may be done, at a price if it has one.
pub(super) fn authorize(operation: &Namespace, target: &str, price: Vec<String>) -> AgentCall {
    AgentCall::Authorize { operation: operation.as_str().to_string(), target: target.to_string(), price }
}

/// The number of the event that a call became.
pub(super) fn event_of(reply: AgentReply) -> Result<u64, CallError> {
    if let AgentReply::Taken { event } = reply { Ok(event.unwrap_or(0)) } else { Err(not_done(reply)) }
}

/// The pattern that allows something, and under what its price is reserved.
pub(super) fn allowed(reply: AgentReply) -> Result<(String, Option<u64>), CallError> {
    if let AgentReply::Allowed { pattern, reservation } = reply {
        Ok((pattern, reservation))
    } else {
        Err(not_done(reply))
    }
}

pub(super) fn remaining_of(reply: AgentReply) -> Result<Remaining, Stopped> {
    // It is never refused for what it says.
    if let AgentReply::Remaining(remaining) = reply { Ok(remaining) } else { Err(Stopped) }
}

/// The child that was made.
pub(super) fn child_of(reply: AgentReply) -> Result<JobId, CallError> {
    if let AgentReply::Delegated { job } = reply { Ok(job) } else { Err(not_done(reply)) }
}

/// How a child ended.
pub(super) fn end_of(reply: AgentReply) -> Result<ChildEnd, CallError> {
    if let AgentReply::ChildEnded(end) = reply { Ok(end) } else { Err(not_done(reply)) }
}

/// What people answered.
pub(super) fn answered(reply: AgentReply) -> Result<Answered, CallError> {
    if let AgentReply::Answered { value, by, at } = reply {
        Ok(Answered { value, by, at })
    } else {
        Err(not_done(reply))
    }
}

/// Why there is no such answer. Each has its call's id, so what is no refusal is
/// the end of the job.
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

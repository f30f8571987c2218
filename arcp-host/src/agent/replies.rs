//! What agents are answered, as what their calls give.

use arcp_proto::id::JobId;
use arcp_proto::lease::Namespace;
use arcp_proto::runtime::{AgentCall, AgentReply, ChildEnd, Remaining};

use super::{CallError, Stopped};

/// Asks whether something may be done, at a price if it has one.
pub(super) fn authorize(operation: &Namespace, target: &str, price: Vec<String>) -> AgentCall {
    AgentCall::Authorize { operation: operation.as_str().to_string(), target: target.to_string(), price }
}

/// The number of the event that a call became.
pub(super) fn event_of(reply: AgentReply) -> Result<u64, CallError> {
    match reply {
        AgentReply::Taken { event } => Ok(event.unwrap_or(0)),
        other => Err(not_done(other)),
    }
}

/// The pattern that allows something, and under what its price is reserved.
pub(super) fn allowed(reply: AgentReply) -> Result<(String, Option<u64>), CallError> {
    match reply {
        AgentReply::Allowed { pattern, reservation } => Ok((pattern, reservation)),
        other => Err(not_done(other)),
    }
}

pub(super) fn remaining_of(reply: AgentReply) -> Result<Remaining, Stopped> {
    match reply {
        AgentReply::Remaining(remaining) => Ok(remaining),
        // It is never refused for what it says.
        _ => Err(Stopped),
    }
}

/// The child that was made.
pub(super) fn child_of(reply: AgentReply) -> Result<JobId, CallError> {
    match reply {
        AgentReply::Delegated { job } => Ok(job),
        other => Err(not_done(other)),
    }
}

/// How a child ended.
pub(super) fn end_of(reply: AgentReply) -> Result<ChildEnd, CallError> {
    match reply {
        AgentReply::ChildEnded(end) => Ok(end),
        other => Err(not_done(other)),
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
        | AgentReply::Stopped
        | AgentReply::Allowed { .. }
        | AgentReply::Delegated { .. }
        | AgentReply::ChildEnded(_) => Stopped.into(),
    }
}

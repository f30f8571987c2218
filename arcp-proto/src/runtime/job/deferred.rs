//! A child that an agent asks for, and one that waits for the host, as they are held. `deferral` decides what becomes
//! of them.

use alloc::collections::VecDeque;

use crate::error::Violation;
use crate::id::{CallId, OpId};
use crate::json::Json;
use crate::runtime::asker::Preparing;
use crate::runtime::delegation::Delegation;
use crate::runtime::io::{AgentCall, AgentExit};

/// A delegation.
#[derive(Debug)]
pub(in crate::runtime) struct Delegating {
    pub(super) delegation: Delegation,
    /// The event by which the agent asks, if it asks by an event.
    pub(super) said: Option<Json>,
}

/// A call of an agent, with its id if the agent waits for the answer.
pub(in crate::runtime) type Call = (Option<CallId>, AgentCall);

/// A child that waits for the host, and what the parent's agent has called since.
#[derive(Debug)]
pub(in crate::runtime) struct Deferred {
    pub(in crate::runtime) child: Delegating,
    /// The id of the call that asks for the child, and its bytes.
    pub(in crate::runtime) asked: Option<CallId>,
    pub(in crate::runtime) bytes: u64,
    pub(in crate::runtime) preparing: Preparing,
    /// The host's verdict; `None` until it has answered.
    pub(in crate::runtime) verdict: Option<Result<(), Violation>>,
    /// Calls that are processed after this one.
    pub(in crate::runtime) held: VecDeque<Call>,
    /// Bytes of credit of those calls.
    pub(super) held_bytes: u64,
    /// How the agent has ended.
    pub(in crate::runtime) exit: Option<AgentExit>,
}

impl Deferred {
    pub(super) fn new(child: Delegating, (asked, bytes): (Option<CallId>, u64), preparing: Preparing) -> Deferred {
        let (held, held_bytes) = (VecDeque::new(), 0);
        Deferred { child, asked, bytes, preparing, verdict: None, held, held_bytes, exit: None }
    }

    /// Approximate bytes that it holds.
    pub(super) fn weight(&self) -> usize {
        let said = self.child.said.as_ref().map_or(0, |said| said.as_str().len());
        let exit = self.exit.as_ref().map_or(0, exit_bytes);
        let held = self.held.len() * size_of::<Call>() + usize::try_from(self.held_bytes).unwrap_or(usize::MAX);
        size_of::<Deferred>() + self.child.delegation.bytes() + said + exit + held
    }

    /// Whether it waits for this operation.
    pub(super) fn waits_for(&self, wanted: OpId) -> bool {
        self.preparing.op() == wanted && self.verdict.is_none()
    }
}

pub(super) fn exit_bytes(exit: &AgentExit) -> usize {
    match exit {
        AgentExit::Success { result, summary } => {
            result.as_ref().map_or(0, |result| result.as_str().len()) + summary.as_ref().map_or(0, |text| text.len())
        }
        AgentExit::Stored { artifact, summary } => {
            artifact.as_str().len() + summary.as_ref().map_or(0, |text| text.len())
        }
        AgentExit::Failure(error) => {
            let details = error.details.as_ref().map_or(0, |details| details.as_str().len());
            error.code.as_str().len() + error.message.len() + details
        }
        AgentExit::Lost => 0,
    }
}

//! The calls of an agent that are not answered yet.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::deferred::Deferred;
use crate::error::{BoundOf, Violation};
use crate::id::{CallId, JobId, LogPos};
use crate::limits::Limits;
use crate::runtime::io::AgentReply;
use crate::runtime::rare::Empty;
use crate::time::Timestamp;

/// The open calls of an agent, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct OpenCalls {
    pub(super) open: VecDeque<OpenCall>,
    /// Calls that the end of a child answers.
    pub(super) awaited: BTreeMap<CallId, JobId>,
    /// The call that waits for another value of a credential.
    pub(super) renewing: Option<CallId>,
    /// Calls that wait for the host to store an artifact.
    pub(super) storing: BTreeSet<CallId>,
    /// The child that waits for the host, and the calls that are processed after it.
    pub(super) deferred: Option<Box<Deferred>>,
    /// Set once the agent is gone: until when children that it has asked for wait for the host.
    pub(super) heard_until: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) struct OpenCall {
    pub(super) id: CallId,
    /// The log position that must be durable before the call is answered.
    pub(super) until: LogPos,
    pub(super) reply: AgentReply,
}

impl Empty for OpenCalls {
    const EMPTY: &'static OpenCalls = &OpenCalls {
        open: VecDeque::new(),
        awaited: BTreeMap::new(),
        renewing: None,
        storing: BTreeSet::new(),
        deferred: None,
        heard_until: None,
    };
}

impl OpenCalls {
    /// Approximate bytes that they hold.
    pub(super) fn weight(&self) -> usize {
        const ENTRY: usize = 64;
        self.open.iter().map(|open| size_of::<OpenCall>() + open.reply.bytes()).sum::<usize>()
            + (self.awaited.len() + self.storing.len()) * ENTRY
            + self.deferred.as_ref().map_or(0, |deferred| deferred.weight())
    }

    /// Whether one more call can be open. `is_asked`: whether a question to people is open under its id.
    pub(super) fn check(&self, id: CallId, is_asked: bool, limits: &Limits) -> Result<(), Violation> {
        let is_asked = is_asked || self.renewing == Some(id) || self.storing.contains(&id);
        if is_asked || self.open.iter().any(|open| open.id == id) || self.awaited.contains_key(&id) {
            return Err(Violation::invalid("a call with this id is not answered yet: choose another one"));
        }
        let most = limits.delivery.open_calls_per_job;
        let by_host = self.storing.len() + usize::from(self.renewing.is_some());
        if self.open.len() + self.awaited.len() + by_host >= most {
            let full = alloc::format!("{most} calls of this job wait for their answers: call again after the first");
            return Err(Violation::exhausted("open_calls_per_job", BoundOf::Job, most as u64, full));
        }
        Ok(())
    }

    /// Takes the calls that this child answers.
    pub(super) fn take_awaited(&mut self, child: JobId) -> Vec<CallId> {
        let calls: Vec<CallId> = self.awaited.iter().filter(|(_, job)| **job == child).map(|(id, _)| *id).collect();
        self.awaited.retain(|_, job| *job != child);
        calls
    }
}

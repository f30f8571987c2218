//! Requests for a job that cannot be accepted before the host has done something: who makes
//! them, what the host does, and for which job credentials are issued.

use sha2::{Digest as _, Sha256};

use crate::error::Violation;
use crate::id::{ConnId, JobId, LogPos, OpId, Principal};
use crate::json::Json;
use crate::model::agent::AgentRef;

/// Who makes the request, which is handled again once the host has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asker {
    /// A connection, with its submit.
    Conn(ConnId),
    /// The agent of a job, with the child that it asks for.
    Agent(JobId),
    /// A workflow, with the number of the step to begin.
    Step(JobId, usize),
    /// A schedule, with the job of one of its times.
    Schedule(LogPos),
}

impl Asker {
    /// Whether the asker itself bounds how long it waits.
    pub(super) fn keeps_time(self) -> bool {
        match self {
            Asker::Conn(_) | Asker::Agent(_) => true,
            Asker::Step(..) | Asker::Schedule(_) => false,
        }
    }
}

/// What the host does before a job is accepted.
#[derive(Debug)]
pub(super) enum Preparing {
    /// It checks whether the input fits this agent.
    Input(OpId, AgentRef),
    /// It issues credentials.
    Credentials(OpId, Ordered),
}

impl Preparing {
    /// The operation that the host is asked to do.
    pub(super) fn op(&self) -> OpId {
        let (Preparing::Input(op, _) | Preparing::Credentials(op, _)) = self;
        *op
    }

    /// Whether it issues credentials.
    pub(super) fn issues(&self) -> bool {
        matches!(self, Preparing::Credentials(..))
    }
}

/// What the host did, with the outcome.
pub(super) type Prepared = (Preparing, Result<(), Violation>);

/// What credentials were ordered for.
#[derive(Clone, Debug)]
pub(super) struct Ordered {
    /// The job that is to have them.
    pub(super) job: JobId,
    /// Its principal, agent and lease, as a digest.
    terms: [u8; 32],
}

impl Ordered {
    /// For a job of this principal and this agent that is granted this lease.
    pub(super) fn new(job: JobId, principal: &Principal, agent: &AgentRef, lease: &Json) -> Ordered {
        Ordered { job, terms: digest(principal, agent, lease) }
    }

    /// Whether they are for such a job. By the time they are issued, its owner or lease may have
    /// changed.
    pub(super) fn fits(&self, principal: &Principal, agent: &AgentRef, lease: &Json) -> bool {
        self.terms == digest(principal, agent, lease)
    }
}

fn digest(principal: &Principal, agent: &AgentRef, lease: &Json) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in [&*alloc::format!("{principal}"), &*alloc::format!("{agent}"), lease.as_str()] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.finalize().into()
}

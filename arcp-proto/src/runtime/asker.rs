//! Who asks for a job that cannot be accepted before the host has done something for it,
//! and for what job credentials are issued.

use crate::id::{ConnId, JobId, Principal};
use crate::json::Json;
use crate::model::agent::AgentRef;

/// Who is heard again once the host has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asker {
    /// A connection, with its submit.
    Conn(ConnId),
    /// The agent of a job, with the child that it asks for.
    Agent(JobId),
}

/// What credentials are issued for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ordered {
    /// The job that is to have them.
    pub(super) job: JobId,
    pub(super) principal: Principal,
    pub(super) agent: AgentRef,
    /// The lease that it is granted.
    pub(super) lease: Json,
}

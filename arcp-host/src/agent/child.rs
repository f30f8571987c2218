//! Delegation: child jobs that an agent has other agents do.

use arcp_proto::id::JobId;
use arcp_proto::runtime::{AgentCall, ChildEnd, Delegation};

use super::replies::{child_of, end_of};
use super::{AsyncContext, CallError, Context};

/// A job that another agent does on behalf of this one. It goes on if this value is dropped. If its
/// parent is cancelled or fails, the child is cancelled too.
#[derive(Clone, Copy, Debug)]
pub struct Child<'j> {
    parent: &'j Context,
    job: JobId,
}

impl Context {
    /// Delegates work to another agent, as a child of this job. The child may do no more than this
    /// job, and its budget is taken out of this job's budget until the child has ended. Readers of
    /// the job see the delegation, or the reason of its refusal.
    ///
    /// ```
    /// use arcp_host::agent::{AgentError, Context, Outcome};
    /// use arcp_proto::{json::Json, runtime::Delegation};
    /// fn both(job: &Context) -> Result<Outcome, AgentError> {
    ///     let input = Some(Json::string("hi"));
    ///     let child = job.delegate(Delegation { input, ..Delegation::new("echo") })?;
    ///     Ok(child.wait()?.result.map_or(Outcome::Empty, Outcome::Json))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`], and the job goes on: with `PERMISSION_DENIED` if the lease grants no
    /// `agent.delegate` for that agent, `LEASE_SUBSET_VIOLATION` if the child asks for more than
    /// this job has, `AGENT_NOT_AVAILABLE` or `RESOURCE_EXHAUSTED`. [`CallError::Stopped`] as soon
    /// as the job is told to stop.
    pub fn delegate(&self, delegation: Delegation) -> Result<Child<'_>, CallError> {
        child_of(self.ask(AgentCall::Delegate(delegation))?).map(|job| Child::of(self, job))
    }
}

impl Child<'_> {
    /// A child that was made earlier, such as before a restart.
    pub fn of(parent: &Context, job: JobId) -> Child<'_> {
        Child { parent, job }
    }

    /// The id of the child job.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// Waits until the child has ended. If the child waits for a slot, it gets the slot of this
    /// job.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] if it is not a child of this job, or ended so long ago that its end
    /// is not kept any more; [`CallError::Stopped`] as soon as the job is told to stop.
    pub fn wait(&self) -> Result<ChildEnd, CallError> {
        end_of(self.parent.ask(AgentCall::AwaitChild { job: self.job })?)
    }
}

/// A [`Child`] of an [`AsyncAgent`](super::AsyncAgent).
#[derive(Clone, Debug)]
pub struct AsyncChild {
    parent: AsyncContext,
    job: JobId,
}

impl AsyncContext {
    /// Delegates work to another agent: see [`Context::delegate`].
    ///
    /// # Errors
    ///
    /// As [`Context::delegate`].
    pub async fn delegate(&self, delegation: Delegation) -> Result<AsyncChild, CallError> {
        child_of(self.ask(AgentCall::Delegate(delegation)).await?).map(|job| AsyncChild::of(self, job))
    }
}

impl AsyncChild {
    /// A child that was made earlier.
    pub fn of(parent: &AsyncContext, job: JobId) -> AsyncChild {
        AsyncChild { parent: parent.clone(), job }
    }

    /// The id of the child job.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// Waits until the child has ended.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    pub async fn wait(&self) -> Result<ChildEnd, CallError> {
        end_of(self.parent.ask(AgentCall::AwaitChild { job: self.job }).await?)
    }
}

//! Jobs that an agent has other agents do.

use arcp_proto::id::JobId;
use arcp_proto::runtime::{AgentCall, ChildEnd, Delegation};

use super::replies::{child_of, end_of};
use super::{AsyncContext, CallError, Context};

/// A job that another agent does on behalf of this one. It goes on if this is
/// dropped; it ends with its parent, unless that ends well.
#[derive(Clone, Copy, Debug)]
pub struct Child<'j> {
    parent: &'j Context,
    job: JobId,
}

impl Context {
    /// Has another agent do something, as a child of this job: it may do no more than
    /// this one, and what it may spend is taken out of what this one has left until
    /// it has ended. Everybody who may see the job is shown that, also why not.
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
    /// [`CallError::Refused`] with `PERMISSION_DENIED` where the lease grants no
    /// `agent.delegate` for that agent, `LEASE_SUBSET_VIOLATION` where the child asks
    /// for more than this job has, `AGENT_NOT_AVAILABLE` or `RESOURCE_EXHAUSTED`, and
    /// the job goes on; [`CallError::Stopped`] as soon as the job is told to stop.
    pub fn delegate(&self, delegation: Delegation) -> Result<Child<'_>, CallError> {
        child_of(self.ask(AgentCall::Delegate(delegation))?).map(|job| Child::of(self, job))
    }
}

impl Child<'_> {
    /// A child that was made before, such as before a restart.
    pub fn of(parent: &Context, job: JobId) -> Child<'_> {
        Child { parent, job }
    }

    /// Its job.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// Waits until it has ended. While it waits for a slot it has that of this job.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] if it is no child of this job, or ended so long ago that
    /// how is not held any more; [`CallError::Stopped`] as soon as the job is told to
    /// stop.
    pub fn wait(&self) -> Result<ChildEnd, CallError> {
        end_of(self.parent.ask(AgentCall::AwaitChild { job: self.job })?)
    }
}

/// The same, of an [`AsyncAgent`](super::AsyncAgent).
#[derive(Clone, Debug)]
pub struct AsyncChild {
    parent: AsyncContext,
    job: JobId,
}

impl AsyncContext {
    /// Has another agent do something: see [`Context::delegate`].
    ///
    /// # Errors
    ///
    /// As [`Context::delegate`].
    pub async fn delegate(&self, delegation: Delegation) -> Result<AsyncChild, CallError> {
        child_of(self.ask(AgentCall::Delegate(delegation)).await?).map(|job| AsyncChild::of(self, job))
    }
}

impl AsyncChild {
    /// A child that was made before.
    pub fn of(parent: &AsyncContext, job: JobId) -> AsyncChild {
        AsyncChild { parent: parent.clone(), job }
    }

    /// Its job.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    pub async fn wait(&self) -> Result<ChildEnd, CallError> {
        end_of(self.parent.ask(AgentCall::AwaitChild { job: self.job }).await?)
    }
}

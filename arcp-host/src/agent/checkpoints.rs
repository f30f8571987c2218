//! Checkpoints that people ask an agent for while it runs.

use std::time::Duration;

use super::task::AsyncContext;
use super::{AgentControl, Context, Stopped};

/// Somebody wants a checkpoint: the next [`checkpoint`](Context::checkpoint) is it.
/// Several wishes that were not taken are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedCheckpoint {
    label: Option<String>,
}

impl WantedCheckpoint {
    /// What it is to be called, if whoever wants it says so: it is called so whatever the
    /// agent says.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }
}

/// Waits so long for somebody to want a checkpoint of a job, or not at all. Only agents
/// whose [`Terms`](crate::registry::Terms) say that they give checkpoints are asked for any.
///
/// ```no_run
/// use std::time::Duration;
/// use arcp_host::agent::{AgentError, Context, Outcome, checkpoint_wanted_within};
///
/// fn work(job: &Context) -> Result<Outcome, AgentError> {
///     for step in 0..100_u32 {
///         // ... something that takes a while ...
///         if checkpoint_wanted_within(job, Duration::ZERO)?.is_some() {
///             job.checkpoint(step.to_string(), None)?;
///         }
///     }
///     Ok(Outcome::Empty)
/// }
/// ```
///
/// # Errors
///
/// [`Stopped`] as soon as the job is told to stop.
pub fn checkpoint_wanted_within(job: &Context, span: Duration) -> Result<Option<WantedCheckpoint>, Stopped> {
    job.link.wait_for(span, |state| state.wanted.take())
}

impl AsyncContext {
    /// Waits for somebody to want a checkpoint: for a `select` beside the work.
    ///
    /// # Errors
    ///
    /// [`Stopped`] as soon as the job is told to stop.
    pub async fn checkpoint_wanted(&self) -> Result<WantedCheckpoint, Stopped> {
        std::future::poll_fn(|cx| {
            self.link().poll(cx, |state| match state.wanted.take() {
                _ if state.stopping || state.over => Some(Err(Stopped)),
                wanted => wanted.map(Ok),
            })
        })
        .await
    }
}

impl AgentControl {
    /// Somebody wants a checkpoint of its agent.
    pub(crate) fn want_checkpoint(&self, label: Option<String>) {
        self.change(|state| state.wanted = Some(WantedCheckpoint { label }));
    }
}

//! Checkpoints that clients request from a running agent.

use std::time::Duration;

use super::task::AsyncContext;
use super::{AgentControl, Context, Stopped};

/// A request for a checkpoint: the next [`checkpoint`](Context::checkpoint) answers it. Several
/// requests that were not taken become one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedCheckpoint {
    label: Option<String>,
}

impl WantedCheckpoint {
    /// The label that the requester chose, if any. It takes precedence over the label of the agent.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }
}

/// Waits at most `span` for a request for a checkpoint; with zero it does not wait. Only agents
/// whose [`Terms`](crate::registry::Terms) say that they give checkpoints get requests.
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
    /// Waits for a request for a checkpoint: for a `select` beside the work.
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
    /// Notes that a checkpoint was requested.
    pub(crate) fn want_checkpoint(&self, label: Option<String>) {
        self.change(|state| state.wanted = Some(WantedCheckpoint { label }));
    }
}

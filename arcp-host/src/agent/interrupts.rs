//! Interrupts: messages of people to a running agent.

use std::time::Duration;

use arcp_proto::runtime::{AgentCall, OpenInterrupt};

use super::task::AsyncContext;
use super::{AgentControl, Context, Stopped};

/// A message of a person to a running agent. The job is blocked until the agent goes on. An
/// interrupt that was open when the runtime ended is delivered again.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the job is blocked until `go_on` is called with it"]
pub struct Interrupt(OpenInterrupt);

impl Interrupt {
    /// The text; may be empty.
    pub fn prompt(&self) -> &str {
        &self.0.prompt
    }

    /// The principal that sent it.
    pub fn by(&self) -> &str {
        &self.0.by
    }

    /// Its number in the job, from 1.
    pub fn number(&self) -> u32 {
        self.0.number
    }
}

/// Only agents whose [`Terms`](crate::registry::Terms) say that they observe interrupts get any.
impl Context {
    /// Waits at most `span` for an interrupt; with zero it does not wait.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use arcp_host::agent::{AgentError, Context, Outcome};
    ///
    /// fn work(job: &Context) -> Result<Outcome, AgentError> {
    ///     for step in 0..100 {
    ///         while let Some(interrupt) = job.interrupt_within(Duration::ZERO)? {
    ///             // ... heed what it says, perhaps ask people ...
    ///             job.go_on(interrupt)?;
    ///         }
    ///         job.progress(step, Some(100), None)?;
    ///     }
    ///     Ok(Outcome::Empty)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Stopped`] as soon as the job is told to stop.
    pub fn interrupt_within(&self, span: Duration) -> Result<Option<Interrupt>, Stopped> {
        self.link.wait_for(span, |state| state.interrupts.pop_front())
    }

    /// Goes on after an interrupt.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn go_on(&self, interrupt: Interrupt) -> Result<(), Stopped> {
        self.call(AgentCall::GoOn { interrupt: Some(interrupt.0.number) })
    }
}

/// As for [`Context`].
impl AsyncContext {
    /// Waits for an interrupt: for a `select` beside the work.
    ///
    /// # Errors
    ///
    /// [`Stopped`] as soon as the job is told to stop.
    pub async fn interrupted(&self) -> Result<Interrupt, Stopped> {
        std::future::poll_fn(|cx| {
            self.link().poll(cx, |state| match state.interrupts.pop_front() {
                _ if state.stopping || state.over => Some(Err(Stopped)),
                interrupt => interrupt.map(Ok),
            })
        })
        .await
    }

    /// Goes on after an interrupt.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub async fn go_on(&self, interrupt: Interrupt) -> Result<(), Stopped> {
        self.call(AgentCall::GoOn { interrupt: Some(interrupt.0.number) }).await
    }
}

impl AgentControl {
    /// Queues an interrupt for the agent.
    pub(crate) fn interrupt(&self, interrupt: OpenInterrupt) {
        self.change(|state| state.interrupts.push_back(Interrupt(interrupt)));
    }
}

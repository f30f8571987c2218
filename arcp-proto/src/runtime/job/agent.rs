//! What agents say, and how they end.
//!
//! No call of an agent is a question. One that is would be answered by
//! `on_agent_call`, in the same input where that can be; otherwise its job has
//! one more [`Wait`](super::Wait).

use super::end::Cause;
use super::{ChunkTerms, Job, Jobs};
use crate::error::ErrorCode;
use crate::id::JobId;
use crate::json::{Json, Object};
use crate::model::event::{EventKind, JobError, JobEvent, Terminal};
use crate::runtime::context::Context;
use crate::runtime::io::{AgentCall, AgentExit};

/// A rule that an agent broke: its job fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault(pub(super) &'static str);

impl Jobs {
    /// An agent calls. `terms` says how the pieces of a result may look.
    pub(in crate::runtime) fn on_agent_call(
        &mut self,
        ctx: &mut Context,
        id: JobId,
        call: AgentCall,
        terms: impl FnOnce(&Context) -> ChunkTerms,
    ) {
        if !self.table.get(id).is_some_and(Job::is_heard) {
            return;
        }
        let called = self.table.change(id, |job| {
            job.on_agent_heard(ctx);
            job.take_call(ctx, call, terms)
        });
        if let Some(Err(Fault(why))) = called {
            self.end(ctx, id, Cause::failed(why));
        }
    }
}

impl Job {
    fn take_call(
        &mut self,
        ctx: &mut Context,
        call: AgentCall,
        terms: impl FnOnce(&Context) -> ChunkTerms,
    ) -> Result<(), Fault> {
        let bytes = call.bytes();
        match call {
            AgentCall::Heartbeat => {}
            AgentCall::Emit { kind, body } => {
                self.run.spend_credit(bytes)?;
                let event = said(&kind, &body, ctx.config.limits.event_body_bytes);
                self.append(ctx, event, true);
            }
            AgentCall::Chunk { data, more } => {
                self.run.spend_credit(bytes)?;
                let terms = terms(ctx);
                self.take_piece(ctx, data, more, terms)?;
            }
            AgentCall::Checkpoint { state, label } => {
                self.run.spend_credit(bytes)?;
                self.checkpoint(ctx, state, label.as_deref())?;
            }
        }
        Ok(())
    }

    /// How a job that goes on ends when its agent is gone.
    pub(super) fn conclude(
        &mut self,
        ctx: &mut Context,
        exit: AgentExit,
        terms: impl FnOnce(&Context) -> ChunkTerms,
    ) -> Terminal {
        let streamed = self.run.stream.is_some();
        match exit {
            AgentExit::Success { result: Some(_), .. } if streamed => {
                internal("the agent gave a result after sending one in pieces")
            }
            AgentExit::Success { result: None, summary } if streamed => self.end_stream(ctx, summary),
            AgentExit::Success { result: Some(result), summary } => {
                let terms = terms(ctx);
                self.end_with(ctx, result, summary, terms).unwrap_or_else(|Fault(why)| internal(why))
            }
            AgentExit::Success { result: None, summary } => Terminal::success(None, summary),
            AgentExit::Failure(error) => Terminal::failure(error),
            AgentExit::Lost => internal("the agent failed unexpectedly"),
        }
    }
}

/// What an agent said, or a warning if that cannot be shown: nothing is lost
/// without a trace.
fn said(kind: &str, body: &Json, bound: usize) -> JobEvent {
    let kind = EventKind::from(kind);
    if body.as_str().len() > bound {
        return warning(&alloc::format!("an event of {} bytes was dropped: at most {bound}", body.as_str().len()));
    }
    match kind.normalise(body) {
        Ok(body) => JobEvent::Emitted { kind, body },
        Err(violation) => warning(&alloc::format!("an event was dropped: {violation}")),
    }
}

fn internal(message: &str) -> Terminal {
    Terminal::failure(JobError::new(ErrorCode::Internal, message))
}

fn warning(message: &str) -> JobEvent {
    let mut body = Object::new();
    body.str("level", "warn").str("message", message);
    JobEvent::Emitted { kind: EventKind::Log, body: body.json() }
}

//! Calls of agents, and how agents end.

use alloc::boxed::Box;
use alloc::string::ToString as _;

use super::cause::{Cause, Fault};
use super::credit::check_credit;
use super::delegation::{WiderCall, wider_call};
use super::lease::{self, Reported};
use super::questions::reply;
use super::result::{TOO_LARGE, beginning, short};
use super::{AgentState, ChunkTerms, Job, Jobs, is_over};
use super::{interrupt, prompt, prompts, streams};
use crate::error::{ErrorCode, Violation};
use crate::id::{CallId, JobId};
use crate::json::{Json, Object};
use crate::limits::FrameLimits;
use crate::model::artifact::ArtifactRef;
use crate::model::event::{EventKind, JobError, JobEvent, JobResult, Terminal};
use crate::runtime::context::Context;
use crate::runtime::io::{AgentCall, AgentExit, AgentReply};

impl Jobs {
    /// Processes calls of an agent. With `asked` there is one call, which the agent wants answered. Stops at the
    /// first call that involves more than its job, and returns that with its bytes. `terms`: what the readers can
    /// take of a result in pieces.
    pub(in crate::runtime) fn on_agent_calls(
        &mut self,
        ctx: &mut Context,
        (id, asked): (JobId, Option<CallId>),
        calls: &mut impl ExactSizeIterator<Item = AgentCall>,
        terms: impl Fn(&Context) -> ChunkTerms,
    ) -> Option<(WiderCall, u64)> {
        while calls.len() > 0 {
            let Some(job) = self.table.get(id).filter(|job| job.run.state == AgentState::Running) else {
                return None; // The agent is gone: it called before that.
            };
            if is_over(job) {
                // Calls do not count any longer, but one that waits is answered.
                asked.into_iter().for_each(|asked| reply(ctx, id, asked, AgentReply::Stopped));
                return None;
            }
            let called = self.table.change(id, |job| {
                job.on_agent_heard(ctx);
                take_calls(job, ctx, asked, calls, &terms)
            })?;
            match called {
                Ok(Some(wider)) => return Some(wider),
                Ok(None) => {
                    let obstacle = self.table.get(id).and_then(|job| lease::obstacle(&self.table, job, ctx.now.utc));
                    obstacle.into_iter().for_each(|cause| self.end(ctx, id, cause));
                }
                Err(Fault(why)) => {
                    asked.into_iter().for_each(|asked| reply(ctx, id, asked, AgentReply::Stopped));
                    self.end(ctx, id, Cause::failed(why));
                }
            }
        }
        None
    }
}

/// Processes calls of an agent, up to the first that involves more than its job, which it returns, or the first
/// after which the whole family decides whether the job goes on.
fn take_calls(
    job: &mut Job,
    ctx: &mut Context,
    asked: Option<CallId>,
    calls: &mut impl Iterator<Item = AgentCall>,
    terms: &impl Fn(&Context) -> ChunkTerms,
) -> Result<Option<(WiderCall, u64)>, Fault> {
    for call in calls {
        let bytes = call.bytes();
        match wider_call(job, asked, call) {
            Ok(wider) => return Ok(Some((wider, bytes))),
            Err(call) => job.on_call(ctx, asked, (call, bytes), terms)?,
        }
        if lease::may_be_obstructed(job, ctx.now.utc) {
            break;
        }
    }
    Ok(None)
}

impl Job {
    /// Processes a call, and answers it if the agent wants that. A call that breaks a rule ends the job, unless the
    /// agent can be told by an answer.
    fn on_call(
        &mut self,
        ctx: &mut Context,
        asked: Option<CallId>,
        (call, bytes): (AgentCall, u64),
        terms: impl FnOnce(&Context) -> ChunkTerms,
    ) -> Result<(), Fault> {
        let is_free = call.is_free();
        if !is_free {
            check_credit(self)?;
        }
        let (before, returning) = (ctx.log.last(), ctx.log.returning());
        let answer = match asked {
            None => self.take_call(ctx, call, terms).map(|_| None)?,
            Some(asked) => self.answer_to(ctx, asked, call, terms).map(|answer| (asked, answer)),
        };
        let recorded = ctx.log.last() > before;
        if recorded && !is_free && ctx.log.returning() == returning {
            // None of its records is an event: it recorded a decision, or a return from an interrupt.
            ctx.log.return_call(self.id);
        }
        if !is_free {
            self.run.spend_credit(ctx, self.id, bytes, recorded);
        }
        if let Some((asked, answer)) = answer {
            // A permission counts once it is durable.
            self.run.answer(ctx, (self.id, asked), answer, recorded || prompts::has_grants(self));
        }
        Ok(())
    }

    /// Processes a call that the agent wants no answer to.
    fn take_call(
        &mut self,
        ctx: &mut Context,
        call: AgentCall,
        terms: impl FnOnce(&Context) -> ChunkTerms,
    ) -> Result<(), Fault> {
        match call {
            AgentCall::Heartbeat
            | AgentCall::Remaining
            | AgentCall::Authorize { .. }
            | AgentCall::Ask { .. }
            // Handled by `delegation`, `provisioning` and `artifact`, which can reach all jobs.
            | AgentCall::PutArtifact(_)
            | AgentCall::Delegate(_)
            | AgentCall::RenewCredential { .. }
            | AgentCall::AwaitChild { .. } => Ok(()),
            AgentCall::Emit { kind, body } => {
                // A dropped event leaves a trace.
                if let Err(why) = emit(self, ctx, kind, &body, false) {
                    self.append(ctx, warning(&alloc::format!("an event was dropped: {why}")), true);
                }
                Ok(())
            }
            AgentCall::Chunk { data, more } => {
                let terms = terms(ctx);
                self.take_piece(ctx, data, more, terms)
            }
            AgentCall::Checkpoint { state, label } => self.checkpoint(ctx, state, label.as_deref(), false),
            AgentCall::GoOn { interrupt } => {
                // The interrupt may be over, because the job is told to stop.
                let _ = interrupt::go_on(self, ctx, interrupt);
                Ok(())
            }
            AgentCall::Stream { stream, says } => {
                match streams::on_call(self, ctx, (stream, says), terms) {
                    // The stream is over, and the agent is told so.
                    Ok(()) | Err(Violation { code: ErrorCode::FailedPrecondition, .. }) => {}
                    Err(why) => {
                        let message = alloc::format!("what was said in a stream was dropped: {why}");
                        self.append(ctx, warning(&message), true);
                    }
                }
                Ok(())
            }
        }
    }

    /// Processes a call and returns the answer. `None`: people answer it.
    fn answer_to(
        &mut self,
        ctx: &mut Context,
        asked: CallId,
        call: AgentCall,
        terms: impl FnOnce(&Context) -> ChunkTerms,
    ) -> Option<AgentReply> {
        let is_asked = self.prompts.as_deref().is_some_and(|prompts| prompts.has_call(asked));
        if let Err(refused) = self.run.questions.check(asked, is_asked, &ctx.config.limits) {
            return Some(refused.into());
        }
        let done = match call {
            AgentCall::Heartbeat
            | AgentCall::Delegate(_)
            | AgentCall::RenewCredential { .. }
            | AgentCall::PutArtifact(_)
            | AgentCall::AwaitChild { .. } => {
                return Some(AgentReply::Taken { event: None });
            }
            AgentCall::Remaining => {
                return Some(AgentReply::Remaining(self.run.remaining(ctx, self.id, lease::budget_left(self))));
            }
            AgentCall::Authorize { operation, target, price } => {
                let allowed = lease::on_authorize(self, ctx, (&operation, &target), &price);
                return Some(allowed.unwrap_or_else(AgentReply::from));
            }
            AgentCall::Ask { question, timeout_ms } => {
                return prompt::ask(self, ctx, asked, *question, timeout_ms).unwrap_or_else(|why| Some(why.into()));
            }
            AgentCall::GoOn { interrupt } => {
                let taken = |()| AgentReply::Taken { event: None };
                return Some(interrupt::go_on(self, ctx, interrupt).map_or_else(AgentReply::from, taken));
            }
            AgentCall::Emit { kind, body } => {
                return Some(match emit(self, ctx, kind, &body, true) {
                    Ok(Emitted { n, denied: None }) => AgentReply::Taken { event: Some(n) },
                    Ok(Emitted { denied: Some(why), .. }) | Err(why) => why.into(),
                });
            }
            AgentCall::Chunk { data, more } => {
                let terms = terms(ctx);
                self.take_piece(ctx, data, more, terms)
            }
            AgentCall::Checkpoint { state, label } => self.checkpoint(ctx, state, label.as_deref(), true),
            AgentCall::Stream { stream, says } => {
                let done = streams::on_call(self, ctx, (stream, says), terms);
                return Some(done.map_or_else(AgentReply::from, |()| AgentReply::Taken { event: Some(self.count()) }));
            }
        };
        Some(match done {
            Ok(()) => AgentReply::Taken { event: Some(self.count()) },
            Err(Fault(why)) => Violation::invalid(why).into(),
        })
    }

    /// How an unended job ends when its agent is gone.
    pub(super) fn conclude(
        &mut self,
        ctx: &mut Context,
        (exit, stored): (AgentExit, Option<ArtifactRef>),
        terms: impl FnOnce(&Context) -> ChunkTerms,
    ) -> Terminal {
        let (streamed, terms) = (self.run.sends.result.is_some(), terms(ctx));
        match in_a_frame(exit, terms.budget()) {
            AgentExit::Success { result: Some(_), .. } | AgentExit::Stored { .. } if streamed => {
                internal("the agent gave a result after sending one in pieces")
            }
            AgentExit::Success { result: None, summary } if streamed => self.end_stream(ctx, summary, terms),
            AgentExit::Success { result: Some(result), summary } => {
                self.end_with(ctx, result, summary, terms).unwrap_or_else(|Fault(why)| internal(why))
            }
            AgentExit::Success { result: None, summary } => Terminal::success(None, summary),
            AgentExit::Stored { artifact, summary } => match stored {
                Some(stored) => Terminal::success(Some(JobResult::Stored(Box::new(stored))), summary),
                None => internal(&alloc::format!(
                    "the result was to be the artifact `{artifact}`: the job's agent has left none such, or it is gone"
                )),
            },
            AgentExit::Failure(error) => Terminal::failure(error),
            AgentExit::Lost => internal("the agent failed unexpectedly"),
        }
    }
}

/// How an agent has ended, if that is heard later: no more of it waits than might be said then.
pub(super) fn as_held(exit: AgentExit, limits: &FrameLimits) -> AgentExit {
    let most = limits.result_bytes.max(limits.result_frame_bytes as u64);
    match in_a_frame(exit, limits.result_frame_bytes) {
        AgentExit::Success { result: Some(result), .. } if result.as_str().len() as u64 > most => {
            AgentExit::Failure(JobError::new(ErrorCode::Internal, TOO_LARGE))
        }
        exit @ (AgentExit::Success { .. } | AgentExit::Stored { .. } | AgentExit::Failure(_) | AgentExit::Lost) => exit,
    }
}

/// An exit whose words leave room for the rest of a frame of so many bytes: what is
/// too long for that is cut, and details that are too long are left out.
fn in_a_frame(exit: AgentExit, bytes: usize) -> AgentExit {
    match exit {
        AgentExit::Success { result, summary } => {
            AgentExit::Success { result, summary: summary.map(|summary| beginning(&summary, bytes / 4)) }
        }
        AgentExit::Stored { artifact, summary } => {
            AgentExit::Stored { artifact, summary: summary.map(|summary| beginning(&summary, bytes / 4)) }
        }
        AgentExit::Failure(error) => {
            let message = beginning(&error.message, bytes / 2);
            let details = error.details.filter(|details| details.as_str().len() <= bytes / 4);
            AgentExit::Failure(JobError { code: short(error.code), message, details, ..error })
        }
        AgentExit::Lost => AgentExit::Lost,
    }
}

/// Adds an event of the agent, and its consequences: a cost is counted, and an operation outside the lease fails.
///
/// # Errors
///
/// Why the event is not added.
fn emit(job: &mut Job, ctx: &mut Context, kind: EventKind, body: &Json, asked: bool) -> Result<Emitted, Violation> {
    let event = emitted(kind, body, ctx.config.limits.frame.event_body_bytes)?;
    let (cost, reported) = (lease::cost_of(job, &event)?, Reported::by(&event));
    job.append(ctx, event, true);
    let n = job.count();
    if let Some(cost) = cost {
        lease::charge(job, ctx, cost);
    }
    let denied = lease::check_reported(job, ctx, reported, asked).err();
    Ok(Emitted { n, denied })
}

/// An event that was added.
struct Emitted {
    /// Its number in the job.
    n: u64,
    /// Why the operation that it reports is not allowed.
    denied: Option<Violation>,
}

/// The event that an agent emits.
fn emitted(kind: EventKind, body: &Json, bound: usize) -> Result<JobEvent, Violation> {
    let bytes = body.as_str().len();
    if bytes > bound {
        return Err(Violation::invalid(alloc::format!("it has {bytes} bytes: at most {bound}")));
    }
    let body = kind.normalise(body)?;
    // A body composed of texts that fit may be nested too deeply to be read again. Each level takes two bytes.
    if body.as_str().len() > 2 * Json::MAX_DEPTH {
        crate::json::check(body.as_str(), Json::MAX_DEPTH).map_err(|why| Violation::invalid(why.to_string()))?;
    }
    Ok(JobEvent::Emitted { kind, body })
}

fn internal(message: &str) -> Terminal {
    Terminal::failure(JobError::new(ErrorCode::Internal, message))
}

fn warning(message: &str) -> JobEvent {
    let mut body = Object::new();
    body.str("level", "warn").str("message", message);
    JobEvent::Emitted { kind: EventKind::Log, body: body.json() }
}

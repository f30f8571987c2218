//! Calls whose answers the agent waits for.
//!
//! If the answer is known at once, it is given in the same input. An answer that reveals something done, by this call
//! or by others, waits until that is durable; until then the call is open, and the job waits ([`Wait::Answer`]). A
//! cancel, or the end of the job, answers every open call at once. A call that somebody else answers is open with a
//! wait of its own, whose waker answers it: a child ([`Wait::Child`]), people ([`Wait::Prompt`]), or the host, which
//! issues credentials ([`Wait::Renewal`]) and stores artifacts ([`Wait::Artifact`]).

use alloc::collections::BTreeSet;

use super::interrupt;
use super::open_calls::{OpenCall, OpenCalls};
use super::table::Table;
use super::{AgentRun, Wait};
use crate::error::Violation;
use crate::id::{CallId, JobId};
use crate::lease::Budget;
use crate::model::event::JobError;
use crate::runtime::context::Context;
use crate::runtime::io::{AgentReply, Output, Remaining};
use crate::runtime::log::Waiter;
use crate::runtime::timers::Timer;

impl Table {
    /// More records are durable: sends the answers that waited for them.
    pub(in crate::runtime) fn on_answer_durable(&mut self, ctx: &mut Context, id: JobId) {
        self.change(id, |job| {
            if let Some(OpenCalls { open, .. }) = job.run.questions.known_mut() {
                while open.front().is_some_and(|open| ctx.log.is_durable(open.until))
                    && let Some(answered) = open.pop_front()
                {
                    reply(ctx, id, answered.id, answered.reply);
                }
                if open.is_empty() {
                    job.run.waits.remove(&Wait::Answer);
                }
            }
            interrupt::tell(job, ctx);
        });
    }
}

impl AgentRun {
    /// Answers a call: at once, or, if the answer reveals records, once they are durable. `recorded`: the call left
    /// records.
    pub(super) fn answer(&mut self, ctx: &mut Context, (job, id): (JobId, CallId), answer: AgentReply, recorded: bool) {
        let until = ctx.log.last();
        let reveals = match &answer {
            // Nothing that a crash could take back.
            AgentReply::Refused(_) | AgentReply::Stopped => false,
            AgentReply::Delegated { .. }
            | AgentReply::ChildEnded(_)
            | AgentReply::Answered { .. }
            | AgentReply::Renewed(_)
            | AgentReply::Kept(_) => true,
            AgentReply::Taken { .. } | AgentReply::Remaining(_) | AgentReply::Allowed { .. } => recorded,
        };
        if !reveals || ctx.log.is_durable(until) {
            return reply(ctx, job, id, answer);
        }
        self.questions.open.push_back(OpenCall { id, until, reply: answer });
        self.waits.insert(Wait::Answer);
        ctx.log.wait(until, Waiter::Agent(job));
    }

    /// The job is told to stop, or is over: answers all open calls.
    pub(super) fn stop_questions(&mut self, ctx: &mut Context, job: JobId) {
        let mut stopped = |id| reply(ctx, job, id, AgentReply::Stopped);
        let mut storing = BTreeSet::new();
        let mut renewing = None;
        if let Some(calls) = self.questions.known_mut() {
            core::mem::take(&mut calls.open).into_iter().for_each(|open| stopped(open.id));
            core::mem::take(&mut calls.awaited).into_keys().for_each(&mut stopped);
            (storing, renewing) = (core::mem::take(&mut calls.storing), calls.renewing.take());
        }
        if let Some(backlog) = self.allowance.backlog.as_deref_mut() {
            backlog.take_asked().into_iter().for_each(&mut stopped);
        }
        self.return_unrecorded(ctx, job, storing.len());
        for id in renewing.into_iter().chain(storing) {
            reply(ctx, job, id, AgentReply::Stopped);
        }
        self.waits.retain(|wait| !is_of_call(wait));
    }

    /// The agent is gone: drops its open calls.
    pub(super) fn drop_questions(&mut self) {
        self.questions.take_out();
        self.waits.retain(|wait| !is_of_call(wait));
    }

    /// What is left to the job of time, credit and budget.
    pub(super) fn remaining(&self, ctx: &Context, job: JobId, budget: Budget) -> Remaining {
        let ends = [Timer::MaxRuntime(job), Timer::LeaseExpiry(job), Timer::CancelGrace(job)];
        let end = ends.into_iter().filter_map(|timer| ctx.timers.at(timer)).min();
        let left = end.map(|end| u64::try_from(end.since(ctx.now.mono).as_millis()).unwrap_or(u64::MAX));
        let credit = self.allowance.credit;
        Remaining { time_ms: left, calls: credit.calls, bytes: u64::try_from(credit.bytes).unwrap_or(0), budget }
    }
}

/// Whether a wait ends with the calls of an agent.
fn is_of_call(wait: &Wait) -> bool {
    matches!(wait, Wait::Answer | Wait::Child(_) | Wait::Renewal | Wait::Artifact)
}

/// Answers a call.
pub(super) fn reply(ctx: &mut Context, job: JobId, id: CallId, reply: AgentReply) {
    ctx.output(Output::AgentReply { job, id, reply });
}

impl From<Violation> for AgentReply {
    fn from(why: Violation) -> AgentReply {
        let details = why.details;
        AgentReply::Refused(JobError { details, ..JobError::new(why.code, why.message) })
    }
}

//! Backlogs: calls of agents that the core processes later. Records are committed in the order in which they are made,
//! so an account with many jobs could put all that its agents have credit for ahead of everybody else's records. If an
//! account has caused [`agent_undurable_bytes`](crate::limits::HistoryLimits::agent_undurable_bytes) that are not
//! durable, its agents are heard once that is less.
//!
//! The calls of an agent keep their order, and its exit comes last; heartbeats are processed at once. Accounts take
//! turns, and so do the jobs of each. Each turn is an input of its own, by a timer, so that no input contains calls of
//! somebody else. A backlog consists of calls within the agent's credit, and not of events. Once a job is over, its
//! backlog is emptied at once: the exit of its agent is heard, and its slot comes back.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::agent::as_held;
use super::backlog::{Line, Said};
use super::cause::Fault;
use super::deferral::is_deferring;
use super::questions::reply;
use super::run::Credit;
use super::{AgentState, Job, Jobs, Wait, account_of, is_over, prompt};
use crate::id::{CallId, JobId};
use crate::runtime::account::{Balance, HeldFor};
use crate::runtime::context::Context;
use crate::runtime::io::{AgentCall, AgentExit, AgentReply};
use crate::runtime::timers::Timer;

/// Whether an account has caused so many undurable bytes that its agents are heard later.
fn is_beyond(ctx: &Context, account: &Balance) -> bool {
    account.bytes(HeldFor::Records) >= ctx.config.limits.history.agent_undurable_bytes
}

/// Whether the calls of this input, from the agent of a job, are processed later.
pub(in crate::runtime) fn waits(jobs: &Jobs, ctx: &Context, id: JobId) -> bool {
    // The fast path, which every event takes: usually no job has a backlog.
    if jobs.backlogs.is_empty() && !is_beyond(ctx, ctx.log.cause()) {
        return false;
    }
    let Some(job) = jobs.table.get(id) else {
        return false;
    };
    if job.run.state != AgentState::Running || is_over(job) {
        return false; // Its calls do not count any longer.
    }
    // While a child waits for the host, calls wait for that instead.
    let account = account_of(job);
    job.run.allowance.backlog.is_some()
        || !is_deferring(jobs, id) && (is_beyond(ctx, account) || jobs.backlogs.has(account))
}

/// Puts calls of an agent into its backlog. An agent that exceeds its credit ends its job.
pub(in crate::runtime) fn hold(
    jobs: &mut Jobs,
    ctx: &mut Context,
    (id, asked): (JobId, Option<CallId>),
    calls: Vec<AgentCall>,
) {
    let held = put(jobs, id, |job| {
        job.on_agent_heard(ctx);
        let credit = job.run.allowance.credit;
        let backlog = job.run.allowance.backlog.get_or_insert_default();
        for call in calls {
            let (calls, bytes) = backlog.cost();
            let bytes = credit.bytes.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
            if (Credit { calls: credit.calls.saturating_sub(calls), bytes }).is_spent() {
                return Err(Fault("the agent emitted more than it had credit for"));
            }
            backlog.add(asked, call);
        }
        Ok(())
    });
    if let Some(Err(fault)) = held {
        asked.into_iter().for_each(|asked| reply(ctx, id, asked, AgentReply::Stopped));
        jobs.end(ctx, id, fault.into());
    }
}

/// An agent is gone: puts its exit into its backlog, if it has one or its account is beyond the bound. Its calls are
/// not answered. Otherwise returns the exit.
pub(in crate::runtime) fn hold_exit(jobs: &mut Jobs, ctx: &Context, id: JobId, exit: AgentExit) -> Option<AgentExit> {
    if !waits(jobs, ctx, id) {
        return Some(exit);
    }
    let exit = as_held(exit, &ctx.config.limits.frame);
    put(jobs, id, |job| {
        let until = job.run.questions.heard_until;
        job.run.drop_questions();
        // The children that it has asked for wait no longer than they would have.
        if until.is_some() {
            job.run.questions.heard_until = until;
        }
        prompt::drop_calls(job);
        job.run.allowance.backlog.get_or_insert_default().end(exit);
    });
    None
}

/// Changes the backlog of a job, and puts the job into its account's line if it had none.
fn put<R>(jobs: &mut Jobs, id: JobId, change: impl FnOnce(&mut Job) -> R) -> Option<R> {
    let Jobs { table, backlogs, .. } = jobs;
    table.change(id, |job| {
        if job.run.allowance.backlog.is_none() {
            backlogs.put(account_of(job), id);
            job.run.waits.insert(Wait::Backlog);
        }
        change(job)
    })
}

/// The next item to process; `None` if no account is within its bound.
pub(in crate::runtime) fn take(jobs: &mut Jobs, ctx: &Context) -> Option<(JobId, Said)> {
    let lines = &mut jobs.backlogs.0;
    while let Some(mut line) =
        lines.iter().position(|line| !is_beyond(ctx, &line.account)).and_then(|at| lines.remove(at))
    {
        let id = line.jobs.pop_front()?;
        let taken = jobs.table.change(id, |job| {
            let (said, more) = job.run.allowance.backlog.as_deref_mut()?.pop()?;
            if more {
                line.jobs.push_back(id);
                return Some(said);
            }
            job.run.allowance.backlog = None;
            job.run.waits.remove(&Wait::Backlog);
            // The agent's heartbeat interval starts anew.
            job.run.last_call = ctx.now.mono;
            Some(said)
        });
        if !line.jobs.is_empty() {
            lines.push_back(line);
        }
        if let Some(said) = taken.flatten() {
            return Some((id, said));
        }
    }
    None
}

/// Takes the whole backlog of a job.
pub(in crate::runtime) fn take_all(jobs: &mut Jobs, id: JobId) -> VecDeque<Said> {
    let taken = jobs.table.change(id, |job| {
        job.run.waits.remove(&Wait::Backlog);
        job.run.allowance.backlog.take()
    });
    match taken.flatten() {
        Some(backlog) => {
            jobs.backlogs.remove(id);
            backlog.into_said()
        }
        None => VecDeque::new(),
    }
}

/// Takes the whole backlog of a job that is over.
pub(in crate::runtime) fn take_of_over(jobs: &mut Jobs, id: JobId) -> VecDeque<Said> {
    if jobs.table.get(id).is_some_and(is_over) { take_all(jobs, id) } else { VecDeque::new() }
}

/// Sets the timer for the next turn, if an account may be heard.
pub(in crate::runtime) fn plan(jobs: &Jobs, ctx: &mut Context) {
    let may_be_heard = |line: &Line| !is_beyond(ctx, &line.account);
    if jobs.backlogs.0.iter().any(may_be_heard) && !ctx.timers.is_set(Timer::Backlog) {
        let at = ctx.soonest();
        ctx.timers.set(Timer::Backlog, at);
    }
}

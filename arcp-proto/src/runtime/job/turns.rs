//! What agents have said that is heard later. Records are committed in the order in which they are made, so whoever
//! runs many jobs could put before everybody's as much as all their agents may say ahead. An agent whose account has
//! caused [`agent_undurable_bytes`](crate::limits::HistoryLimits::agent_undurable_bytes) that are not durable is
//! heard once that is less.
//!
//! What an agent says keeps its order, and how it ends is heard last; signs of life are heard at once. Accounts take
//! turns, and so do the jobs of each. Each turn is an input of its own, by a timer: so nobody's input holds what
//! somebody else says. What waits is calls within an agent's credit, and no event yet. Once a job is over nothing of it
//! waits: that its agent is gone is heard at once, and gives its slot back.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

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

/// Whether an account has caused so much that is not durable that its agents are heard later.
fn is_beyond(ctx: &Context, account: &Balance) -> bool {
    account.bytes(HeldFor::Records) >= ctx.config.limits.history.agent_undurable_bytes
}

/// Whether what the agent of a job says now, which the present input is of, is heard later.
pub(in crate::runtime) fn waits(jobs: &Jobs, ctx: &Context, id: JobId) -> bool {
    // Mostly nobody waits, and each event asks.
    if jobs.backlogs.is_empty() && !is_beyond(ctx, ctx.log.cause()) {
        return false;
    }
    let Some(job) = jobs.table.get(id) else {
        return false;
    };
    if job.run.state != AgentState::Running || is_over(job) {
        return false; // Nothing that it says counts any more.
    }
    // While a child of it waits for the host, what it says waits for that.
    let account = account_of(job);
    job.run.allowance.backlog.is_some()
        || !is_deferring(jobs, id) && (is_beyond(ctx, account) || jobs.backlogs.has(account))
}

/// Calls of an agent are heard later. What is more than it has credit for is the end of its job.
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

/// An agent is gone: that is heard after what it has said, if that waits or it is too much for now; nobody is
/// answered. Gives back how it has ended otherwise.
pub(in crate::runtime) fn hold_exit(jobs: &mut Jobs, ctx: &Context, id: JobId, exit: AgentExit) -> Option<AgentExit> {
    if !waits(jobs, ctx, id) {
        return Some(exit);
    }
    put(jobs, id, |job| {
        let until = job.run.questions.heard_until;
        job.run.drop_questions();
        // The children that it has asked for wait no longer than they would have.
        job.run.questions.heard_until = until;
        prompt::drop_calls(job);
        job.run.allowance.backlog.get_or_insert_default().end(exit);
    });
    None
}

/// Changes what waits of a job, which has a place in its account's line from then on.
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

/// Takes the next thing that is heard now; `None`: nothing is.
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
            // Its silence is counted from here.
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

/// Takes all that waits of a job.
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

/// Takes all that waits of a job that is over.
pub(in crate::runtime) fn take_of_over(jobs: &mut Jobs, id: JobId) -> VecDeque<Said> {
    if jobs.table.get(id).is_some_and(is_over) { take_all(jobs, id) } else { VecDeque::new() }
}

/// Whoever may be heard now is, soon.
pub(in crate::runtime) fn plan(jobs: &Jobs, ctx: &mut Context) {
    let may_be_heard = |line: &Line| !is_beyond(ctx, &line.account);
    if jobs.backlogs.0.iter().any(may_be_heard) && !ctx.timers.is_set(Timer::Backlog) {
        let at = ctx.soonest();
        ctx.timers.set(Timer::Backlog, at);
    }
}

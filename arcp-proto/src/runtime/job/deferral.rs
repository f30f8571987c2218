//! Deferral: a child that an agent asks for waits until the host has checked its input and issued its credentials (1.1
//! §9.8, §10), as a client's submit does.
//!
//! After that, the delegation is heard again. Until then all other calls of the agent except heartbeats wait, and so
//! does its exit: its calls keep their order, and the core blocks on nothing. The store has nothing of the child except
//! that credentials are wanted; the parent's money is taken in the batch of the child's acceptance. If the parent is
//! stopped, the delegation is heard again at once, and refused.

use alloc::boxed::Box;
use core::time::Duration;

use super::agent::as_held;
use super::cause::Fault;
use super::deferred::{Deferred, Delegating};
use super::delegation::{NewChild, OpenCall};
use super::jobs::{Looks, judge_deferred};
use super::preparation::{self, Next};
use super::questions::reply;
use super::{Jobs, Wait, prompt};
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{CallId, JobId, OpId};
use crate::json::Json;
use crate::runtime::asker::{Asker, Prepared, Preparing};
use crate::runtime::context::Context;
use crate::runtime::io::{AgentCall, AgentExit, AgentReply, InputFault, LONGEST_CHECK, Output};
use crate::runtime::timers::Timer;

/// Whether a child of a job waits for the host.
pub(in crate::runtime) fn is_deferring(jobs: &Jobs, id: JobId) -> bool {
    // The fast path, which every event takes: in most runtimes no child waits.
    !jobs.deferring.is_empty() && jobs.deferring.contains(&id)
}

/// Whether that child waits for credentials.
pub(in crate::runtime) fn awaits_credentials(jobs: &Jobs, id: JobId) -> bool {
    let deferred = jobs.table.get(id).and_then(|job| job.run.questions.deferred.as_deref());
    deferred.is_some_and(|deferred| deferred.preparing.issues())
}

/// Asks the host for the next thing that a child needs before it is accepted. `came`: what it has done so far.
///
/// # Errors
///
/// Why the child is refused.
pub(in crate::runtime) fn prepare(
    jobs: &mut Jobs,
    ctx: &mut Context,
    call: &OpenCall,
    child: &NewChild,
    came: Option<Prepared>,
) -> Result<Next, Violation> {
    let (new, principal) = (child.job(), child.principal());
    let came = preparation::judge(came, new)?;
    if preparation::waits(ctx, principal, new, came.as_ref()) {
        admit_wait(jobs, ctx, call.job)?;
    }
    let asker = (Asker::Agent(call.job), principal);
    preparation::prepare(jobs, ctx, asker, new, came.as_ref(), |jobs, ctx| begin_check(jobs, ctx, call.job, child))
}

/// Whether one more child of a job may wait for the host. An agent that is gone keeps its slot while children that it
/// asked for wait, so their time is bounded.
fn admit_wait(jobs: &Jobs, ctx: &Context, parent: JobId) -> Result<(), Violation> {
    match jobs.table.get(parent).and_then(|job| job.run.questions.heard_until) {
        Some(until) if until <= ctx.now.mono => {
            let why = "the agent that delegates has ended, and the host is too late to prepare what it asks for";
            Err(Violation::new(ErrorCode::Unavailable, why))
        }
        Some(_) | None => Ok(()),
    }
}

/// Has the host check the input of a child, unless it is checking too many.
fn begin_check(jobs: &mut Jobs, ctx: &mut Context, parent: JobId, child: &NewChild) -> Result<OpId, Violation> {
    let (agent, input) = (child.job().agent(), child.input().cloned().unwrap_or_else(Json::empty_object));
    let most = ctx.config.limits.job.checked_input_bytes;
    if input.as_str().len() > most {
        let message = alloc::format!("the input of `{}` may have at most {most} bytes", agent.name());
        return Err(Violation::exhausted("checked_input_bytes", BoundOf::Request, most as u64, message));
    }
    prompt::admit_check(jobs, ctx, &child.principal().account(), "inputs that are being checked")?;
    let op = ctx.next_op();
    ctx.output(Output::CheckInput { op, agent: agent.clone(), input });
    jobs.checking.insert(op, (parent, Looks::Child));
    Ok(op)
}

/// A child waits for the host, and with it the call that asks for it.
pub(in crate::runtime) fn defer(
    jobs: &mut Jobs,
    ctx: &mut Context,
    call: &OpenCall,
    child: Delegating,
    preparing: Preparing,
) {
    let longest = match &preparing {
        Preparing::Input(..) => LONGEST_CHECK,
        Preparing::Credentials(..) => ctx.config.timing.provision_timeout,
    };
    jobs.deferring.insert(call.job);
    jobs.table.change(call.job, |job| {
        let until = ctx.now.mono + longest;
        let until = job.run.questions.heard_until.map_or(until, |last| last.min(until));
        ctx.timers.set(Timer::Delegation(call.job), until);
        job.run.questions.deferred = Some(Box::new(Deferred::new(child, (call.asked, call.bytes), preparing)));
        job.run.waits.insert(Wait::Delegation);
    });
}

/// Holds back a call while a child waits. An agent that exceeds its credit ends its job.
pub(in crate::runtime) fn hold(
    jobs: &mut Jobs,
    ctx: &mut Context,
    (id, asked): (JobId, Option<CallId>),
    call: AgentCall,
) {
    let held = jobs.table.change(id, |job| {
        let mut left = job.run.allowance.credit;
        let Some(deferred) = job.run.questions.deferred.as_deref_mut().filter(|deferred| deferred.exit.is_none())
        else {
            return Ok(()); // The agent is gone: it called before that.
        };
        // The delegating call is charged first.
        left.calls = left.calls.saturating_sub(u32::try_from(deferred.held.len() + 1).unwrap_or(u32::MAX));
        let held_bytes = i64::try_from(deferred.bytes.saturating_add(deferred.held_bytes)).unwrap_or(i64::MAX);
        left.bytes = left.bytes.saturating_sub(held_bytes);
        if left.is_spent() {
            return Err(Fault("the agent emitted more than it had credit for"));
        }
        deferred.held_bytes = deferred.held_bytes.saturating_add(call.bytes());
        deferred.held.push_back((asked, call));
        job.on_agent_heard(ctx);
        Ok(())
    });
    if let Some(Err(fault)) = held {
        asked.into_iter().for_each(|asked| reply(ctx, id, asked, AgentReply::Stopped));
        jobs.end(ctx, id, fault.into());
    }
}

/// Holds back the exit of an agent while a child waits. Its calls are not answered. All remaining children that it
/// asked for share the time that one may wait. If the agent failed, they do not wait: they would be cancelled with
/// their parent. Returns the exit if no child waits.
pub(in crate::runtime) fn hold_exit(jobs: &mut Jobs, ctx: &Context, id: JobId, exit: AgentExit) -> Option<AgentExit> {
    if !is_deferring(jobs, id) {
        return Some(exit);
    }
    let exit = as_held(exit, &ctx.config.limits.frame);
    let longest = if exit.is_failed() { Duration::ZERO } else { ctx.config.timing.provision_timeout };
    if exit.is_failed() {
        let why = Violation::new(ErrorCode::Cancelled, "the agent that delegates has failed");
        judge_deferred(jobs, id, Err(why), |_| true);
    }
    jobs.table.change(id, |job| {
        job.run.questions.heard_until.get_or_insert(ctx.now.mono + longest);
        if let Some(deferred) = job.run.questions.deferred.as_deref_mut() {
            deferred.exit.get_or_insert(exit);
            deferred.asked = None;
            for (asked, call) in &mut deferred.held {
                asked.take().into_iter().for_each(|_| call.wait_for_no_answer());
            }
        }
    });
    None
}

/// The host has checked an input, possibly that of a child.
pub(in crate::runtime) fn on_input_checked(jobs: &mut Jobs, op: OpId, fault: Option<&InputFault>) {
    if let Some((id, Looks::Child)) = jobs.checking.get(&op).copied() {
        jobs.checking.remove(&op);
        let misfit = |fault: &InputFault| fault.violation("the input does not fit the agent");
        judge(jobs, id, op, fault.map_or(Ok(()), |fault| Err(misfit(fault))));
    }
}

/// The host's verdict on a child that waits.
pub(in crate::runtime) fn judge(jobs: &mut Jobs, id: JobId, op: OpId, verdict: Result<(), Violation>) {
    judge_deferred(jobs, id, verdict, |deferred| deferred.waits_for(op));
}

/// The host has not answered in time.
pub(in crate::runtime) fn on_overdue(jobs: &mut Jobs, id: JobId) {
    let overdue = |deferred: &Deferred| match &deferred.preparing {
        Preparing::Input(..) => "it was not checked in time: delegate it again",
        Preparing::Credentials(..) => "the credentials of the job were not issued in time: delegate it again",
    };
    let deferred = jobs.table.get(id).and_then(|job| job.run.questions.deferred.as_deref());
    if let Some(why) = deferred.map(overdue) {
        judge_deferred(jobs, id, Err(Violation::new(ErrorCode::Unavailable, why)), |_| true);
    }
}

/// Takes out a child with a verdict, to be heard again.
pub(in crate::runtime) fn take(jobs: &mut Jobs, ctx: &mut Context, id: JobId) -> Option<Deferred> {
    let taken = jobs.table.change(id, |job| {
        job.run.questions.deferred.as_deref().filter(|deferred| deferred.verdict.is_some())?;
        job.run.waits.remove(&Wait::Delegation);
        // The agent's heartbeat interval starts anew.
        job.run.last_call = ctx.now.mono;
        job.run.questions.deferred.take()
    });
    let deferred = *taken.flatten()?;
    ctx.timers.clear(Timer::Delegation(id));
    jobs.deferring.remove(&id);
    Some(deferred)
}

//! What a child that an agent asks for waits for: that the host has checked its input, and
//! issued its credentials (1.1 §9.8, §10), as the submit of a client does.
//!
//! It is heard again then. Until then nothing else is heard of the agent but signs of life,
//! nor how it ends: so what it says keeps its order, and the core waits for no one. Nothing of
//! the child is in the store but that credentials are wanted; its parent's money is taken in the batch
//! of its acceptance. Whatever stops its parent has it heard again at once, and refused.

use alloc::boxed::Box;
use core::time::Duration;

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

/// Whether a child that the agent of a job asks for waits for the host.
pub(in crate::runtime) fn is_deferring(jobs: &Jobs, id: JobId) -> bool {
    // Of most runtimes none does, and each event asks.
    !jobs.deferring.is_empty() && jobs.deferring.contains(&id)
}

/// Whether the one that does waits for credentials.
pub(in crate::runtime) fn awaits_credentials(jobs: &Jobs, id: JobId) -> bool {
    let deferred = jobs.table.get(id).and_then(|job| job.run.questions.deferred.as_deref());
    deferred.is_some_and(|deferred| deferred.preparing.issues())
}

/// Has the host do what is to be done before a child is accepted; `came`: what it has done.
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

/// Whether one more child of a job may wait for the host: what an agent that is gone has asked for
/// holds its slot.
fn admit_wait(jobs: &Jobs, ctx: &Context, parent: JobId) -> Result<(), Violation> {
    match jobs.table.get(parent).and_then(|job| job.run.questions.heard_until) {
        Some(until) if until <= ctx.now.mono => {
            let why = "the agent that delegates has ended, and the host is too late to prepare what it asks for";
            Err(Violation::new(ErrorCode::Unavailable, why))
        }
        Some(_) | None => Ok(()),
    }
}

/// Has the host check the input of a child, unless it checks too much.
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

/// A child waits for the host, with the call that asks for it.
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

/// Its agent says something while a child waits: that is heard after it. What is more than it
/// has credit for is the end of its job.
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
            return Ok(()); // It said so before it was gone.
        };
        // What asks for the child comes first.
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

/// Its agent is gone while a child waits: that is heard after it. All children that it has asked
/// for wait no longer for the host than one might, and those of one that has failed do not wait:
/// they would be cancelled with their parent. Nobody is answered. Gives back how it ended, if none
/// waits.
pub(in crate::runtime) fn hold_exit(jobs: &mut Jobs, ctx: &Context, id: JobId, exit: AgentExit) -> Option<AgentExit> {
    if !is_deferring(jobs, id) {
        return Some(exit);
    }
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

/// An input was checked, perhaps that of a child.
pub(in crate::runtime) fn on_input_checked(jobs: &mut Jobs, op: OpId, fault: Option<&InputFault>) {
    if let Some((id, Looks::Child)) = jobs.checking.get(&op).copied() {
        jobs.checking.remove(&op);
        let misfit = |fault: &InputFault| fault.violation("the input does not fit the agent");
        judge(jobs, id, op, fault.map_or(Ok(()), |fault| Err(misfit(fault))));
    }
}

/// The host has done what a child waits for, or has not.
pub(in crate::runtime) fn judge(jobs: &mut Jobs, id: JobId, op: OpId, verdict: Result<(), Violation>) {
    judge_deferred(jobs, id, verdict, |deferred| deferred.waits_for(op));
}

/// The host has taken too long.
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

/// Takes out a child that is heard again, and what came of what it has waited for.
pub(in crate::runtime) fn take(jobs: &mut Jobs, ctx: &mut Context, id: JobId) -> Option<Deferred> {
    let taken = jobs.table.change(id, |job| {
        job.run.questions.deferred.as_deref().filter(|deferred| deferred.verdict.is_some())?;
        job.run.waits.remove(&Wait::Delegation);
        // Its silence is counted from here.
        job.run.last_call = ctx.now.mono;
        job.run.questions.deferred.take()
    });
    let deferred = *taken.flatten()?;
    ctx.timers.clear(Timer::Delegation(id));
    jobs.deferring.remove(&id);
    Some(deferred)
}

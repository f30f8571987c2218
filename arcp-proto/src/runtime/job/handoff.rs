//! Handoff: an unended job becomes another principal's (RFC §14).
//!
//! Everything that counted against the old owner counts against the new one: what the job holds, its place in line, its
//! slot. Its idempotency key stays with its submitter.

use alloc::boxed::Box;

use super::checkpoint;
use super::submit::{check_quota, check_unfinished};
use super::{Job, Jobs, Slot, Wait, is_workflow, table, waiting_bytes};
use crate::error::{ErrorCode, Violation};
use crate::id::{JobId, Principal, SessionId};
use crate::json::Object;
use crate::model::event::{EventKind, JobEvent};
use crate::policy::Subject;
use crate::runtime::account::HeldFor;
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::Record;

/// Whether a job can become another principal's.
///
/// # Errors
///
/// `FAILED_PRECONDITION` if it has ended, is told to stop, has a parent or children, with which it shares a budget, or
/// if policy denies its agent to the new owner. `RESOURCE_EXHAUSTED` if the new owner may have no more jobs.
pub(in crate::runtime) fn check(jobs: &Jobs, ctx: &Context, id: JobId, to: Subject<'_>) -> Result<(), Violation> {
    let job = jobs.table.get(id).ok_or_else(super::family::gone)?;
    check_goes_on(jobs, ctx, job)?;
    if job.spec.principal.account() == to.principal.account() {
        return Ok(());
    }
    if !ctx.config.may_submit(to, job.spec.agent.name()) {
        let why = "policy lets whoever is to have the job have none of this agent";
        return Err(Violation::new(ErrorCode::FailedPrecondition, why));
    }
    check_room(jobs, ctx, job, to).map_err(|why| {
        let message = alloc::format!("whoever is to have the job has no room for it: {}", why.message);
        Violation { message: message.into(), ..why }
    })
}

/// Whether a job has not ended, and has no family, so that it can be handed over.
pub(super) fn check_goes_on(jobs: &Jobs, ctx: &Context, job: &Job) -> Result<(), Violation> {
    let refused = |why: &'static str| Err(Violation::new(ErrorCode::FailedPrecondition, why));
    if jobs.departures.is_under_way(job.id) {
        return refused("the job is being handed over to another runtime");
    }
    if job.run.credentials {
        return refused("the job has credentials, which stay with whom they were issued for");
    }
    if job.is_terminal() || job.state.is_cancelling() {
        return refused("the job has ended, or is told to stop");
    }
    if job.spec.parent().is_some() {
        return refused("the job is done for another one, out of that one's budget: hand that over");
    }
    if !job.children.is_empty() {
        return refused("jobs below this one have not ended: hand it over when they have");
    }
    if ctx.log.failed {
        return Err(Violation::new(ErrorCode::Unavailable, "the store is failing: hand it over later"));
    }
    Ok(())
}

/// Whether a principal has room for this job.
fn check_room(jobs: &Jobs, ctx: &Context, job: &Job, to: Subject<'_>) -> Result<(), Violation> {
    let (limits, account) = (&ctx.config.limits, to.principal.account());
    let (of, share) = (account.bound_of(), limits.job.principal_share);
    check_quota(jobs, ctx, to, false, |most| alloc::format!("{most} jobs have not ended"))?;
    check_unfinished(jobs, ctx, &account, false, |most| alloc::format!("{most} jobs have not ended"))?;
    // Its present size counts, not that of a new job.
    let held = ctx.accounts.held(&account, HeldFor::Jobs, limits, limits.history.unfinished_bytes);
    held.admit(job.held.job.bytes(), share, of, "unfinished_bytes", "the bytes of jobs that have not ended")?;
    let input = job.input.as_ref().map_or(0, |input| waiting_bytes(input.input.as_str(), input.extensions.as_ref()));
    let waiting = ctx.accounts.held(&account, HeldFor::Inputs, limits, limits.job.waiting_input_bytes);
    waiting.admit(input, share, of, "waiting_input_bytes", "the inputs of jobs that have not started")
}

/// Makes a job another principal's, in this session. `by`: the principal that asked for that.
pub(in crate::runtime) fn hand_over(
    jobs: &mut Jobs,
    ctx: &mut Context,
    id: JobId,
    (to, session): (&Principal, SessionId),
    by: Option<&Principal>,
) {
    let Some(job) = jobs.table.get(id).expected("whether it can be handed over was checked") else {
        return;
    };
    if let Some(key) = job.spec.key.as_deref() {
        jobs.keys.keep(ctx, &job.spec.principal, *key, id);
    }
    ctx.append(Record::HandedOver { job: id, principal: to.clone(), session, by: by.cloned() });
    jobs.table.change(id, |job| checkpoint::hand_over(job, ctx));
    give(jobs, ctx, id, (to, session), by);
}

/// Changes the owner in memory: after the record of that, or as it is restored.
pub(in crate::runtime) fn give(
    jobs: &mut Jobs,
    ctx: &mut Context,
    id: JobId,
    (to, session): (&Principal, SessionId),
    by: Option<&Principal>,
) {
    let Some(job) = jobs.table.get(id) else {
        return; // The job is forgotten; an untidied store may still have this record.
    };
    let (from, slot, goes_on) = (job.spec.principal.clone(), job.run.slot, !job.is_terminal());
    let workflow = usize::from(goes_on && is_workflow(job));
    let waits = job.run.waits.contains(&Wait::Slot);
    if waits {
        jobs.table.change(id, |job| jobs.lines.leave(&ctx.config, job));
    }
    let listed = table::give(&mut jobs.table, ctx, id, to, session);
    jobs.table.change(id, |job| job.spec.given_by = by.cloned().map(Box::new));
    let (live, ended) = (usize::from(goes_on), usize::from(listed));
    let (running, lent) = (usize::from(slot == Slot::Held), usize::from(slot == Slot::Lent));
    jobs.shares.change(&from, |share| {
        share.live -= live;
        share.workflows -= workflow;
        share.ended -= ended;
        share.running -= running;
        share.lent -= lent;
    });
    jobs.shares.change(to, |share| {
        share.live += live;
        share.workflows += workflow;
        share.ended += ended;
        share.running += running;
        share.lent += lent;
    });
    if waits {
        jobs.table.change(id, |job| jobs.lines.enter(&ctx.config, job));
    }
    // They were issued to the old owner.
    jobs.tokens.forget(id);
}

/// Shows the change of owner in the job, to its old readers too.
pub(in crate::runtime) fn show(jobs: &mut Jobs, ctx: &mut Context, id: JobId, to: &Principal) {
    let mut body = Object::new();
    let message = alloc::format!("the job is handed over to {to}");
    body.str("phase", "handed_over").str("message", &message).display("principal", to);
    jobs.table.change(id, |job| {
        // The new owner continues counting from here.
        body.u64("last_event_seq", job.count() + 1);
        let event = JobEvent::Emitted { kind: EventKind::Status, body: body.json() };
        job.append(ctx, event, false)
    });
}

//! Credentials that jobs are provisioned with, from the intent to their revocation (1.1 §9.8, §14).
//!
//! ```text
//! Intended ──durable──▶ Asked ──issued──▶ Issued ──accepted──▶ Live
//!     └──unwanted──▶ gone  └─unwanted, failed─┐  └─unwanted─┐    │ the job ends
//!                                             ▼             ▼    ▼
//!                            gone ◀─revoked── Revoking ◀─────────┘
//! ```
//!
//! The host can issue another value for a live credential, under the same intent. The event of that renewal
//! is durable before the earlier value is revoked; a reader that would get the credentials in the acceptance
//! gets the new value in that event. If everything is revoked while a renewal is unanswered, the host is
//! asked to revoke once more after its answer.
//!
//! The intent is durable before the host is asked, so that whatever was issued is revoked, by this run of the
//! runtime or by a later one. Values are in memory only, and only as long as they are valid: after a restart
//! they are lost, and their job ends.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use super::cause::Cause;
use super::credentials::{Credentials, Live, Provisioning, Renewing, Stage, Superseded};
use super::delegation::OpenCall;
use super::{Job, Jobs, NewJob, Wait, end, lease};
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{JobId, LogPos, OpId, Principal};
use crate::json::{Json, Object};
use crate::lease::Lease;
use crate::model::credential::{CredentialOrder, Issuance, ProvisionedCredential, Renewal, Revocation, check_value};
use crate::model::event::{EventKind, JobError, JobEvent};
use crate::runtime::account::Holding;
use crate::runtime::asker::{Asker, Ordered};
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::io::{AgentReply, Notice, Output, Record};
use crate::runtime::log::Waiter;
use crate::runtime::timers::Timer;
use crate::secret::Secret;

/// Delays before a host that could not revoke is asked again: the first, doubled each time up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// The refusal when the host is issuing too many credentials at once.
const BUSY: &str = "too many credentials are being issued: ask again in a while";

/// Orders credentials for a job that is asked for, if its grant calls for any. The asker then waits for them.
///
/// # Errors
///
/// If too many jobs have credentials, counting those that are wanted or not yet revoked.
pub(in crate::runtime) fn order_for(
    jobs: &mut Jobs,
    ctx: &mut Context,
    asker: Asker,
    (principal, new): (&Principal, &NewJob),
) -> Result<Option<(OpId, Ordered)>, Violation> {
    if !new.wants_credentials(ctx, principal) {
        return Ok(None);
    }
    let job = JobId::from_ulid(ctx.entropy.ulid(ctx.now.utc));
    let (principal, agent, lease) = (principal.clone(), new.agent().clone(), new.lease().clone());
    let ordered = Ordered::new(job, &principal, &agent, &lease);
    let wanted = CredentialOrder { job, principal, agent, lease, expires_at: new.expires_at(), renews: None };
    let op = order(jobs, ctx, asker, wanted)?;
    Ok(Some((op, ordered)))
}

fn order(jobs: &mut Jobs, ctx: &mut Context, asker: Asker, order: CredentialOrder) -> Result<OpId, Violation> {
    abandon(jobs, ctx, asker);
    let account = order.principal.account();
    let own = jobs.credentials.by_job.values().filter(|entry| entry.account == account).count();
    let most = ctx.config.limits.credential.jobs_with_credentials;
    let held = Holding { own, all: jobs.credentials.by_job.len(), total: most };
    let what = "jobs with credentials";
    held.admit(1, ctx.config.limits.job.principal_share, account.bound_of(), "jobs_with_credentials", what)?;
    let (op, job, principal) = (ctx.next_op(), order.job, order.principal.clone());
    let entry = Provisioning::new(ctx, &principal, Stage::Intended(op, asker, Box::new(order)));
    let pos = ctx.append(Record::CredentialsWanted { job, principal });
    ctx.log.wait(pos, Waiter::Credentials(job));
    jobs.credentials.by_job.insert(job, entry);
    jobs.credentials.waiting.insert(asker, job);
    if !asker.keeps_time() {
        ctx.timers.set(Timer::Provision(job), ctx.now.mono + ctx.config.timing.provision_timeout);
    }
    Ok(op)
}

/// The intent is durable: asks the host. In a live job, a renewal is durable: revokes the earlier value.
pub(in crate::runtime) fn on_durable(jobs: &mut Jobs, ctx: &mut Context, job: JobId) {
    let credentials = &mut jobs.credentials;
    let Some(entry) = credentials.by_job.get_mut(&job) else {
        return; // The submit was given up before.
    };
    match &entry.stage {
        Stage::Intended(op, asker, order) => {
            let (op, asker, order) = (*op, *asker, order.clone());
            entry.enter(Stage::Asked(Some(asker)));
            credentials.asked.insert(op, job);
            ctx.output(Output::IssueCredentials { op, order });
        }
        Stage::Live(_) => credentials.revoke_superseded(ctx, job),
        Stage::Asked(_) | Stage::Issued(..) | Stage::Revoking { .. } => {}
    }
}

/// The host has answered an order. Returns the asker that waits for the answer, with the refusal if nothing
/// was issued.
pub(in crate::runtime) fn on_issued(
    jobs: &mut Jobs,
    ctx: &mut Context,
    op: OpId,
    issuance: Issuance,
) -> Option<(Asker, Result<(), Violation>)> {
    let job = jobs.credentials.asked.get(&op).copied()?;
    let entry = jobs.credentials.by_job.get_mut(&job)?;
    if entry.renewing.as_ref().is_some_and(|renewing| renewing.op == op) {
        jobs.credentials.asked.remove(&op);
        on_renewed(jobs, ctx, job, issuance);
        return None;
    }
    let Stage::Asked(asker) = entry.stage else {
        return None; // This operation revokes.
    };
    jobs.credentials.asked.remove(&op);
    ctx.timers.clear(Timer::Provision(job));
    let most = ctx.config.limits.credential.credentials_per_job;
    let usable = match issuance {
        Issuance::Issued(issued) => kept_of(issued, most).map_err(|reason| (ErrorCode::Unavailable, reason)),
        Issuance::Failed { reason, is_exhausted } => Err((code_of(is_exhausted), reason)),
        Issuance::Busy => {
            // The host issued nothing, so there is nothing to revoke.
            asker.map(|asker| jobs.credentials.waiting.remove(&asker));
            forget(jobs, ctx, job);
            return asker.map(|asker| (asker, Err(Violation::new(ErrorCode::ResourceExhausted, BUSY))));
        }
    };
    let Some(asker) = asker else {
        jobs.credentials.revoke(ctx, job, None);
        return None; // The asker has given up.
    };
    match usable {
        Ok((kept, surplus)) => {
            entry.enter(Stage::Issued(asker, kept));
            if !surplus.is_empty() {
                let op = ctx.next_op();
                ctx.output(Output::RevokeCredentials { op, job, what: Revocation::Some(surplus) });
            }
            Some((asker, Ok(())))
        }
        Err((code, reason)) => {
            // The host may have issued some before it failed.
            jobs.credentials.waiting.remove(&asker);
            jobs.credentials.revoke(ctx, job, None);
            let message = alloc::format!("the job gets no credentials: {reason}");
            Some((asker, Err(Violation::new(code, message))))
        }
    }
}

/// The host has not issued them in time. Returns the asker that waits for them, and the operation.
pub(in crate::runtime) fn overdue(jobs: &Jobs, job: JobId) -> Option<(Asker, OpId)> {
    let Credentials { by_job, asked, .. } = &jobs.credentials;
    match &by_job.get(&job)?.stage {
        Stage::Intended(op, asker, _) => Some((*asker, *op)),
        Stage::Asked(Some(asker)) => asked.iter().find(|(_, of)| **of == job).map(|(op, _)| (*asker, *op)),
        Stage::Asked(None) | Stage::Issued(..) | Stage::Live(_) | Stage::Revoking { .. } => None,
    }
}

/// The error code when nothing is issued. A budget that is exhausted at the issuer counts as one that is
/// exhausted here (1.1 §9.6).
fn code_of(is_exhausted: bool) -> ErrorCode {
    if is_exhausted { ErrorCode::BudgetExhausted } else { ErrorCode::Unavailable }
}

/// The issued credentials that the job gets, at most `most`, and the ids of the surplus.
///
/// # Errors
///
/// Why the credentials cannot be used.
fn kept_of(
    mut issued: Vec<ProvisionedCredential>,
    most: usize,
) -> Result<(Vec<ProvisionedCredential>, Vec<String>), String> {
    for (at, credential) in issued.iter().enumerate() {
        credential.validate().map_err(|error| alloc::format!("what was issued cannot be used: {error}"))?;
        if issued[..at].iter().any(|other| other.id == credential.id) {
            return Err("what was issued cannot be used: two have the same id".into());
        }
    }
    let surplus = issued.split_off(most.min(issued.len()));
    Ok((issued, surplus.into_iter().map(|credential| credential.id).collect()))
}

/// An asker gives up: whatever was issued for its request is revoked.
pub(in crate::runtime) fn abandon(jobs: &mut Jobs, ctx: &mut Context, asker: Asker) {
    let Some(job) = jobs.credentials.waiting.remove(&asker) else {
        return; // The asker does not wait for credentials.
    };
    ctx.timers.clear(Timer::Provision(job));
    let Some(entry) = jobs.credentials.by_job.get_mut(&job) else {
        return; // They are revoked.
    };
    match &mut entry.stage {
        Stage::Intended(..) => forget(jobs, ctx, job),
        // If the host issues them nevertheless, they are revoked then.
        Stage::Asked(waits) => {
            *waits = None;
            entry.note_unrevoked(ctx);
        }
        Stage::Issued(..) => jobs.credentials.revoke(ctx, job, None),
        Stage::Live(_) | Stage::Revoking { .. } => {}
    }
}

/// Forgets the credentials of a job that was never accepted, or is no longer held.
fn forget(jobs: &mut Jobs, ctx: &mut Context, job: JobId) {
    jobs.credentials.by_job.remove(&job);
    ctx.append(Record::JobForgotten { job });
}

/// The host has revoked what it was asked to revoke, or has failed to.
pub(in crate::runtime) fn on_revoked(jobs: &mut Jobs, ctx: &mut Context, op: OpId, done: bool) {
    let Some(job) = jobs.credentials.asked.remove(&op) else {
        return; // Surplus credentials are revoked again with the rest.
    };
    let Some(entry) = jobs.credentials.by_job.get_mut(&job) else {
        return; // An earlier answer was the last one.
    };
    let Stage::Revoking { failures, ends } = &mut entry.stage else {
        return on_superseded_revoked(entry, ctx, (job, op), done);
    };
    if !done {
        try_again(ctx, job, failures);
        return entry.note_unrevoked(ctx);
    }
    if entry.renewing.is_some() {
        return; // After that answer, the host is asked for the last time.
    }
    let (failed, ends) = (*failures > 0, ends.take());
    if failed {
        ctx.observe(Notice::CredentialsRevoked { job });
    }
    if jobs.table.get(job).is_none() {
        return forget(jobs, ctx, job);
    }
    jobs.credentials.by_job.remove(&job);
    ctx.append(Record::CredentialsRevoked { job });
    jobs.table.change(job, |job| job.run.credentials = false);
    ctx.timers.clear(Timer::RevocationGrace(job));
    match ends {
        Some(cause) => end::finish(jobs, ctx, job, cause),
        // The job ended before; nothing holds it any longer.
        None => {
            jobs.table.settle(job);
            ctx.effect(Effect::Unreferenced(job));
        }
    }
}

/// The host could not revoke: sets the timer for the next attempt.
fn try_again(ctx: &mut Context, job: JobId, failures: &mut u32) {
    let (first, longest) = AGAIN;
    let wait = first.saturating_mul(1 << (*failures).min(16)).min(longest);
    *failures = failures.saturating_add(1);
    ctx.observe(Notice::CredentialsNotRevoked { job, failures: *failures });
    ctx.timers.set(Timer::RevokeAgain(job), ctx.now.mono + wait);
}

/// The host has revoked a superseded value, or has failed to.
fn on_superseded_revoked(entry: &mut Provisioning, ctx: &mut Context, (job, op): (JobId, OpId), done: bool) {
    let Some(at) = entry.superseded.iter().position(|old| old.asked == Some(op)) else {
        return; // The operation is not an open one of this job.
    };
    if !done {
        let old = &mut entry.superseded[at];
        old.asked = None;
        try_again(ctx, job, &mut old.failures);
        return entry.note_unrevoked(ctx);
    }
    let old = entry.superseded.remove(at);
    entry.weigh();
    if old.failures > 0 && entry.superseded.iter().all(|old| old.failures == 0) {
        entry.unrevoked_since = None;
        ctx.observe(Notice::CredentialsRevoked { job });
    }
}

/// The timer after a failed revocation is due: asks the host again.
pub(in crate::runtime) fn on_again(jobs: &mut Jobs, ctx: &mut Context, job: JobId) {
    match jobs.credentials.by_job.get(&job).map(|entry| &entry.stage) {
        Some(Stage::Revoking { .. }) => jobs.credentials.ask_to_revoke(ctx, job),
        Some(Stage::Live(_)) => jobs.credentials.revoke_superseded(ctx, job),
        // They were revoked meanwhile.
        Some(Stage::Intended(..) | Stage::Asked(_) | Stage::Issued(..)) | None => {}
    }
}

/// An agent asks for another value of a credential of its job, or for the given `value`. The host is asked;
/// its answer answers the call.
///
/// # Errors
///
/// Why the agent gets none.
pub(in crate::runtime) fn renew(
    jobs: &mut Jobs,
    ctx: &mut Context,
    open: &OpenCall,
    (id, value): (String, Option<Secret>),
) -> Result<(), AgentReply> {
    let Some((job, call)) = jobs.table.get(open.job).zip(open.asked) else {
        return Ok(()); // The agent does not wait for the value.
    };
    if job.state.is_cancelling() {
        return Err(AgentReply::Stopped);
    }
    let left = lease::budget_left(job);
    if let Some(currency) = left.used_up() {
        let why = alloc::format!("the budget is used up: no {currency} is left for another value of `{id}`");
        return Err(Violation::new(ErrorCode::BudgetExhausted, why).into());
    }
    let none = || Violation::new(ErrorCode::InvalidRequest, alloc::format!("`{id}` is no credential of this job"));
    let entry = jobs.credentials.by_job.get_mut(&open.job).ok_or_else(none)?;
    let is_busy = entry.renewing.is_some() || !entry.superseded.is_empty();
    let live = entry.live().ok_or_else(none)?;
    let current = live.credentials.iter().find(|credential| credential.id == id).ok_or_else(none)?.value.clone();
    if is_busy {
        let why = "an earlier value of a credential of this job is not revoked yet: try again later";
        return Err(Violation::new(ErrorCode::Unavailable, why).into());
    }
    if let Some(value) = &value {
        check_value(value).map_err(|error| Violation::invalid(alloc::format!("`value`: {error}")))?;
        if live.credentials.iter().any(|credential| credential.value == *value) {
            return Err(Violation::invalid("`value` is one that a credential of this job has already").into());
        }
        let most = ctx.config.limits.credential.credentials_per_job;
        if live.doubtful.len() >= most && !live.doubtful.contains(value) {
            let full = alloc::format!("{most} values that were asked for were not issued: leave `value` out");
            return Err(Violation::exhausted("credentials_per_job", BoundOf::Job, most as u64, full).into());
        }
    }
    let lease = Lease::parse(&job.spec.lease).unwrap_or_default().spending(left);
    let op = ctx.next_op();
    let order = CredentialOrder {
        job: open.job,
        principal: job.spec.principal.clone(),
        agent: job.spec.agent.clone(),
        lease: lease.to_json(),
        expires_at: job.spec.bounds.constraints.expires_at,
        renews: Some(Box::new(Renewal { id: id.clone(), current, value: value.clone() })),
    };
    entry.renewing = Some(Renewing { op, id, call: Some(call), wanted: value });
    entry.weigh();
    jobs.credentials.asked.insert(op, open.job);
    jobs.table.change(open.job, |job| {
        job.run.questions.renewing = Some(call);
        job.run.waits.insert(Wait::Renewal);
    });
    ctx.timers.set(Timer::Renewal(open.job), ctx.now.mono + ctx.config.timing.provision_timeout);
    ctx.output(Output::IssueCredentials { op, order: Box::new(order) });
    Ok(())
}

/// The host has answered a renewal.
fn on_renewed(jobs: &mut Jobs, ctx: &mut Context, id: JobId, issuance: Issuance) {
    let Some(entry) = jobs.credentials.by_job.get_mut(&id) else {
        return; // They are revoked.
    };
    let Some(Renewing { id: credential, call, wanted, .. }) = entry.renewing.take() else {
        return; // No renewal is open.
    };
    if matches!(entry.stage, Stage::Revoking { .. }) {
        // The host may have issued the value after everything was revoked.
        entry.weigh();
        return jobs.credentials.ask_to_revoke(ctx, id);
    }
    let waits = |job: &Job| call.is_some() && job.run.questions.renewing == call;
    let is_wanted = jobs.table.get(id).is_some_and(waits);
    let mut code = ErrorCode::Unavailable;
    let renewed = match (issuance, entry.live()) {
        (Issuance::Issued(issued), Some(live)) => take_renewed(live, &credential, issued, is_wanted),
        (Issuance::Issued(_), None) => return,
        (Issuance::Failed { reason, is_exhausted }, _) => {
            code = code_of(is_exhausted);
            Err((reason, Vec::new()))
        }
        (Issuance::Busy, _) => {
            code = ErrorCode::ResourceExhausted;
            Err((BUSY.into(), Vec::new()))
        }
    };
    if let (Some(wanted), Some(live)) = (wanted, entry.live()) {
        live.note_wanted(wanted);
    }
    let (answer, superseded) = match renewed {
        Ok((renewed, before)) => (Ok(renewed), alloc::vec![(credential, before)]),
        Err((reason, unwanted)) => {
            let message = alloc::format!("the credential keeps its value: {reason}");
            (Err(Violation::new(code, message)), unwanted)
        }
    };
    let event = answer.as_ref().ok().map(|renewed| renewal_event(&renewed.id));
    let appended = event.and_then(|event| {
        jobs.table.change(id, |job| {
            let pos = job.append(ctx, event, false);
            (pos, job.count())
        })
    });
    let until = appended.map_or(LogPos(0), |(pos, _)| pos);
    if let (Some((_, n)), Ok(renewed), Some(live)) = (appended, &answer, entry.live()) {
        live.renewed.insert(renewed.id.clone(), n);
    }
    let old = |(id, value)| Superseded { id, value, until, asked: None, failures: 0 };
    entry.superseded.extend(superseded.into_iter().map(old));
    entry.weigh();
    ctx.log.wait(until, Waiter::Credentials(id));
    if is_wanted {
        answer_renewal(
            jobs,
            ctx,
            id,
            answer.map_or_else(AgentReply::from, |renewed| AgentReply::Renewed(Box::new(renewed))),
        );
    }
    jobs.credentials.revoke_superseded(ctx, id);
}

/// Why an issued value is not taken, and the issued values to revoke, with the ids of their credentials.
type Unwanted = (String, Vec<(String, Secret)>);

/// Gives a credential the value that was issued for it. Returns the credential, and its earlier value.
///
/// # Errors
///
/// Why the value is not taken, and which issued values are to be revoked.
fn take_renewed(
    live: &mut Live,
    id: &str,
    issued: Vec<ProvisionedCredential>,
    is_wanted: bool,
) -> Result<(ProvisionedCredential, Secret), Unwanted> {
    let is_new = |issued: &ProvisionedCredential| live.credentials.iter().all(|own| own.value != issued.value);
    let usable = match issued.as_slice() {
        [] => Err("nothing was issued".into()),
        _ if !is_wanted => Err("nobody waits for it any more".into()),
        [one] if one.id == id && is_new(one) => one.validate().map_err(|error| error.to_string()),
        _ => Err("what was issued is not one other value of this credential".into()),
    };
    let own = live.credentials.iter().position(|own| own.id == id);
    match (usable, own, issued.first().cloned()) {
        (Ok(()), Some(at), Some(renewed)) => {
            let before = core::mem::replace(&mut live.credentials[at], renewed.clone());
            Ok((renewed, before.value))
        }
        (usable, ..) => {
            let reason = usable.err().unwrap_or_else(|| "the job has it no more".into());
            let unwanted = issued.into_iter().filter(is_new).map(|issued| (issued.id, issued.value)).collect();
            Err((reason, unwanted))
        }
    }
}

/// The renewal as every watcher sees it, in the form of 1.1 §9.8.2 and of published clients. A reader that
/// may have the value gets it in the same event.
fn renewal_event(id: &str) -> JobEvent {
    JobEvent::Emitted { kind: EventKind::Status, body: renewal_body(id, None) }
}

/// The body of a renewal. `value` is for a reader that may have it.
pub(in crate::runtime) fn renewal_body(id: &str, value: Option<&Secret>) -> Json {
    let value = value.map(Secret::expose);
    let mut body = Object::new();
    body.str("phase", "credential_rotated").str("message", id).str("id", id).opt_str("value", value);
    body.str("credential_id", id).opt_str("credential_value", value);
    body.object("details", |details| {
        details.str("id", id).opt_str("value", value);
    });
    body.json()
}

/// Answers the agent that asked for another value.
fn answer_renewal(jobs: &mut Jobs, ctx: &mut Context, id: JobId, answer: AgentReply) {
    ctx.timers.clear(Timer::Renewal(id));
    jobs.table.change(id, |job| {
        if let Some(call) = job.run.questions.known_mut().and_then(|calls| calls.renewing.take()) {
            job.run.waits.remove(&Wait::Renewal);
            // The agent's heartbeat interval starts anew.
            job.run.last_call = ctx.now.mono;
            job.run.answer(ctx, (id, call), answer, true);
        }
    });
}

/// The host has not answered a renewal in time. If it issues a value nevertheless, that value is revoked.
pub(in crate::runtime) fn on_renewal_due(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    if let Some(renewing) = jobs.credentials.by_job.get_mut(&id).and_then(|entry| entry.renewing.as_mut()) {
        renewing.call = None;
    }
    let why = Violation::new(ErrorCode::Unavailable, "the credential keeps its value: no other was issued in time");
    answer_renewal(jobs, ctx, id, why.into());
}

/// The end of a job has waited long enough for revocation: the job ends, and the host is still asked to revoke.
pub(in crate::runtime) fn on_grace_over(jobs: &mut Jobs, ctx: &mut Context, job: JobId) {
    let stage = jobs.credentials.by_job.get_mut(&job).map(|entry| &mut entry.stage);
    if let Some(Stage::Revoking { failures, ends }) = stage
        && let Some(cause) = ends.take()
    {
        *failures = (*failures).max(1);
        ctx.observe(Notice::CredentialsNotRevoked { job, failures: *failures });
        if let Some(entry) = jobs.credentials.by_job.get_mut(&job) {
            entry.note_unrevoked(ctx);
        }
        end::finish(jobs, ctx, job, cause);
    }
}

/// Revokes everything that an earlier run left.
pub(in crate::runtime) fn on_restored(jobs: &mut Jobs, ctx: &mut Context) {
    for job in jobs.credentials.jobs().collect::<Vec<JobId>>() {
        jobs.credentials.revoke(ctx, job, None);
    }
}

/// Why a job whose credentials an earlier run held has to end.
pub(super) fn lost() -> Cause {
    let why = "the runtime was restarted, and with it the credentials of the job were lost: submit it again, if it \
               had a key with a new one";
    Cause::Failed(JobError::new(ErrorCode::Internal, why))
}

/// Restores that the credentials of a job were revoked.
pub(in crate::runtime) fn restore_revoked(jobs: &mut Jobs, id: JobId) {
    jobs.credentials.remove(id);
    jobs.table.change(id, |job| job.run.credentials = false);
    jobs.table.settle(id);
}

/// A job was forgotten, or never accepted.
pub(in crate::runtime) fn restore_forgotten(jobs: &mut Jobs, id: JobId) -> Option<Box<Job>> {
    jobs.credentials.remove(id);
    jobs.remove(id)
}

//! Credentials of jobs, from the wish for them to their revocation (1.1 §9.8, §14).
//!
//! ```text
//! Intended ──durable──▶ Asked ──issued──▶ Issued ──accepted──▶ Live
//!     └──unwanted──▶ gone  └─unwanted, failed─┐  └─unwanted─┐    │ the job ends
//!                                             ▼             ▼    ▼
//!                            gone ◀─revoked── Revoking ◀─────────┘
//! ```
//!
//! That they are wanted is durable before the host is asked: whatever was issued is
//! revoked, by this run of the runtime or a later one. Values are in memory only, and
//! no longer than they count: after a restart nobody has them, and their job ends.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::cause::Cause;
use super::credentials::{Provisioning, Stage};
use super::{Job, Jobs, end};
use crate::error::{ErrorCode, Violation};
use crate::id::{ConnId, JobId, OpId};
use crate::model::credential::{CredentialOrder, Issuance, ProvisionedCredential, Revocation};
use crate::model::event::JobError;
use crate::runtime::account::Holding;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::io::{Notice, Output, Record};
use crate::runtime::log::Waiter;
use crate::runtime::timers::Timer;

/// How long to wait before a host that could not revoke is asked again: each time
/// twice as long, from the first to the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Wants credentials for a submit, whose connection waits for them.
///
/// # Errors
///
/// If too many are wanted, used or not revoked.
pub(in crate::runtime) fn order(
    jobs: &mut Jobs,
    ctx: &mut Context,
    conn: ConnId,
    order: CredentialOrder,
) -> Result<OpId, Violation> {
    abandon(jobs, ctx, conn);
    let account = order.principal.account();
    let own = jobs.credentials.by_job.values().filter(|entry| entry.account == account).count();
    let most = ctx.config.limits.credential.jobs_with_credentials;
    let held = Holding { own, all: jobs.credentials.by_job.len(), total: most };
    let what = "jobs with credentials";
    held.admit(1, ctx.config.limits.job.principal_share, account.bound_of(), "jobs_with_credentials", what)?;
    let (op, job, principal) = (ctx.next_op(), order.job, order.principal.clone());
    let entry = Provisioning::new(ctx, &principal, Stage::Intended(op, conn, Box::new(order)));
    let pos = ctx.append(Record::CredentialsWanted { job, principal });
    ctx.log.wait(pos, Waiter::Credentials(job));
    jobs.credentials.by_job.insert(job, entry);
    jobs.credentials.waiting.insert(conn, job);
    Ok(op)
}

/// That they are wanted is durable: the host is asked.
pub(in crate::runtime) fn on_durable(jobs: &mut Jobs, ctx: &mut Context, job: JobId) {
    let credentials = &mut jobs.credentials;
    let Some(entry) = credentials.by_job.get_mut(&job) else {
        return; // Its submit was given up before.
    };
    if let Stage::Intended(op, conn, order) = &entry.stage {
        let (op, conn, order) = (*op, *conn, order.clone());
        entry.enter(Stage::Asked(Some(conn)));
        credentials.asked.insert(op, job);
        ctx.output(Output::IssueCredentials { op, order });
    }
}

/// The host has issued them, or has not. Gives the connection that waits for that, and
/// why its submit is refused, if it is.
pub(in crate::runtime) fn on_issued(
    jobs: &mut Jobs,
    ctx: &mut Context,
    op: OpId,
    issuance: Issuance,
) -> Option<(ConnId, Result<(), Violation>)> {
    let job = jobs.credentials.asked.get(&op).copied()?;
    let entry = jobs.credentials.by_job.get_mut(&job)?;
    let Stage::Asked(conn) = entry.stage else {
        return None; // That operation revokes.
    };
    jobs.credentials.asked.remove(&op);
    let most = ctx.config.limits.credential.credentials_per_job;
    let usable = match issuance {
        Issuance::Issued(issued) => kept_of(issued, most),
        Issuance::Failed { reason } => Err(reason),
    };
    let Some(conn) = conn else {
        jobs.credentials.revoke(ctx, job, None);
        return None; // Nobody waits for them any more.
    };
    match usable {
        Ok((kept, surplus)) => {
            entry.enter(Stage::Issued(conn, kept));
            if !surplus.is_empty() {
                let op = ctx.next_op();
                ctx.output(Output::RevokeCredentials { op, job, what: Revocation::Some(surplus) });
            }
            Some((conn, Ok(())))
        }
        Err(reason) => {
            // It may have issued some before it failed.
            jobs.credentials.waiting.remove(&conn);
            jobs.credentials.revoke(ctx, job, None);
            let message = alloc::format!("the job gets no credentials: {reason}");
            Some((conn, Err(Violation::new(ErrorCode::Unavailable, message))))
        }
    }
}

/// What a job gets of what was issued, and the ids of what is too much.
///
/// # Errors
///
/// What is wrong with one of them.
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

/// A connection waits no longer for credentials: none that were issued for its submit
/// has a job.
pub(in crate::runtime) fn abandon(jobs: &mut Jobs, ctx: &mut Context, conn: ConnId) {
    let Some(job) = jobs.credentials.waiting.remove(&conn) else {
        return; // It waited for none.
    };
    let Some(entry) = jobs.credentials.by_job.get_mut(&job) else {
        return; // They are revoked.
    };
    match &mut entry.stage {
        Stage::Intended(..) => forget(jobs, ctx, job),
        // What it issues all the same is revoked then.
        Stage::Asked(waits) => *waits = None,
        Stage::Issued(..) => jobs.credentials.revoke(ctx, job, None),
        Stage::Live(_) | Stage::Revoking { .. } => {}
    }
}

/// The job of a submit that was refused has nothing left.
fn forget(jobs: &mut Jobs, ctx: &mut Context, job: JobId) {
    jobs.credentials.by_job.remove(&job);
    ctx.append(Record::JobForgotten { job });
}

/// The host has revoked what it was asked to, or could not.
pub(in crate::runtime) fn on_revoked(jobs: &mut Jobs, ctx: &mut Context, op: OpId, done: bool) {
    let Some(job) = jobs.credentials.asked.remove(&op) else {
        return; // What was too much goes with the rest in the end.
    };
    let Some(entry) = jobs.credentials.by_job.get_mut(&job) else {
        return; // Another answer came before.
    };
    let Stage::Revoking { failures, ends } = &mut entry.stage else {
        return; // It answers what it was not asked.
    };
    if !done {
        let (first, longest) = AGAIN;
        let wait = first.saturating_mul(1 << (*failures).min(16)).min(longest);
        *failures = failures.saturating_add(1);
        ctx.observe(Notice::CredentialsNotRevoked { job, failures: *failures });
        ctx.timers.set(Timer::RevokeAgain(job), ctx.now.mono + wait);
        return;
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
        // It ended before; now nothing holds it.
        None => {
            jobs.table.settle(job);
            ctx.effect(Effect::Unreferenced(job));
        }
    }
}

/// The host could not revoke, and is asked again.
pub(in crate::runtime) fn on_again(jobs: &mut Jobs, ctx: &mut Context, job: JobId) {
    if jobs.credentials.has(job) {
        jobs.credentials.ask_to_revoke(ctx, job);
    }
}

/// The end of a job has waited for long enough: it ends, and they are still to be
/// revoked.
pub(in crate::runtime) fn on_grace_over(jobs: &mut Jobs, ctx: &mut Context, job: JobId) {
    let stage = jobs.credentials.by_job.get_mut(&job).map(|entry| &mut entry.stage);
    if let Some(Stage::Revoking { failures, ends }) = stage
        && let Some(cause) = ends.take()
    {
        *failures = (*failures).max(1);
        ctx.observe(Notice::CredentialsNotRevoked { job, failures: *failures });
        end::finish(jobs, ctx, job, cause);
    }
}

/// Whatever an earlier run has left is revoked.
pub(in crate::runtime) fn on_restored(jobs: &mut Jobs, ctx: &mut Context) {
    for job in jobs.credentials.jobs().collect::<Vec<JobId>>() {
        jobs.credentials.revoke(ctx, job, None);
    }
}

/// Why a job cannot go on whose credentials an earlier run has had.
pub(super) fn lost() -> Cause {
    let why = "the runtime was restarted, and with it the credentials of the job were lost: submit it again, if it \
               had a key with a new one";
    Cause::Failed(JobError::new(ErrorCode::Internal, why))
}

/// The credentials of a job were revoked in an earlier run.
pub(in crate::runtime) fn restore_revoked(jobs: &mut Jobs, id: JobId) {
    jobs.credentials.remove(id);
    jobs.table.change(id, |job| job.run.credentials = false);
    jobs.table.settle(id);
}

/// A job was forgotten, or never accepted.
pub(in crate::runtime) fn restore_forgotten(jobs: &mut Jobs, id: JobId) -> Option<Job> {
    jobs.credentials.remove(id);
    jobs.remove(id)
}

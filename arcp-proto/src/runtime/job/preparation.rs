//! What the host does before a job is accepted that no client submits: it checks its input,
//! and issues its credentials (1.1 §9.8, §10). Whoever asks for the job is heard again once it has,
//! with what was prepared, and checks everything anew.

use super::provisioning;
use super::{Jobs, NewJob};
use crate::error::Violation;
use crate::id::{JobId, OpId, Principal};
use crate::runtime::asker::{Asker, Prepared, Preparing};
use crate::runtime::context::Context;

/// What comes next of a job that may be accepted.
#[derive(Debug)]
pub(in crate::runtime) enum Next {
    /// It is accepted: as the job that credentials were issued for, if any were.
    Accept(Option<JobId>),
    /// It waits for the host.
    Wait(Preparing),
}

/// What the host has done for a job.
///
/// # Errors
///
/// Why that job is refused.
pub(in crate::runtime) fn judge(came: Option<Prepared>, new: &NewJob) -> Result<Option<Preparing>, Violation> {
    match came {
        // It says nothing of another agent.
        Some((Preparing::Input(_, agent), Err(_))) if agent != *new.agent() => Ok(None),
        Some((preparing, verdict)) => verdict.map(|()| Some(preparing)),
        None => Ok(None),
    }
}

/// Whether a job waits for the host before it is accepted; `came`: what that has done.
pub(in crate::runtime) fn waits(ctx: &Context, principal: &Principal, new: &NewJob, came: Option<&Preparing>) -> bool {
    issued(principal, new, came).is_none()
        && (new.checks_input() && !is_checked(new, came) || new.wants_credentials(ctx, principal))
}

/// Has the host do what is to be done before a job is accepted; `came`: what it has done.
/// `check` has it check the input.
///
/// # Errors
///
/// Why it is asked for nothing.
pub(in crate::runtime) fn prepare(
    jobs: &mut Jobs,
    ctx: &mut Context,
    (asker, principal): (Asker, &Principal),
    new: &NewJob,
    came: Option<&Preparing>,
    check: impl FnOnce(&mut Jobs, &mut Context) -> Result<OpId, Violation>,
) -> Result<Next, Violation> {
    if let Some(job) = issued(principal, new, came) {
        return Ok(Next::Accept(Some(job)));
    }
    if new.checks_input() && !is_checked(new, came) {
        let op = check(jobs, ctx)?;
        return Ok(Next::Wait(Preparing::Input(op, new.agent().clone())));
    }
    let wanted = provisioning::order_for(jobs, ctx, asker, (principal, new))?;
    Ok(wanted.map_or(Next::Accept(None), |(op, ordered)| Next::Wait(Preparing::Credentials(op, ordered))))
}

fn is_checked(new: &NewJob, came: Option<&Preparing>) -> bool {
    matches!(came, Some(Preparing::Input(_, agent)) if agent == new.agent())
}

/// The job that credentials were issued for, if they are for this one: otherwise others are.
fn issued(principal: &Principal, new: &NewJob, came: Option<&Preparing>) -> Option<JobId> {
    let Some(Preparing::Credentials(_, ordered)) = came else {
        return None;
    };
    ordered.fits(principal, new.agent(), new.lease()).then_some(ordered.job)
}

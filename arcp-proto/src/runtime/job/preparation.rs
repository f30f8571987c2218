//! What the host does before the core accepts a job that no client submits directly: it checks the input and issues
//! credentials (1.1 §9.8, §10). When it is done, the submit is heard again, with what was prepared, and everything
//! is checked anew.

use super::provisioning;
use super::{Jobs, NewJob};
use crate::error::Violation;
use crate::id::{JobId, OpId, Principal};
use crate::runtime::asker::{Asker, Prepared, Preparing};
use crate::runtime::context::Context;

/// What happens next with a job that may be accepted.
#[derive(Debug)]
pub(in crate::runtime) enum Next {
    /// It is accepted. If credentials were issued for it, this is its id.
    Accept(Option<JobId>),
    /// It waits for the host.
    Wait(Preparing),
}

/// What the host has prepared for a job, or why the job is refused.
///
/// # Errors
///
/// Why the host's verdict refuses the job.
pub(in crate::runtime) fn judge(came: Option<Prepared>, new: &NewJob) -> Result<Option<Preparing>, Violation> {
    match came {
        // The verdict is about the input schema of another agent, and does not count.
        Some((Preparing::Input(_, agent), Err(_))) if agent != *new.agent() => Ok(None),
        Some((preparing, verdict)) => verdict.map(|()| Some(preparing)),
        None => Ok(None),
    }
}

/// Whether a job has to wait for the host before it is accepted. `came`: what the host has done for it so far.
pub(in crate::runtime) fn waits(ctx: &Context, principal: &Principal, new: &NewJob, came: Option<&Preparing>) -> bool {
    issued(principal, new, came).is_none()
        && (new.checks_input() && !is_checked(new, came) || new.wants_credentials(ctx, principal))
}

/// Asks the host for the next thing that a job needs before it is accepted. `came`: what the host has done so far;
/// `check`: has it check the input.
///
/// # Errors
///
/// Why the host cannot be asked.
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

/// The job id that credentials were issued for, if they fit this job. If not, others are ordered.
fn issued(principal: &Principal, new: &NewJob, came: Option<&Preparing>) -> Option<JobId> {
    let Some(Preparing::Credentials(_, ordered)) = came else {
        return None;
    };
    ordered.fits(principal, new.agent(), new.lease()).then_some(ordered.job)
}

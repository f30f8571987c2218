//! Budgets that people raise: an agent asks for more money like for any other permission (`cost.budget`, and the
//! amounts).
//!
//! Granted amounts are added for good: to the balance of the job, and to what it and the jobs above it were granted.
//! The jobs above only pass the money on. What a child does not spend comes back as usual. All grants together never
//! exceed the largest budget that policy allows, either for the job or for the principal that grants.

use super::prompts::kept;
use super::{Job, Jobs, lease};
use crate::error::{ErrorCode, Violation};
use crate::id::PromptId;
use crate::lease::{Budget, Ceiling, Constraints};
use crate::model::prompt::{PermissionRequest, PromptAnswer, Question};
use crate::policy::Subject;
use crate::runtime::context::Context;

/// Whether a job may ask for these amounts. It may not in a currency in which its spending is not bounded.
///
/// # Errors
///
/// `INVALID_REQUEST` that names the currency.
pub(super) fn check_asked(job: &Job, question: &Question) -> Result<(), Violation> {
    let Question::Permission(asked) = question else {
        return Ok(());
    };
    let (Some(amounts), left) = (asked.budget(), lease::budget_left(job)) else {
        return Ok(());
    };
    match amounts.iter().find(|(currency, _)| left.currency(currency.as_str()).is_none()) {
        Some((currency, _)) => {
            let why = alloc::format!("`cost.budget`: what the job spends of {currency} is not bounded");
            Err(Violation::invalid(why))
        }
        None => Ok(()),
    }
}

/// What a question asks to be added, and what an answer to it adds, if anything.
fn added(job: &Job, number: u32, answer: &PromptAnswer) -> Option<(Budget, Budget)> {
    let PromptAnswer::Grant { resource, .. } = answer else {
        return None;
    };
    let open = kept(job)?.open.iter().find(|open| open.number == number)?;
    let Question::Permission(asked) = &open.question else {
        return None;
    };
    let part = PermissionRequest { resource: resource.clone().unwrap_or(asked.resource.clone()), ..asked.clone() };
    Some((asked.budget()?, part.budget()?))
}

/// Whether a subject may add what its answer adds, to the job and to the jobs above. `ceilings`: those of the
/// credentials of its session. The caller has checked that the answer alone is within the request and every ceiling.
///
/// # Errors
///
/// `INVALID_REQUEST` if the grant is for a time or for one use, or in a currency that was not asked for;
/// `PERMISSION_DENIED` if it is more than the subject may grant.
pub(in crate::runtime) fn check(
    ctx: &Context,
    jobs: &Jobs,
    prompt: PromptId,
    answer: &PromptAnswer,
    (who, ceilings): (Subject<'_>, [Option<&Ceiling>; 2]),
) -> Result<(), Violation> {
    let Some(job) = jobs.get(prompt.job) else {
        return Ok(()); // The look-up of the question refuses this.
    };
    let Some((asked, amounts)) = added(job, prompt.number, answer) else {
        return Ok(()); // The answer adds nothing.
    };
    if let PromptAnswer::Grant { lease_seconds: Some(_), .. } | PromptAnswer::Grant { once: true, .. } = answer {
        let why =
            "what is added to a budget stays until the job ends: it is granted neither for a time nor for one use";
        return Err(Violation::invalid(why));
    }
    if let Some((currency, _)) = amounts.iter().find(|(currency, _)| asked.currency(currency.as_str()).is_none()) {
        return Err(Violation::invalid(alloc::format!("`resource`: nothing of {currency} was asked for")));
    }
    let mut next = Some(job);
    while let Some(job) = next {
        check_ceilings(ctx, job, &amounts, (who, ceilings))?;
        next = job.spec.parent().and_then(|parent| jobs.get(parent));
    }
    Ok(())
}

/// Whether the subject and policy could have granted one job this much more.
fn check_ceilings(
    ctx: &Context,
    job: &Job,
    amounts: &Budget,
    (who, ceilings): (Subject<'_>, [Option<&Ceiling>; 2]),
) -> Result<(), Violation> {
    let denied = |why: alloc::string::String| Err(Violation::new(ErrorCode::PermissionDenied, why));
    let before = lease::budget_granted(job).with(&lease::budget_raised(job));
    let amounts = before.bounding(amounts);
    if amounts.is_empty() {
        return Ok(()); // These currencies are not bounded here.
    }
    let Some(granted) = amounts.and(&before) else {
        return denied("with what was granted before this is more than can be counted".into());
    };
    let agent = job.spec.agent.name();
    let own = Subject { principal: &job.spec.principal, roles: &job.spec.bounds.roles };
    let of_policy = ctx.config.ceilings(own, agent).chain(ctx.config.ceilings(who, agent));
    let bounds = job.spec.bounds.constraints;
    for ceiling in of_policy.chain(ceilings.into_iter().flatten()) {
        if let Some(currency) = ceiling.lease.budget().lacks(&granted) {
            let most = ceiling.lease.budget().left(currency.as_str()).unwrap_or_default();
            let before = before.left(currency.as_str()).unwrap_or_default();
            return denied(alloc::format!(
                "at most {most} {currency} may be granted to one job here, and {} was granted {before} already",
                job.id
            ));
        }
        let end = ceiling.bound(Constraints::default(), ctx.now.utc).expires_at;
        if end.is_some_and(|end| bounds.expires_at.is_none_or(|at| at > end)) {
            return denied("what is granted here ends before the lease of the job, and a budget lasts as long".into());
        }
        if ceiling.budget_is_hard && !bounds.budget_is_hard {
            return denied("budgets that are granted here end their jobs, and that of this job does not".into());
        }
    }
    Ok(())
}

/// What an answer, which was checked, adds to the budgets of a job.
pub(super) fn amounts(job: &Job, number: u32, answer: &PromptAnswer) -> Option<Budget> {
    added(job, number, answer).map(|(_, amounts)| amounts)
}

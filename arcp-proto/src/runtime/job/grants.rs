//! Permissions: what people have granted a job besides its lease (RFC §15.4, §15.5).
//!
//! ```text
//! granted ──▶ held ──time is over───────▶ Expired
//!              ├──taken back────────────▶ Revoked
//!              └──used, if granted once─▶ Used
//! ```
//!
//! They are kept with what the job asked (`prompt`). One that does not hold any more
//! is remembered, as many as may be held, so that whoever relies on it is told what
//! became of it.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use super::prompts::{keep, kept, kept_mut, plan};
use super::{Job, Jobs};
use crate::error::{ErrorCode, Violation};
use crate::id::PromptId;
use crate::json::{Json, Object};
use crate::lease::{Ceiling, Constraints, Namespace, Target};
use crate::model::event::{EventKind, JobEvent};
use crate::model::prompt::{PermissionRequest, PromptAnswer, Question, granted};
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::{GrantEnd, GrantRecord};
use crate::time::UtcMs;

/// By what an operation is allowed.
#[derive(Debug)]
pub(super) struct Permit {
    /// The pattern.
    pub(super) pattern: String,
    /// The permission that is used up with it.
    once: Option<u32>,
}

impl Permit {
    /// By the lease of the job.
    pub(super) fn of_lease(pattern: String) -> Permit {
        Permit { pattern, once: None }
    }

    /// Whether it may be used again: nobody but its agent uses up what was granted to
    /// a job.
    ///
    /// # Errors
    ///
    /// `PERMISSION_DENIED` if it may not.
    pub(super) fn check_lasts(&self) -> Result<(), Violation> {
        match self.once {
            None => Ok(()),
            Some(_) => {
                Err(Violation::new(ErrorCode::PermissionDenied, "the permission is for one use, by the job's agent"))
            }
        }
    }

    /// The operation is done; gives the pattern.
    pub(super) fn take(self, job: &mut Job, ctx: &mut Context) -> String {
        if let Some(number) = self.once {
            end(job, ctx, number, GrantEnd::Used, "used");
            keep(job, ctx);
            plan(job, ctx);
        }
        self.pattern
    }
}

/// Whether somebody may grant what a question asks for, or prolong it; gives until
/// when at most. `ceilings`: of the credentials of his session.
///
/// # Errors
///
/// If it is beyond what was asked for, or beyond what may be granted.
pub(in crate::runtime) fn check(
    ctx: &Context,
    job: &Job,
    number: u32,
    answer: &PromptAnswer,
    ceilings: [Option<&Ceiling>; 2],
) -> Result<Option<UtcMs>, Violation> {
    let lease = match answer {
        PromptAnswer::Grant { resource, .. } => {
            let open = kept(job).into_iter().flat_map(|kept| &kept.open).find(|open| open.number == number);
            let Some(Question::Permission(asked)) = open.map(|open| &open.question) else {
                return Ok(None);
            };
            let whole = asked.grant()?;
            let part = granted(&asked.operation, resource.as_ref().unwrap_or(&asked.resource))?;
            whole.covers(&part).map_err(|excess| {
                let why = alloc::format!("`resource`: only what is within `{}` was asked for", asked.resource);
                Violation::invalid(why).with_details(excess.to_json())
            })?;
            part
        }
        PromptAnswer::Extend { .. } => {
            let held = held(job, number)?;
            granted(&held.operation, &held.resource)?
        }
        PromptAnswer::Value(_) | PromptAnswer::Choice(_) | PromptAnswer::Deny { .. } | PromptAnswer::Revoke { .. } => {
            return Ok(None);
        }
    };
    let mut bounds = Constraints::default();
    for ceiling in ctx.config.ceiling.iter().chain(ceilings.into_iter().flatten()) {
        if ceiling.is_over(ctx.now.utc) {
            return Err(Violation::new(ErrorCode::LeaseExpired, "what may be granted in this session is over"));
        }
        ceiling.lease.covers(&lease).map_err(|excess| {
            let why = "this is more than may be granted here";
            Violation::new(ErrorCode::PermissionDenied, why).with_details(excess.to_json())
        })?;
        bounds = ceiling.bound(bounds, ctx.now.utc);
    }
    Ok(bounds.expires_at)
}

/// Grants a permission, at most until a moment; gives what is answered.
pub(super) fn give(
    job: &mut Job,
    ctx: &mut Context,
    number: u32,
    asked: PermissionRequest,
    (once, most): (bool, Option<UtcMs>),
) -> Json {
    let until = asked.lease_seconds.map(|seconds| ctx.now.utc.plus(Duration::from_secs(u64::from(seconds))));
    let until = until.into_iter().chain(most).min();
    let PermissionRequest { permission, resource, operation, .. } = asked;
    let grant = GrantRecord { number, operation, resource, until, permission, once, ended: None };
    let body = body(job, &grant, |_| {});
    let bound = ctx.config.limits.prompt.open_prompts_per_job;
    // The oldest goes: what it allowed can be asked for again.
    let held = kept_mut(job).grants.iter().filter(|grant| grant.ended.is_none());
    let oldest = held.clone().next().map(|grant| grant.number).filter(|_| held.count() >= bound);
    if let Some(oldest) = oldest {
        end(job, ctx, oldest, GrantEnd::Revoked, "the job holds too many");
    }
    kept_mut(job).grants.push(grant);
    job.append(ctx, JobEvent::Emitted { kind: EventKind::LeaseGranted, body: body.clone() }, false);
    body
}

/// By which permission an operation is allowed, if by one; and if one did that does
/// not hold any more, what became of it.
pub(super) fn permit(
    job: &Job,
    now: UtcMs,
    operation: &Namespace,
    target: &Target,
) -> Result<Option<Permit>, Violation> {
    let matching = kept(job).into_iter().flat_map(|kept| &kept.grants).filter_map(|grant| {
        let lease = granted(&grant.operation, &grant.resource).ok()?;
        Some((grant, lease.permits(operation, target)?.to_string()))
    });
    let mut over = None;
    for (grant, pattern) in matching {
        if !is_held(grant, now) {
            over = Some(grant);
        } else {
            return Ok(Some(Permit { pattern, once: grant.once.then_some(grant.number) }));
        }
    }
    over.map_or(Ok(None), |grant| Err(why_over(job, grant)))
}

fn is_held(grant: &GrantRecord, now: UtcMs) -> bool {
    grant.ended.is_none() && grant.until.is_none_or(|until| until > now)
}

/// Why a permission does not hold any more.
fn why_over(job: &Job, grant: &GrantRecord) -> Violation {
    let id = PromptId { job: job.id, number: grant.number }.lease();
    match grant.ended.unwrap_or(GrantEnd::Expired) {
        GrantEnd::Expired => Violation::new(ErrorCode::LeaseExpired, alloc::format!("the permission {id} has expired")),
        GrantEnd::Revoked => {
            Violation::new(ErrorCode::LeaseRevoked, alloc::format!("the permission {id} was taken back"))
        }
        GrantEnd::Used => Violation::new(
            ErrorCode::PermissionDenied,
            alloc::format!("the permission {id} was for once, and was used"),
        ),
    }
}

/// A permission that is held.
fn held(job: &Job, number: u32) -> Result<&GrantRecord, Violation> {
    let grant = kept(job).into_iter().flat_map(|kept| &kept.grants).find(|grant| grant.number == number);
    let grant = grant.ok_or_else(|| Violation::new(ErrorCode::JobNotFound, "no such lease is known here"))?;
    if grant.ended.is_some() { Err(why_over(job, grant)) } else { Ok(grant) }
}

/// Prolongs a permission, or takes it back; `most`: until when it may last.
///
/// # Errors
///
/// If it is not held any more, or cannot last longer.
pub(in crate::runtime) fn change(
    jobs: &mut Jobs,
    ctx: &mut Context,
    prompt: PromptId,
    answer: &PromptAnswer,
    most: Option<UtcMs>,
) -> Result<(), Violation> {
    let gone = || Violation::new(ErrorCode::JobNotFound, "no such lease is known here");
    let changed = jobs.table.change(prompt.job, |job| {
        if job.is_terminal() {
            return Err(Violation::new(
                ErrorCode::FailedPrecondition,
                "the job has ended, and its permissions with it",
            ));
        }
        let held = held(job, prompt.number)?.clone();
        match answer {
            PromptAnswer::Extend { seconds, from_end } => {
                let longer = |why: &'static str| Violation::new(ErrorCode::FailedPrecondition, why);
                let end = held.until.ok_or_else(|| longer("the permission lasts until its job ends"))?;
                let from = if *from_end { end } else { ctx.now.utc };
                let until = from.plus(Duration::from_secs(u64::from(seconds.get()))).min(UtcMs::MAX);
                let until = until.min(most.unwrap_or(UtcMs::MAX));
                if until <= end {
                    return Err(longer("that is no longer than the permission lasts already, or may last"));
                }
                extend(job, ctx, GrantRecord { until: Some(until), ..held });
            }
            PromptAnswer::Revoke { reason } => {
                end(job, ctx, prompt.number, GrantEnd::Revoked, reason.as_deref().unwrap_or("revoked"));
            }
            PromptAnswer::Value(_)
            | PromptAnswer::Choice(_)
            | PromptAnswer::Grant { .. }
            | PromptAnswer::Deny { .. } => {}
        }
        keep(job, ctx);
        plan(job, ctx);
        Ok(())
    });
    changed.unwrap_or_else(|| Err(gone()))
}

fn extend(job: &mut Job, ctx: &mut Context, extended: GrantRecord) {
    let body = body(job, &extended, |_| {});
    if let Some(grant) = kept_mut(job).grants.iter_mut().find(|grant| grant.number == extended.number) {
        *grant = extended;
    }
    job.append(ctx, JobEvent::Emitted { kind: EventKind::LeaseExtended, body }, false);
}

/// A permission does not hold any more: everybody is told.
fn end(job: &mut Job, ctx: &mut Context, number: u32, how: GrantEnd, reason: &str) {
    let most = ctx.config.limits.prompt.open_prompts_per_job;
    let grants = &mut kept_mut(job).grants;
    let found = grants.iter().position(|grant| grant.number == number);
    let Some(at) = found.expected("it was found held in this input") else {
        return;
    };
    let ended = GrantRecord { ended: Some(how), ..grants.remove(at) };
    grants.push(ended.clone());
    if grants.iter().filter(|grant| grant.ended.is_some()).count() > most
        && let Some(first) = grants.iter().position(|grant| grant.ended.is_some())
    {
        grants.remove(first);
    }
    let body = body(job, &ended, |body| {
        body.str("reason", reason);
    });
    job.append(ctx, JobEvent::Emitted { kind: EventKind::LeaseRevoked, body }, false);
}

/// Ends those whose time is over; whether there were any.
pub(super) fn sweep(job: &mut Job, ctx: &mut Context) -> bool {
    let now = ctx.now.utc;
    let grants = kept(job).into_iter().flat_map(|kept| &kept.grants);
    let over = grants.filter(|grant| grant.ended.is_none() && !is_held(grant, now));
    let over: Vec<u32> = over.map(|grant| grant.number).collect();
    over.iter().for_each(|number| end(job, ctx, *number, GrantEnd::Expired, "expired"));
    !over.is_empty()
}

/// As it is shown, exactly.
fn body(job: &Job, grant: &GrantRecord, more: impl FnOnce(&mut Object)) -> Json {
    let id = PromptId { job: job.id, number: grant.number };
    let mut body = Object::new();
    body.display("prompt_id", id).str("lease_id", &id.lease()).str("permission", &grant.permission);
    body.str("resource", &grant.resource).str("operation", &grant.operation);
    if let Some(until) = grant.until {
        body.display("expires_at", until);
    }
    if grant.once {
        body.bool("once", true);
    }
    more(&mut body);
    body.json()
}

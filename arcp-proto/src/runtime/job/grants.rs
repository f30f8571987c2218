//! Permissions: what people have granted a job besides its lease (RFC §15.4, §15.5).
//!
//! ```text
//! granted ──▶ held ──time is over───────▶ Expired
//!              ├──taken back────────────▶ Revoked
//!              └──used, if granted once─▶ Used
//! ```
//!
//! Permissions are kept with the questions of the job (`prompt`). Ended ones are remembered, up to the number
//! that may be held at once, so that an agent that relies on one learns why it is gone.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use super::prompts::{keep, keep_prolonged, kept, kept_mut, plan};
use super::table::Table;
use super::{Job, Jobs, is_over};
use crate::error::{ErrorCode, Violation};
use crate::id::{JobId, PromptId};
use crate::json::{Json, Object};
use crate::lease::{Ceiling, Constraints, Excess, Fuel, Namespace, Target};
use crate::model::event::{EventKind, JobEvent};
use crate::model::prompt::{PermissionRequest, PromptAnswer, Question, granted};
use crate::policy::Subject;
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::{GrantEnd, GrantRecord};
use crate::time::UtcMs;
use crate::trust::TrustLevel;

/// The metric of elevations: 1 when an elevation begins, 0 when it ends.
const ELEVATION: &str = "x-vendor.arcp.trust_elevation";

/// What allows an operation.
#[derive(Debug)]
pub(super) struct Permit {
    /// The pattern that matched.
    pub(super) pattern: String,
    /// The permission that this operation uses up, if it is for one use.
    once: Option<u32>,
}

impl Permit {
    /// A permit by the lease of the job.
    pub(super) fn of_lease(pattern: String) -> Permit {
        Permit { pattern, once: None }
    }

    /// Checks that the permit can be used again. Only the agent of a job uses up a permission for one use.
    ///
    /// # Errors
    ///
    /// `PERMISSION_DENIED` if it is for one use.
    pub(super) fn check_lasts(&self) -> Result<(), Violation> {
        match self.once {
            None => Ok(()),
            Some(_) => {
                Err(Violation::new(ErrorCode::PermissionDenied, "the permission is for one use, by the job's agent"))
            }
        }
    }

    /// The operation is done. Returns the pattern. `asked`: the target, if the agent asked and may still report the
    /// operation.
    pub(super) fn take(self, job: &mut Job, ctx: &mut Context, asked: Option<&str>) -> String {
        if let Some(number) = self.once {
            if let Some(grant) = kept_mut(job).grants.iter_mut().find(|grant| grant.number == number) {
                grant.used_on = asked.map(digest_of);
            }
            end(job, ctx, number, GrantEnd::Used, "used");
            keep(job, ctx);
            plan(job, ctx);
        }
        self.pattern
    }
}

/// Whether an agent reports an operation that it was allowed once by asking. That is not a second use.
pub(super) fn take_report(job: &mut Job, ctx: &mut Context, operation: &Namespace, target: &str) -> bool {
    let used = kept(job).is_some_and(|kept| kept.grants.iter().any(|grant| grant.used_on.is_some()));
    if !used {
        return false;
    }
    let reported = Some(digest_of(target));
    let mut grants = kept_mut(job).grants.iter_mut();
    let Some(grant) = grants.find(|grant| grant.used_on == reported && grant.operation == operation.as_str()) else {
        return false;
    };
    grant.used_on = None;
    keep(job, ctx);
    true
}

fn digest_of(target: &str) -> [u8; 32] {
    Json::string(target).fingerprint()
}

/// Whether a subject may grant what a question asks for, or extend a permission. Returns the latest end of
/// the permission, if there is one. `ceilings`: those of the credentials of the subject's session; `trusted`:
/// the subject's trust level.
///
/// # Errors
///
/// If the answer exceeds what was asked for, or what the subject may grant.
pub(in crate::runtime) fn check(
    ctx: &Context,
    job: &Job,
    number: u32,
    answer: &PromptAnswer,
    who: Subject<'_>,
    (ceilings, trusted): ([Option<&Ceiling>; 2], TrustLevel),
    fuel: &mut Fuel,
) -> Result<Option<UtcMs>, Violation> {
    if let Some(level) = elevation(job, number).filter(|level| *level > trusted) {
        let whose = if level == TrustLevel::Privileged { ": an operator is" } else { "" };
        let why = alloc::format!("who is `{trusted}` elevates nobody to `{level}`{whose}");
        return match answer {
            PromptAnswer::Grant { .. } | PromptAnswer::Extend { .. } => {
                Err(Violation::new(ErrorCode::PermissionDenied, why))
            }
            PromptAnswer::Value(_)
            | PromptAnswer::Choice(_)
            | PromptAnswer::Deny { .. }
            | PromptAnswer::Revoke { .. } => Ok(None),
        };
    }
    let lease = match answer {
        PromptAnswer::Grant { resource, .. } => {
            let open = kept(job).into_iter().flat_map(|kept| &kept.open).find(|open| open.number == number);
            let Some(Question::Permission(asked)) = open.map(|open| &open.question) else {
                return Ok(None);
            };
            let whole = asked.grant()?;
            let part = granted(&asked.operation, resource.as_ref().unwrap_or(&asked.resource))?;
            // A currency that `resource` leaves out is not granted.
            whole.covers_with(&part.clone().below(whole.budget()), fuel).map_err(|excess| {
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
    for ceiling in ctx.config.ceilings(who, job.spec.agent.name()).chain(ceilings.into_iter().flatten()) {
        if ceiling.is_over(ctx.now.utc) {
            return Err(Violation::new(ErrorCode::LeaseExpired, "what may be granted in this session is over"));
        }
        ceiling.lease.permits_all_of(&lease, fuel).map_err(|excess| {
            let why = "this is more than may be granted here";
            Violation::new(ErrorCode::PermissionDenied, why).with_details(excess.to_json())
        })?;
        bounds = ceiling.bound(bounds, ctx.now.utc);
    }
    Ok(bounds.expires_at)
}

/// Adds granted amounts to what a job may spend. Returns the answer for the agent. The amounts are spent like
/// the rest of the budget: nothing is held that could expire or be revoked.
pub(super) fn add(job: &mut Job, ctx: &mut Context, number: u32, asked: PermissionRequest) -> Json {
    let PermissionRequest { permission, resource, operation, .. } = asked;
    let grant = GrantRecord {
        number,
        operation,
        resource,
        until: None,
        permission,
        once: false,
        elevates: None,
        used_on: None,
        ended: Some(GrantEnd::Used),
    };
    let body = body(job, &grant, |_| {});
    kept_mut(job).grants.push(grant);
    forget_oldest(job, ctx);
    job.append(ctx, JobEvent::Emitted { kind: EventKind::LeaseGranted, body: body.clone() }, false);
    body
}

/// The trust level that a question asks for, or that a permission gives, held or ended.
pub(in crate::runtime) fn elevation(job: &Job, number: u32) -> Option<TrustLevel> {
    let kept = kept(job)?;
    let held = kept.grants.iter().find(|grant| grant.number == number);
    let open = || kept.open.iter().find(|open| open.number == number);
    match (held, open().map(|open| &open.question)) {
        (Some(grant), _) => grant.elevates,
        (None, Some(Question::Permission(asked))) => asked.elevates(),
        (None, Some(Question::Input { .. } | Question::Choice { .. }) | None) => None,
    }
}

/// A permission as it was last granted, held or ended.
pub(in crate::runtime) fn shown(job: &Job, number: u32) -> Option<Json> {
    let grant = kept(job)?.grants.iter().find(|grant| grant.number == number)?;
    Some(body(job, grant, |_| {}))
}

/// How a permission is granted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    /// Whether it is for one use.
    pub(super) once: bool,
    /// The latest end, if there is one.
    pub(super) until: Option<UtcMs>,
    /// The name of whoever grants it, for the log.
    pub(super) by: &'a str,
}

/// Grants a permission. Returns the answer for the agent.
pub(super) fn give(
    job: &mut Job,
    ctx: &mut Context,
    number: u32,
    asked: PermissionRequest,
    Terms { once, until: most, by }: Terms<'_>,
) -> Json {
    let elevates = asked.elevates();
    let until = asked.lease_seconds.map(|seconds| ctx.now.utc.plus(Duration::from_secs(u64::from(seconds))));
    let until = until.into_iter().chain(most).min();
    let PermissionRequest { permission, resource, operation, .. } = asked;
    let grant =
        GrantRecord { number, operation, resource, until, permission, once, elevates, used_on: None, ended: None };
    let body = body(job, &grant, |_| {});
    let bound = ctx.config.limits.prompt.open_prompts_per_job;
    // The oldest permission ends: the agent can ask again for what it allowed.
    let held = kept_mut(job).grants.iter().filter(|grant| grant.ended.is_none());
    let oldest = held.clone().next().map(|grant| grant.number).filter(|_| held.count() >= bound);
    if let Some(oldest) = oldest {
        end(job, ctx, oldest, GrantEnd::Revoked, "the job holds too many");
    }
    kept_mut(job).grants.push(grant.clone());
    job.append(ctx, JobEvent::Emitted { kind: EventKind::LeaseGranted, body: body.clone() }, false);
    tell_elevation(job, ctx, &grant, &alloc::format!("{by} has elevated the job"), Some(true));
    body
}

/// Logs an elevation or its end in the job, with a metric where it begins or ends (RFC §15.6).
fn tell_elevation(job: &mut Job, ctx: &mut Context, grant: &GrantRecord, what: &str, begins: Option<bool>) {
    let Some(level) = grant.elevates else {
        return; // The permission does not elevate the job.
    };
    let id = PromptId { job: job.id, number: grant.number };
    let about = |out: &mut Object| {
        out.str("trust_level", level.as_str()).str("operation", &grant.operation).str("resource", &grant.resource);
        out.str("lease_id", &id.lease());
    };
    let until = grant.until.map(|until| alloc::format!(", until {until}")).unwrap_or_default();
    let message = alloc::format!("{what}: `{level}` for {} on `{}`{until}", grant.operation, grant.resource);
    let mut log = Object::new();
    log.str("level", "warn").str("message", &message).object("attributes", about);
    job.append(ctx, JobEvent::Emitted { kind: EventKind::Log, body: log.json() }, false);
    if let Some(begins) = begins {
        let mut metric = Object::new();
        metric.str("name", ELEVATION).u64("value", u64::from(begins)).str("unit", "count").object("dimensions", about);
        job.append(ctx, JobEvent::Emitted { kind: EventKind::Metric, body: metric.json() }, false);
    }
}

/// The permit by which a held permission allows an operation, if any does. If only an ended permission would
/// have allowed it, the error says why that one ended. `needs`: the trust level that the operation needs and
/// the job lacks.
pub(super) fn permit(
    job: &Job,
    now: UtcMs,
    (operation, target): (&Namespace, &Target),
    needs: Option<TrustLevel>,
    fuel: &mut Fuel,
) -> Result<Option<Permit>, Violation> {
    let elevates = |grant: &&GrantRecord| needs.is_none_or(|needed| grant.elevates >= Some(needed));
    let mut over = None;
    for grant in kept(job).into_iter().flat_map(|kept| &kept.grants).filter(elevates) {
        let Ok(lease) = granted(&grant.operation, &grant.resource) else { continue };
        let Some(pattern) = lease.permits_with(operation, target, fuel).map_err(too_dear)? else { continue };
        if is_held(grant, now) {
            let once = grant.once.then_some(grant.number);
            return Ok(Some(Permit { pattern: pattern.to_string(), once }));
        }
        over = Some(grant);
    }
    over.map_or(Ok(None), |grant| Err(why_over(job, grant)))
}

/// The refusal when a pattern takes too much work to compare with a target.
pub(super) fn too_dear(excess: Excess) -> Violation {
    let why = "it takes too much work to compare this with what is granted: ask with a shorter target, or for fewer \
               and simpler patterns";
    Violation::new(ErrorCode::ResourceExhausted, why).with_details(excess.to_json())
}

fn is_held(grant: &GrantRecord, now: UtcMs) -> bool {
    grant.ended.is_none() && grant.until.is_none_or(|until| until > now)
}

/// Why an ended permission is not held.
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
    let grant = grant.ok_or_else(unknown)?;
    if is_added(grant) {
        let why = "what was added to a budget stays until the job ends: it is not prolonged and not taken back";
        return Err(Violation::new(ErrorCode::FailedPrecondition, why));
    }
    if grant.ended.is_some() { Err(why_over(job, grant)) } else { Ok(grant) }
}

/// Whether the permission added to a budget.
fn is_added(grant: &GrantRecord) -> bool {
    granted(&grant.operation, &grant.resource).is_ok_and(|lease| !lease.budget().is_empty())
}

/// The refusal when there is no such permission.
pub(in crate::runtime) fn unknown() -> Violation {
    Violation::new(ErrorCode::JobNotFound, "no such lease is known here")
}

/// Extends a permission, or revokes it. `most`: the latest end.
///
/// # Errors
///
/// If the permission is not held, or cannot last longer.
pub(in crate::runtime) fn change(
    jobs: &mut Jobs,
    ctx: &mut Context,
    prompt: PromptId,
    answer: &PromptAnswer,
    most: Option<UtcMs>,
) -> Result<(), Violation> {
    let changed = jobs.table.change(prompt.job, |job| {
        if is_over(job) {
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
                keep_prolonged(job, ctx, prompt.number, until);
            }
            PromptAnswer::Revoke { reason } => {
                end(job, ctx, prompt.number, GrantEnd::Revoked, reason.as_deref().unwrap_or("revoked"));
                keep(job, ctx);
            }
            PromptAnswer::Value(_)
            | PromptAnswer::Choice(_)
            | PromptAnswer::Grant { .. }
            | PromptAnswer::Deny { .. } => {}
        }
        plan(job, ctx);
        Ok(())
    });
    changed.unwrap_or_else(|| Err(unknown()))
}

/// Restores until when permissions of a job are held.
pub(in crate::runtime) fn restore_prolonged(table: &mut Table, id: JobId, until: Vec<(u32, UtcMs)>) {
    table.change(id, |job| {
        let Some(prompts) = &mut job.prompts else {
            return; // A later record of all prompts follows in the log.
        };
        for (number, until) in &until {
            let grant = prompts.kept.grants.iter_mut().find(|grant| grant.number == *number);
            grant.into_iter().for_each(|grant| grant.until = Some(*until));
        }
        prompts.prolonged = until;
    });
}

fn extend(job: &mut Job, ctx: &mut Context, extended: GrantRecord) {
    let body = body(job, &extended, |_| {});
    if let Some(grant) = kept_mut(job).grants.iter_mut().find(|grant| grant.number == extended.number) {
        *grant = extended.clone();
    }
    job.append(ctx, JobEvent::Emitted { kind: EventKind::LeaseExtended, body }, false);
    tell_elevation(job, ctx, &extended, "the elevation goes on", None);
}

/// Ends a permission, with an event for every reader of the job.
fn end(job: &mut Job, ctx: &mut Context, number: u32, how: GrantEnd, reason: &str) {
    let grants = &mut kept_mut(job).grants;
    let found = grants.iter().position(|grant| grant.number == number);
    let Some(at) = found.expected("it was found held in this input") else {
        return;
    };
    let ended = GrantRecord { ended: Some(how), ..grants.remove(at) };
    grants.push(ended.clone());
    forget_oldest(job, ctx);
    let body = body(job, &ended, |body| {
        body.str("reason", reason);
    });
    job.append(ctx, JobEvent::Emitted { kind: EventKind::LeaseRevoked, body }, false);
    tell_elevation(job, ctx, &ended, "the elevation is over", Some(false));
}

/// Forgets the oldest ended permission when more are remembered than may be held.
fn forget_oldest(job: &mut Job, ctx: &Context) {
    let most = ctx.config.limits.prompt.open_prompts_per_job;
    let grants = &mut kept_mut(job).grants;
    if grants.iter().filter(|grant| grant.ended.is_some()).count() > most
        && let Some(first) = grants.iter().position(|grant| grant.ended.is_some())
    {
        grants.remove(first);
    }
}

/// Ends the permissions that have expired. Returns whether there were any.
pub(super) fn sweep(job: &mut Job, ctx: &mut Context) -> bool {
    let now = ctx.now.utc;
    let grants = kept(job).into_iter().flat_map(|kept| &kept.grants);
    let over = grants.filter(|grant| grant.ended.is_none() && !is_held(grant, now));
    let over: Vec<u32> = over.map(|grant| grant.number).collect();
    over.iter().for_each(|number| end(job, ctx, *number, GrantEnd::Expired, "expired"));
    !over.is_empty()
}

/// A permission as clients are shown it.
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
    if let Some(level) = grant.elevates {
        body.str("trust_level", level.as_str());
    }
    more(&mut body);
    body.json()
}

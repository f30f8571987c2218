//! Rules for the children of a job, whether its agent or a client asks for them.

use alloc::vec::Vec;

use super::grants::Permit;
use super::lease::{self, Grant};
use super::{Job, Jobs, is_over, is_workflow, table};
use crate::error::{BoundOf, ErrorCode, Violation};
use crate::id::{JobId, WireId, prefixed};
use crate::lease::{Ceiling, Fuel, Namespace};
use crate::model::agent::AgentRef;
use crate::model::feature::Features;
use crate::model::request::Submit;
use crate::policy::Subject;
use crate::runtime::context::Context;
use crate::runtime::io::ParentRecord;

/// Whether a job may have one more child, of this agent.
pub(super) fn check_parent(
    jobs: &mut Jobs,
    ctx: &Context,
    id: JobId,
    agent: &AgentRef,
    fuel: &mut Fuel,
) -> Result<Permit, Violation> {
    if jobs.departures.is_under_way(id) {
        let why = "the job is being handed over to another runtime: nothing more is below it";
        return Err(Violation::new(ErrorCode::FailedPrecondition, why));
    }
    let may = |job: &mut Job| {
        if is_over(job) {
            return Err(Violation::new(ErrorCode::FailedPrecondition, "the job has ended: nothing more is below it"));
        }
        if job.state.is_cancelling() {
            return Err(Violation::new(ErrorCode::Cancelled, "the job is told to stop: it delegates nothing more"));
        }
        if is_workflow(job) {
            // A workflow's steps are submitted with the rights of its client.
            return Ok(Permit::of_lease("*".into()));
        }
        lease::authorize(job, ctx, (&Namespace::AgentDelegate, agent.name()), fuel)
    };
    let permit = jobs.table.change(id, may).ok_or_else(gone)??;
    check_family(jobs, ctx, jobs.table.get(id).ok_or_else(gone)?)?;
    Ok(permit)
}

pub(super) fn gone() -> Violation {
    Violation::invalid("the job is gone")
}

/// The grant of a child that a client asks for: what the agent of the parent could delegate, as far as the client may
/// ask for it.
pub(super) fn grant_below(
    jobs: &mut Jobs,
    ctx: &Context,
    id: JobId,
    who: Subject<'_>,
    asked: &Submit,
    (features, ceilings): (Features, [Option<&Ceiling>; 2]),
    fuel: &mut Fuel,
) -> Result<Grant, Violation> {
    let left = lease::budget_left(jobs.table.get(id).ok_or_else(gone)?);
    // A client that asks for no lease gets none, and not what policy would grant.
    let own = Grant::of(ctx, asked, features)?.below(&left)?;
    let own = own.under(ctx, (who, asked.agent.name()), ceilings, true, fuel)?;
    let bounds = (!own.constraints.is_none()).then(|| own.constraints.to_json());
    let submit = Submit { lease_request: Some(own.lease.clone()), lease_constraints: bounds, ..asked.clone() };
    check_parent(jobs, ctx, id, &submit.agent, fuel)?.check_lasts()?;
    Ok(Grant::of_child(ctx, &submit, jobs.table.get(id).ok_or_else(gone)?, fuel)?.after(own))
}

/// The record of a child's parent: with the id that was asked for, or a new one.
pub(super) fn below(ctx: &mut Context, parent: JobId, asked: &Submit, fingerprint: [u8; 32]) -> ParentRecord {
    let minted = |ctx: &mut Context| {
        let name = prefixed("del_", ctx.entropy.ulid(ctx.now.utc));
        WireId::new(&name).expect("it is as long as an id may be")
    };
    let delegate_id = asked.delegate_id.clone().unwrap_or_else(|| minted(ctx));
    ParentRecord { job: parent, delegate_id, fingerprint }
}

/// The child that a job has under this id, if any.
///
/// # Errors
///
/// If that child was asked for in other words.
pub(super) fn child_of(
    jobs: &Jobs,
    parent: JobId,
    name: &WireId,
    fingerprint: [u8; 32],
) -> Result<Option<JobId>, Violation> {
    let Some(child) = table::child_named(&jobs.table, parent, name) else {
        return Ok(None);
    };
    if child.spec.bounds.parent.as_ref().is_some_and(|made| made.fingerprint == fingerprint) {
        return Ok(Some(child.id));
    }
    let taken = alloc::format!("`delegate_id`: `{}` is another child of this job", name.as_str());
    Err(Violation::new(ErrorCode::DuplicateKey, taken))
}

/// Whether a job may have one more child.
fn check_family(jobs: &Jobs, ctx: &Context, parent: &Job) -> Result<(), Violation> {
    let limits = &ctx.config.limits.family;
    if parent.children.len() >= limits.children_per_job {
        let most = limits.children_per_job;
        let full = alloc::format!("{most} children of this job have not ended: delegate again when one has");
        return Err(Violation::exhausted("children_per_job", BoundOf::Job, most as u64, full));
    }
    let line = || core::iter::successors(Some(parent), |job| jobs.table.get(job.spec.parent()?));
    if line().count() > limits.delegation_depth {
        let most = limits.delegation_depth;
        let full = alloc::format!("{most} jobs delegate to each other already: that is as deep as it goes");
        return Err(Violation::exhausted("delegation_depth", BoundOf::Job, most as u64, full));
    }
    let most = limits.jobs_per_family;
    if line().last().is_some_and(|first| has_below(jobs, first, most)) {
        let full = alloc::format!("{most} jobs of this family have not ended: delegate again when one has");
        return Err(Violation::exhausted("jobs_per_family", BoundOf::Job, most as u64, full));
    }
    Ok(())
}

/// Whether a job has at least `most` descendants that have not ended, or that have such descendants.
fn has_below(jobs: &Jobs, first: &Job, most: usize) -> bool {
    let (mut below, mut looked_at): (Vec<JobId>, usize) = (first.children.iter().copied().collect(), 0);
    while below.len() < most && looked_at < below.len() {
        below.extend(jobs.table.get(below[looked_at]).into_iter().flat_map(|job| &job.children));
        looked_at += 1;
    }
    below.len() >= most
}

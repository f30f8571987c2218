//! Checks of a submitted workflow as a whole.

use super::lease::Grant;
use super::resolve::resolve;
use crate::error::{ErrorCode, Violation};
use crate::id::WireId;
use crate::json::Json;
use crate::lease::{Ceiling, Lease};
use crate::model::agent::AgentRef;
use crate::model::feature::Features;
use crate::model::request::Submit;
use crate::model::workflow::{Step, Workflow, refused_in};
use crate::policy::Subject;
use crate::runtime::context::Context;
use crate::runtime::workflow::Workflows;

/// The features that a client may ask for, and the ceilings on what it is granted.
type Bounds<'a> = (Features, [Option<&'a Ceiling>; 2]);

/// Checks a workflow as a whole: its graph, and whether the subject may submit each of its steps within the grant of
/// the workflow, under the present configuration.
///
/// # Errors
///
/// Why the workflow is refused. A fault of a step names the step.
pub(super) fn check_workflow(
    ctx: &mut Context,
    submit: &Submit,
    who: Subject<'_>,
    bounds: Bounds<'_>,
    grant: &Grant,
) -> Result<AgentRef, Violation> {
    if !ctx.config.authority.workflows {
        return Err(Violation::new(ErrorCode::Unimplemented, "this runtime runs no workflows"));
    }
    if submit.agent.version().is_some() {
        return Err(Violation::new(ErrorCode::AgentVersionNotAvailable, "workflows have no versions"));
    }
    let (graph, input) = Workflow::parts(submit.input.as_ref())?;
    let graph = Workflow::check(&graph, input.as_ref(), &ctx.config.limits.workflow)?;
    let none = Json::empty_object();
    Workflows::check_room(ctx, who.principal, &graph, submit.input.as_ref().unwrap_or(&none))?;
    for step in &graph.steps {
        check_step(ctx, step, who, bounds, grant).map_err(|why| refused_in(&step.id, why))?;
    }
    Ok(submit.agent.clone())
}

fn check_step(
    ctx: &mut Context,
    step: &Step,
    who: Subject<'_>,
    (features, ceilings): Bounds<'_>,
    grant: &Grant,
) -> Result<(), Violation> {
    resolve(ctx, who, &step.tool)?;
    if step.lease_request.is_none() && step.lease_constraints.is_none() {
        return Ok(());
    }
    let submit = submit_of(step, None);
    ctx.prove(who.principal, |ctx, fuel| {
        let asks = (who, step.tool.name());
        let own = Grant::of(ctx, &submit, features)?.under(ctx, asks, ceilings, true, fuel)?;
        let outer = Lease::parse(&grant.lease)?;
        let lease = Lease::parse(&own.lease)?.below(outer.budget());
        let beyond = |why| Violation::new(ErrorCode::LeaseSubsetViolation, why);
        let excess = outer.covers_with(&lease, fuel);
        excess.map_err(|excess| beyond(alloc::format!("{excess}")).with_details(excess.to_json()))
    })
}

/// The submit of a step, without its input.
pub(in crate::runtime) fn submit_of(step: &Step, name: Option<WireId>) -> Submit {
    Submit {
        lease_request: step.lease_request.clone(),
        lease_constraints: step.lease_constraints.clone(),
        max_runtime: step.max_runtime,
        delegate_id: name,
        ..Submit::new(step.tool.clone())
    }
}

//! Jobs that are workflows: the runtime runs them itself, without a slot, and their steps are their children.

use alloc::collections::btree_map::Entry;

use super::cause::Cause;
use super::delegation::ended;
use super::family::gone;
use super::{AgentState, Job, JobState, Jobs, Wait, account_of};
use crate::error::{ErrorCode, Violation};
use crate::id::JobId;
use crate::json::Json;
use crate::model::event::{EventKind, JobError, JobEvent};
use crate::model::job::FinalStatus;
use crate::runtime::account::Balance;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::workflow::StepWaits;

/// The end of the job of a step.
pub(in crate::runtime) type StepEnd = Result<Option<Json>, JobError>;

/// The start of a workflow is durable. Returns its input, and the balance that it counts against.
pub(in crate::runtime) fn begin(jobs: &mut Jobs, ctx: &mut Context, id: JobId) -> Option<(Json, Balance)> {
    let is_due = |job: &Job| job.state == JobState::Running && job.run.state == AgentState::Idle;
    jobs.table.get(id).filter(|job| is_due(job))?;
    jobs.table.change(id, |job| {
        let input = job.input.take().map_or_else(Json::null, |waited| waited.input);
        job.run.waits.remove(&Wait::Store);
        job.run.first_credit(&ctx.config.limits, None);
        job.run.state = AgentState::Running;
        job.run.last_call = ctx.now.mono;
        job.begin_heartbeats(ctx);
        (input, account_of(job).clone())
    })
}

/// Notes the cause with which a workflow ends once an event says how its steps stand. The first cause counts.
pub(super) fn say_first(jobs: &mut Jobs, ctx: &mut Context, id: JobId, cause: Cause) {
    if let Entry::Vacant(none) = jobs.ending.entry(id) {
        none.insert(cause);
        ctx.effect(Effect::WorkflowEnds(id));
    }
}

/// The final status of a workflow that is about to end, and its input if it never ran.
pub(in crate::runtime) fn ending(jobs: &Jobs, id: JobId) -> Option<(FinalStatus, Option<Json>)> {
    let (job, cause) = jobs.table.get(id).zip(jobs.ending.get(&id))?;
    Some((cause.status(job), job.input.as_ref().map(|waiting| waiting.input.clone())))
}

/// Sets what a workflow waits for besides the jobs of its steps.
pub(in crate::runtime) fn wait_for(jobs: &mut Jobs, id: JobId, waits: StepWaits) {
    jobs.table.change(id, |job| {
        for (wait, is) in [(Wait::Retry, waits.retry), (Wait::Room, waits.room), (Wait::Check, waits.check)] {
            if is && job.is_heard() {
                job.run.waits.insert(wait)
            } else {
                job.run.waits.remove(&wait)
            };
        }
    });
}

/// Whether steps of a workflow may be begun.
pub(in crate::runtime) fn goes_on(jobs: &Jobs, id: JobId) -> bool {
    !jobs.ending.contains_key(&id) && jobs.table.get(id).is_some_and(|job| job.is_heard() && !job.state.is_cancelling())
}

/// Whether it is told to stop, and has not ended.
pub(in crate::runtime) fn is_stopping(jobs: &Jobs, id: JobId) -> bool {
    !jobs.ending.contains_key(&id) && jobs.table.get(id).is_some_and(|job| job.is_heard() && job.state.is_cancelling())
}

/// Adds an event to the job of a workflow.
pub(in crate::runtime) fn say(jobs: &mut Jobs, ctx: &mut Context, id: JobId, kind: EventKind, body: Json) {
    jobs.table.change(id, |job| job.append(ctx, JobEvent::Emitted { kind, body }, false));
}

/// A workflow waits for the job of a step, if that has not ended.
pub(in crate::runtime) fn await_step(jobs: &mut Jobs, id: JobId, child: JobId) {
    if jobs.table.get(child).is_some_and(|job| !job.is_terminal()) {
        jobs.table.change(id, |job| job.run.waits.insert(Wait::Child(child)));
    }
}

/// How the job of a step ended; `None` if it has not.
pub(in crate::runtime) fn end_of(jobs: &Jobs, child: JobId) -> Option<StepEnd> {
    // Not retryable: the job may have done its work, and must not do it twice.
    let internal = |why: Violation| JobError { retryable: false, ..JobError::new(why.code, why.message) };
    let Some(job) = jobs.table.get(child) else {
        return Some(Err(internal(gone())));
    };
    job.is_terminal().then(|| match ended(job) {
        Err(why) => Err(internal(why)),
        Ok(end) if end.status == FinalStatus::Success => Ok(end.result),
        Ok(end) => {
            let none = || JobError::new(ErrorCode::Internal, "it did not succeed");
            Err(JobError { details: None, ..end.error.unwrap_or_else(none) })
        }
    })
}

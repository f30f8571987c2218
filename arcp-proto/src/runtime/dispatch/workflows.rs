//! Workflows: the jobs of their steps, which are submitted as their principal may submit them, and
//! the end of the whole (RFC §6.2).

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::for_job;
use crate::error::{ErrorCode, Violation};
use crate::id::{JobId, OpId, Principal, WireId};
use crate::json::{Json, Object};
use crate::model::agent::AgentRef;
use crate::model::event::{EventKind, JobError};
use crate::model::feature::{Feature, Features};
use crate::model::request::{Invocation, Submit};
use crate::model::workflow::{Workflow, is_tried_again};
use crate::runtime::Runtime;
use crate::runtime::asker::{Asker, Preparing};
use crate::runtime::audit_records::{AuditAct, AuditEntry};
use crate::runtime::context::Context;
use crate::runtime::io::{AgentExit, InputFault, Output};
use crate::runtime::job::deferred::Delegating;
use crate::runtime::job::preparation::{self, Next};
use crate::runtime::job::{
    NewJob, Submission, SubmitContext, account_of, delegation, end_workflow, has_workflows_only, is_workflow, lease,
    provisioning, submit_of, workflow,
};
use crate::runtime::workflow::{Next as NextStep, StepWaits, Workflows};
use crate::runtime::workflow_records::StepState;

/// How long until a step is retried that could not begin.
const AGAIN: Duration = Duration::from_secs(5);
/// How often a step may find no room while its principal has no unfinished jobs but workflows,
/// which may be waiting for each other; then the step fails.
const FULL: u32 = 60;
/// Workflows that go on in one input because others wait no more, so that others have their turn.
const STEP: usize = 16;
/// Bytes of an error of a step that are kept.
const SAID: usize = 1024;

/// The outcome of submitting a step.
enum Begun {
    /// Its job was accepted.
    Running(JobId),
    /// The host has to do something first.
    Waits,
    /// It is not to be run.
    Skipped,
    /// It is to be submitted again after a while, for this reason.
    Later(Violation),
    /// It was refused.
    Refused(Violation),
}

/// Reserves the memory of an accepted job, if it is a workflow.
pub(super) fn reserve(runtime: &mut Runtime, id: JobId, input: Option<&Json>) {
    let Runtime { jobs, workflows, .. } = &mut *runtime;
    if let Some((job, input)) = jobs.get(id).filter(|job| is_workflow(job)).zip(input) {
        workflows.reserve(account_of(job), id, input);
    }
}

/// Starts a workflow whose start is durable.
pub(super) fn begin(runtime: &mut Runtime, id: JobId) {
    for_job(runtime, id, |runtime| begin_now(runtime, id));
}

fn begin_now(runtime: &mut Runtime, id: JobId) {
    let Runtime { ctx, jobs, workflows, .. } = &mut *runtime;
    let Some((input, account)) = workflow::begin(jobs, ctx, id) else {
        return; // The workflow has ended.
    };
    match Workflow::of_job(&input) {
        Ok(graph) => workflows.begin(&account, id, graph, &input),
        Err(why) => {
            let error = JobError::new(ErrorCode::Internal, why.message);
            return runtime.on_agent_exited(id, AgentExit::Failure(error));
        }
    }
    let shown = workflows.shown(id);
    workflow::say(jobs, ctx, id, EventKind::Status, shown);
    // Steps that an earlier run of the runtime began may have ended.
    let begun: Vec<JobId> = workflows.children(id).collect();
    for child in begun {
        let Runtime { jobs, .. } = &mut *runtime;
        workflow::await_step(jobs, id, child);
        take_end(runtime, id, child);
    }
    go_on(runtime, id);
}

/// The job of a step, or another child of a workflow, has ended.
pub(super) fn on_child_ended(runtime: &mut Runtime, id: JobId, child: JobId) {
    if runtime.workflows.runs(id) {
        for_job(runtime, id, |runtime| {
            take_end(runtime, id, child);
            go_on(runtime, id);
        });
    }
}

/// A workflow was told to stop, or has ended. Its steps are stopped separately.
pub(super) fn on_stop(runtime: &mut Runtime, id: JobId) {
    if runtime.jobs.get(id).is_some_and(|job| job.is_terminal()) {
        return runtime.on_agent_exited(id, AgentExit::Lost);
    }
    go_on(runtime, id);
}

/// A workflow ends for a reason other than its steps: records their outcomes before the end.
pub(super) fn on_ending(runtime: &mut Runtime, id: JobId) {
    let Runtime { ctx, jobs, workflows, .. } = &mut *runtime;
    let Some((status, input)) = workflow::ending(jobs, id) else {
        return; // The workflow has ended.
    };
    let account = jobs.get(id).map(|job| account_of(job).clone());
    if let (false, Some((account, input))) = (workflows.runs(id), account.zip(input))
        && let Ok(graph) = Workflow::of_job(&input)
    {
        workflows.begin(&account, id, graph, &input);
    }
    // The end follows before other jobs get their turn, which may depend on it.
    let body = workflows.outcomes(id, status.as_str(), ctx.config.limits.frame.event_body_bytes);
    workflow::say(jobs, ctx, id, EventKind::WorkflowComplete, body);
    end_workflow(jobs, ctx, id);
}

/// The timer of a workflow is due.
pub(in crate::runtime) fn on_due(runtime: &mut Runtime, id: JobId) {
    for_job(runtime, id, |runtime| {
        go_on(runtime, id);
        runtime.carry();
    });
}

/// The host has checked an input; it may be that of a step.
pub(in crate::runtime) fn on_input_checked(runtime: &mut Runtime, op: OpId, fault: Option<&InputFault>) {
    // It was no step's otherwise, or its workflow is over.
    if let Some(step) = runtime.workflows.on_input_checked(op) {
        let misfit = |fault: &InputFault| fault.violation("the arguments do not fit the agent");
        on_prepared(runtime, step, op, fault.map_or(Ok(()), |fault| Err(misfit(fault))));
    }
    // There is room for others, perhaps.
    for _ in 0..STEP {
        let Some(id) = runtime.workflows.next_unchecked(&runtime.ctx) else { break };
        on_due(runtime, id);
    }
}

/// The host has done what a step waits for, or has not.
pub(super) fn on_prepared(runtime: &mut Runtime, step: (JobId, usize), op: OpId, verdict: Result<(), Violation>) {
    for_job(runtime, step.0, |runtime| {
        take_prepared(runtime, step, op, verdict);
        runtime.carry();
    });
}

fn take_prepared(runtime: &mut Runtime, (id, at): (JobId, usize), op: OpId, verdict: Result<(), Violation>) {
    if let Some(preparing) = runtime.workflows.take_prepared((id, at), op)
        && workflow::goes_on(&runtime.jobs, id)
    {
        let attempt = next_try(runtime, id, at);
        match verdict {
            Ok(()) => try_to_begin(runtime, id, (at, attempt), Some(&preparing)),
            // The host was not asked for anything yet.
            Err(why) if why.code == ErrorCode::ResourceExhausted => put_off(runtime, id, at, &why),
            Err(why) => fail_unbegun(runtime, id, at, why),
        }
    }
    let Runtime { ctx, jobs, workflows, .. } = &mut *runtime;
    if !workflows.awaits_credentials(id, at) {
        provisioning::abandon(jobs, ctx, Asker::Step(id, at));
    }
    go_on(runtime, id);
}

fn next_try(runtime: &Runtime, id: JobId, at: usize) -> u32 {
    runtime.workflows.state(id, at).map_or(0, StepState::attempt) + 1
}

/// A step, or its try, has failed without a job.
fn fail_unbegun(runtime: &mut Runtime, id: JobId, at: usize, why: Violation) {
    let attempt = next_try(runtime, id, at);
    fail(runtime, id, (at, attempt), None, JobError::new(why.code, why.message));
}

/// Does whatever a workflow can do now.
fn go_on(runtime: &mut Runtime, id: JobId) {
    if workflow::is_stopping(&runtime.jobs, id) {
        workflow::wait_for(&mut runtime.jobs, id, StepWaits::default());
        let Runtime { ctx, jobs, workflows, .. } = &mut *runtime;
        workflows.give_up(ctx, id);
        // A cancel removes what agents wait for, but a workflow still waits for its steps.
        workflows.children(id).for_each(|child| workflow::await_step(jobs, id, child));
        if workflows.children(id).next().is_none() {
            finish(runtime, id, "cancelled", AgentExit::Lost);
        }
        return;
    }
    runtime.workflows.end_pause(id, runtime.ctx.now.utc);
    while let Some(at) = runtime.workflows.take_overdue(id, runtime.ctx.now.utc) {
        put_off(runtime, id, at, &Violation::new(ErrorCode::Unavailable, "its input was not checked in time"));
    }
    while workflow::goes_on(&runtime.jobs, id) {
        let Runtime { ctx, workflows, .. } = &mut *runtime;
        match workflows.next(ctx, id) {
            NextStep::Skip(at) => skip(runtime, id, at, "what it needs was skipped"),
            NextStep::Begin(at, attempt) => try_to_begin(runtime, id, (at, attempt), None),
            NextStep::Complete(results) => {
                let exit = AgentExit::Success { result: Some(results), summary: None };
                return finish(runtime, id, "success", exit);
            }
            NextStep::Fail(at, error) => {
                let step = workflows.step(id, at).map_or_else(Default::default, |step| step.id.clone());
                let mut details = Object::new();
                details.str("step", &step);
                let message = alloc::format!("step `{step}`: {}", error.message);
                let error = JobError { message, details: Some(details.json()), ..error };
                return finish(runtime, id, "error", AgentExit::Failure(error));
            }
            NextStep::Wait => break,
        }
        runtime.carry();
    }
    let Runtime { ctx, jobs, workflows, .. } = &mut *runtime;
    if workflow::goes_on(jobs, id) {
        workflow::wait_for(jobs, id, workflows.waits(ctx, id));
        workflows.plan(ctx, id);
    }
}

/// Ends a workflow, after recording the outcomes of its steps.
fn finish(runtime: &mut Runtime, id: JobId, status: &str, exit: AgentExit) {
    let Runtime { ctx, jobs, workflows, .. } = &mut *runtime;
    let body = workflows.outcomes(id, status, ctx.config.limits.frame.event_body_bytes);
    workflow::say(jobs, ctx, id, EventKind::WorkflowComplete, body);
    runtime.carry();
    runtime.on_agent_exited(id, exit);
}

/// Skips a step.
fn skip(runtime: &mut Runtime, id: JobId, at: usize, why: &str) {
    note(runtime, id, at, StepState::Skipped, |step| alloc::format!("step {step} is skipped: {why}"));
}

/// Records the new state of a step, and tells watchers.
fn note(runtime: &mut Runtime, id: JobId, at: usize, state: StepState, say: impl FnOnce(&str) -> String) {
    let Runtime { ctx, jobs, workflows, .. } = &mut *runtime;
    workflows.keep(ctx, id, at, state);
    let message = workflows.step(id, at).map(|step| say(&step.id)).unwrap_or_default();
    let body = workflows.event_of(id, at, &message);
    workflow::say(jobs, ctx, id, EventKind::Status, body);
}

/// Takes the result of a step's job, if the job has ended.
fn take_end(runtime: &mut Runtime, id: JobId, child: JobId) {
    let Runtime { ctx, jobs, workflows, .. } = &mut *runtime;
    let Some((at, attempt)) = workflows.step_of(id, child) else {
        return; // The child is no step of the workflow.
    };
    let Some(end) = workflow::end_of(jobs, child) else {
        return; // The child still runs.
    };
    let end = end.and_then(|result| match workflows.check_result(ctx, id, result.as_ref()) {
        Ok(()) => Ok(result),
        Err(why) => Err(JobError { retryable: false, ..JobError::new(why.code, why.message) }),
    });
    match end {
        Ok(result) => {
            let state = StepState::Succeeded { attempt, child, result };
            note(runtime, id, at, state, |step| alloc::format!("step {step} has succeeded"));
        }
        Err(error) => fail(runtime, id, (at, attempt), Some(child), error),
    }
}

/// A step, or its try, has failed: it is retried if it may be.
fn fail(runtime: &mut Runtime, id: JobId, (at, attempt): (usize, u32), child: Option<JobId>, error: JobError) {
    let Runtime { ctx, workflows, .. } = &mut *runtime;
    let retry = workflows.step(id, at).map(|step| step.retry).unwrap_or_default();
    let message = cut(&error.message);
    let error = JobError { message: message.clone(), details: None, ..error };
    if attempt <= retry.limit && is_tried_again(&error) {
        let until = ctx.now.utc.plus(retry.after(attempt));
        let say = |step: &str| alloc::format!("step {step} has failed and is tried again: {message}");
        return note(runtime, id, at, StepState::Backoff { attempt, until }, say);
    }
    let say = |step: &str| alloc::format!("step {step} has failed: {message}");
    note(runtime, id, at, StepState::Failed { attempt, child, error }, say);
}

fn cut(message: &str) -> String {
    let mut end = message.len().min(SAID);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].into()
}

/// Begins a step, or retries it; `came`: what the host did for it.
fn try_to_begin(runtime: &mut Runtime, id: JobId, (at, attempt): (usize, u32), came: Option<&Preparing>) {
    match submit(runtime, id, (at, attempt), came) {
        Begun::Running(child) => {
            workflow::await_step(&mut runtime.jobs, id, child);
            let say = |step: &str| match attempt {
                1 => alloc::format!("step {step} is started"),
                _ => alloc::format!("step {step} is started once more"),
            };
            note(runtime, id, at, StepState::Running { attempt, child }, say);
            // A job from before a restart may have ended.
            take_end(runtime, id, child);
        }
        Begun::Waits => {}
        Begun::Skipped => skip(runtime, id, at, "its condition does not hold"),
        Begun::Later(why) => put_off(runtime, id, at, &why),
        Begun::Refused(why) => {
            let error = JobError { retryable: false, ..JobError::new(why.code, why.message) };
            fail(runtime, id, (at, attempt), None, error);
        }
    }
}

/// Begins no step of a workflow for a while; watchers are told once.
fn put_off(runtime: &mut Runtime, id: JobId, at: usize, why: &Violation) {
    let Runtime { ctx, jobs, workflows, .. } = &mut *runtime;
    let until = ctx.now.utc.plus(AGAIN);
    if workflows.put_off(id, until) {
        let step = workflows.step(id, at).map_or_else(Default::default, |step| step.id.clone());
        let body = workflows.event_of(id, at, &alloc::format!("step {step} waits: {}", cut(&why.message)));
        workflow::say(jobs, ctx, id, EventKind::Status, body);
    }
}

/// Submits the job of a step, as the principal of its workflow may submit it now.
fn submit(runtime: &mut Runtime, id: JobId, (at, attempt): (usize, u32), came: Option<&Preparing>) -> Begun {
    const BOUNDS: Features = Features::new(&[Feature::LeaseExpiresAt, Feature::CostBudget, Feature::ModelUse]);
    let Runtime { ctx, sessions, jobs, workflows, .. } = &mut *runtime;
    let gone = || Begun::Refused(Violation::invalid("the workflow is gone"));
    let Some((step, job)) = workflows.step(id, at).zip(jobs.get(id)) else {
        return gone();
    };
    let Some(name) = WireId::new(&alloc::format!("{}/{attempt}", step.id)) else {
        return gone();
    };
    let spec = job.spec();
    let (principal, session) = (spec.principal.clone(), job.sessions.holder);
    let invocation = Invocation { extensions: None, ..spec.invocation.clone() };
    let policy = ctx.config.authority.policy.as_deref();
    let roles = policy.map(|policy| policy.counting(&principal, &spec.bounds.roles)).unwrap_or_default();
    let mut submit = submit_of(step, Some(name.clone()));
    submit.trace = Some(spec.trace.clone());
    let step_id = step.id.clone();
    let asked = SubmitContext {
        id: None,
        submit: &submit,
        invocation: &invocation,
        command: None,
        request: &name,
        id_is_of_principal: false,
        principal: &principal,
        roles: &roles,
        session,
        parent: Some(id),
        features: BOUNDS,
        // They are within the lease of the workflow, which the ceilings bounded.
        ceilings: [None; 2],
        firing: None,
        begins: None,
    };
    // Filling in the arguments takes work, which is wasted if the step may not begin.
    if !came.is_some_and(Preparing::issues)
        && let Err(why) = sessions.pace().check_submits(ctx, asked.subject())
    {
        return Begun::Later(why);
    }
    if let Err(why) = jobs.check_capacity(ctx, asked) {
        return later(runtime, id, &principal, why);
    }
    let input = match workflows.input_of(&ctx.config.limits.workflow, (id, at), attempt == 1) {
        Ok(Some(input)) => input,
        Ok(None) => return Begun::Skipped,
        Err(why) => return Begun::Refused(Violation::invalid(why)),
    };
    let submit = Submit { input: Some(input), ..submit.clone() };
    let asked = SubmitContext { submit: &submit, ..asked };
    let new = match jobs.check(ctx, asked) {
        Ok(Submission::Known(child)) => return Begun::Running(child),
        Ok(Submission::New(new)) => new,
        Err(why) if matches!(why.code, ErrorCode::ResourceExhausted | ErrorCode::Unavailable) => {
            return later(runtime, id, &principal, why);
        }
        Err(why) => {
            let entry = AuditEntry { job: Some(id), ..AuditEntry::new(AuditAct::Delegate, &principal) };
            ctx.audit_refused(entry.because(Some(&alloc::format!("workflow step {step_id}"))), &why);
            return Begun::Refused(why);
        }
    };
    prepare(runtime, (id, at), asked, new, came)
}

/// Accepts the job of a step, once the host has done what it needs.
fn prepare(
    runtime: &mut Runtime,
    (id, at): (JobId, usize),
    asked: SubmitContext<'_>,
    new: NewJob,
    came: Option<&Preparing>,
) -> Begun {
    let Runtime { ctx, sessions, jobs, workflows, .. } = &mut *runtime;
    let asker = (Asker::Step(id, at), asked.principal);
    let next =
        preparation::prepare(jobs, ctx, asker, &new, came, |_, ctx| check(workflows, ctx, id, asked, new.agent()));
    match next {
        Ok(Next::Accept(issued)) => {
            if issued.is_none() {
                sessions.pace().note_submit(ctx, asked.subject());
            }
            accept(runtime, SubmitContext { id: issued, ..asked }, new)
        }
        Ok(Next::Wait(preparing)) => {
            if preparing.issues() {
                // This asks the host for work, whatever becomes of the step.
                sessions.pace().note_submit(ctx, asked.subject());
            }
            workflows.wait(ctx, (id, at), asked.principal, preparing);
            Begun::Waits
        }
        Err(why) if matches!(why.code, ErrorCode::ResourceExhausted | ErrorCode::Unavailable) => {
            later(runtime, id, asked.principal, why)
        }
        Err(why) => Begun::Refused(why),
    }
}

/// There is no room for a step: it begins later, unless only the end of its workflow, or of others
/// of its principal, could make room.
fn later(runtime: &mut Runtime, id: JobId, principal: &Principal, why: Violation) -> Begun {
    let Runtime { jobs, workflows, .. } = &mut *runtime;
    let waits_for_itself = why.code == ErrorCode::ResourceExhausted && has_workflows_only(jobs, principal);
    if waits_for_itself && workflows.note_full(id) >= FULL { Begun::Refused(why) } else { Begun::Later(why) }
}

/// Has the host check the input of a step.
fn check(
    workflows: &mut Workflows,
    ctx: &mut Context,
    id: JobId,
    asked: SubmitContext<'_>,
    agent: &AgentRef,
) -> Result<OpId, Violation> {
    let input = asked.submit.input.clone().unwrap_or_else(Json::empty_object);
    let most = ctx.config.limits.job.checked_input_bytes;
    if input.as_str().len() > most {
        let why = alloc::format!("the input of `{}` may have at most {most} bytes", agent.name());
        return Err(Violation::invalid(why));
    }
    if !workflows.may_check(ctx, id, asked.principal) {
        return Err(Violation::new(ErrorCode::Unavailable, "too many inputs are being checked"));
    }
    let op = ctx.next_op();
    ctx.output(Output::CheckInput { op, agent: agent.clone(), input });
    Ok(op)
}

/// Accepts the job of a step. As that of any child, the acceptance answers no request;
/// subscriptions and watches are sent it.
fn accept(runtime: &mut Runtime, asked: SubmitContext<'_>, new: NewJob) -> Begun {
    let SubmitContext { submit, principal, session, .. } = asked;
    let Runtime { ctx, jobs, .. } = &mut *runtime;
    if let Some(ended) = jobs.first_to_forget(ctx, principal) {
        runtime.retention().forget(ended);
    }
    let Runtime { ctx, jobs, delivery, .. } = &mut *runtime;
    let taken = new.taken().to_vec();
    let child = jobs.accept(ctx, asked, new);
    delegation::tell_parent(jobs, ctx, child, &Delegating::of(submit));
    delivery.add_job(child);
    delivery.audiences.own(session, child);
    delivery.subscriptions.show(ctx, (jobs, &delivery.feeds), child);
    delivery.number_for_all(ctx, jobs, child, 0..=0, None);
    runtime.carry();
    let Runtime { ctx, jobs, .. } = &mut *runtime;
    lease::show_taken(jobs, ctx, child, &taken);
    runtime.carry();
    Begun::Running(child)
}

/// Refuses requests for a child of a workflow, which has only its steps.
///
/// # Errors
///
/// If the job is a workflow.
pub(super) fn check_below(runtime: &Runtime, parent: JobId) -> Result<(), Violation> {
    if runtime.jobs.get(parent).is_some_and(is_workflow) {
        let why = "the job is a workflow: nothing but its steps is below it";
        return Err(Violation::new(ErrorCode::FailedPrecondition, why));
    }
    Ok(())
}

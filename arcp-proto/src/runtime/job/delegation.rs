//! Child jobs: the work that the agent of a job delegates to other agents (1.1 §10).
//!
//! A child may do no more than its parent: its lease is within the parent's, and ends no later. What it may
//! spend is taken out of the parent's budgets in the batch of its acceptance; what it has left comes back in
//! the batch of its end. So a budget and those below it never exceed what was granted, even after a crash.
//!
//! A parent that fails, is cancelled or whose lease expires ends its descendants. A parent that succeeds
//! leaves its children running. It is not forgotten before they end: their money goes back through it.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use super::cause::Cause;
use super::credit::check_credit;
use super::deferred::Delegating;
use super::family::{check_parent, child_of, gone};
use super::grants::Permit;
use super::lease::{self, Grant};
use super::questions::reply;
use super::resolve::resolve;
use super::slots::lend_slot;
use super::submit::fingerprint_below;
use super::{AgentState, Job, Jobs, NewJob, SubmitContext, Wait, is_over, is_workflow};
use crate::error::{ErrorCode, Violation};
use crate::id::{CallId, JobId, LogPos, Principal, SessionId, WireId, prefixed};
use crate::json::{Json, Object};
use crate::model::artifact::ArtifactTerms;
use crate::model::event::{EventKind, JobEvent, JobResult, Terminal};
use crate::model::feature::Features;
use crate::model::job::FinalStatus;
use crate::model::request::{Invocation, Submit};
use crate::policy::Roles;
use crate::runtime::audit_records::{AuditAct, AuditEntry};
use crate::runtime::context::Context;
use crate::runtime::delegation::{Child, Delegation};
use crate::runtime::effect::Effect;
use crate::runtime::expected::Expected as _;
use crate::runtime::io::{AgentCall, AgentReply, ChildEnd, ParentRecord};
use crate::secret::Secret;

/// A call that involves more than the job of its agent.
#[derive(Debug)]
pub(in crate::runtime) enum WiderCall {
    /// The agent delegates to a child.
    Delegate(Delegating),
    /// The agent waits for a child to end.
    Await(JobId),
    /// The agent wants another value for a credential, or the given one.
    Renew(String, Option<Secret>),
    /// The agent stores an artifact.
    Keep(Box<ArtifactTerms>),
}

/// A call that is being carried out.
#[derive(Debug)]
pub(in crate::runtime) struct OpenCall {
    pub(super) job: JobId,
    pub(super) asked: Option<CallId>,
    pub(super) bytes: u64,
    /// The last log position before the call.
    before: LogPos,
}

/// The outcome of the checks of a delegation.
#[derive(Debug)]
pub(in crate::runtime) enum Delegated {
    /// The child exists already.
    Known(JobId),
    /// A child that may be accepted.
    New(Box<NewChild>),
}

/// A child that may be accepted.
#[derive(Debug)]
pub(in crate::runtime) struct NewChild {
    submit: Submit,
    invocation: Invocation,
    new: NewJob,
    /// What allows the parent to delegate.
    permit: Permit,
    parent: ParentRecord,
    /// From here on: as the parent has them.
    principal: Principal,
    roles: Roles,
    session: SessionId,
}

impl NewChild {
    pub(in crate::runtime) fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(super) fn job(&self) -> &NewJob {
        &self.new
    }

    pub(super) fn input(&self) -> Option<&Json> {
        self.submit.input.as_ref()
    }

    /// The id by which the parent refers to this child.
    pub(in crate::runtime) fn name(&self) -> &WireId {
        &self.parent.delegate_id
    }

    /// The session that may cancel the child: the one that holds its parent.
    pub(in crate::runtime) fn session(&self) -> SessionId {
        self.session
    }
}

impl Delegating {
    /// A child that a client asks for.
    pub(in crate::runtime) fn of(submit: &Submit) -> Delegating {
        let delegation = Delegation {
            agent: submit.agent.to_string(),
            input: submit.input.clone(),
            lease_request: submit.lease_request.clone(),
            lease_constraints: submit.lease_constraints.clone(),
            delegate_id: submit.delegate_id.as_ref().map(|name| name.to_string()),
        };
        Delegating { delegation, said: None }
    }

    /// Shows the delegation in the job, successful or not: its event, and the error result if it is refused.
    fn show(&self, job: &mut Job, ctx: &mut Context, id: &WireId, made: Result<Child<'_>, &Violation>) {
        let limits = &ctx.config.limits;
        let most = limits.family.delegate_event_bytes.min(limits.frame.event_body_bytes);
        let event = self.delegation.event(self.said.as_ref(), id, made.ok(), most);
        job.append(ctx, event, true);
        if let Err(why) = made {
            let mut body = Object::new();
            body.str("call_id", id.as_str()).object("error", |error| {
                error.display("code", &why.code).str("message", &why.message);
                error.bool("retryable", why.code.retryable()).opt_json("details", why.details.as_ref());
            });
            job.append(ctx, JobEvent::Emitted { kind: EventKind::ToolResult, body: body.json() }, false);
        }
    }
}

/// Takes out a call that involves children, credentials or artifacts. `asked`: the agent waits for an answer.
/// A `delegate` event counts as such a call, except without `asked` in a job without a lease: there the event
/// only reports a delegation that happened elsewhere.
pub(super) fn wider_call(job: &Job, asked: Option<CallId>, call: AgentCall) -> Result<WiderCall, AgentCall> {
    match call {
        AgentCall::Delegate(delegation) => Ok(WiderCall::Delegate(Delegating { delegation, said: None })),
        AgentCall::AwaitChild { job } => Ok(WiderCall::Await(job)),
        AgentCall::RenewCredential { id, value } => Ok(WiderCall::Renew(id, value)),
        AgentCall::PutArtifact(terms) => Ok(WiderCall::Keep(terms)),
        AgentCall::Emit { kind: EventKind::Delegate, body } => {
            let counts = asked.is_some() || !job.spec.lease.is_empty_object();
            match Delegation::of_event(&body).filter(|_| counts) {
                Some(delegation) => Ok(WiderCall::Delegate(Delegating { delegation, said: Some(body) })),
                None => Err(AgentCall::Emit { kind: EventKind::Delegate, body }),
            }
        }
        call @ (AgentCall::Emit { .. }
        | AgentCall::Chunk { .. }
        | AgentCall::Checkpoint { .. }
        | AgentCall::Remaining
        | AgentCall::Authorize { .. }
        | AgentCall::Ask { .. }
        | AgentCall::GoOn { .. }
        | AgentCall::Stream { .. }
        | AgentCall::Heartbeat) => Err(call),
    }
}

/// Opens a call of an agent, with its credit, if the agent may call at all. A refused call is answered here.
pub(in crate::runtime) fn open_call(
    jobs: &mut Jobs,
    ctx: &mut Context,
    id: JobId,
    asked: Option<CallId>,
    bytes: u64,
) -> Option<OpenCall> {
    let job = jobs.table.get(id).filter(|job| job.run.state == AgentState::Running)?;
    if is_over(job) {
        asked.into_iter().for_each(|asked| reply(ctx, id, asked, AgentReply::Stopped));
        return None;
    }
    let before = ctx.log.last();
    let taken = jobs.table.change(id, |job| {
        job.on_agent_heard(ctx);
        check_credit(job)
    })?;
    if let Err(fault) = taken {
        asked.into_iter().for_each(|asked| reply(ctx, id, asked, AgentReply::Stopped));
        jobs.end(ctx, id, fault.into());
        return None;
    }
    let job = jobs.table.get(id)?;
    if let Some(Err(refused)) = asked.map(|asked| {
        let is_asked = job.prompts.as_deref().is_some_and(|prompts| prompts.has_call(asked));
        job.run.questions.check(asked, is_asked, &ctx.config.limits)
    }) {
        close_call(jobs, ctx, OpenCall { job: id, asked, bytes, before }, Some(refused.into()));
        return None;
    }
    Some(OpenCall { job: id, asked, bytes, before })
}

/// Closes a call: takes its credit, and answers it, unless it is answered elsewhere (`answer` is `None`).
pub(in crate::runtime) fn close_call(jobs: &mut Jobs, ctx: &mut Context, call: OpenCall, answer: Option<AgentReply>) {
    let OpenCall { job: id, asked, bytes, before } = call;
    let recorded = ctx.log.last() > before;
    jobs.table.change(id, |job| {
        // The artifact is recorded later, or refused.
        let is_storing = answer.is_none() && asked.is_some_and(|asked| job.run.questions.storing.contains(&asked));
        job.run.spend_credit(ctx, id, bytes, recorded || is_storing);
        if let Some((asked, answer)) = asked.zip(answer) {
            job.run.answer(ctx, (id, asked), answer, recorded);
        }
    });
    if let Some(cause) = jobs.table.get(id).and_then(|job| lease::obstacle(&jobs.table, job, ctx.now.utc)) {
        jobs.end(ctx, id, cause);
    }
}

/// Checks whether an agent may have the child that it asks for. A refusal is shown on its job, as the result
/// of that call.
pub(in crate::runtime) fn check_delegation(
    jobs: &mut Jobs,
    ctx: &mut Context,
    call: &OpenCall,
    asked: &Delegating,
) -> Result<Delegated, AgentReply> {
    let minted = || prefixed("del_", ctx.entropy.ulid(ctx.now.utc));
    let name = asked.delegation.delegate_id.clone().unwrap_or_else(minted);
    let Some(name) = WireId::new(&name) else {
        return Err(Violation::invalid("`delegate_id` must have 1 to 256 bytes").into());
    };
    check_child(jobs, ctx, call.job, &asked.delegation, &name)
        .map_err(|why| refuse_child(jobs, ctx, call, asked, &name, why))
}

/// Refuses a child, and shows that on the parent. Returns the answer for the agent.
pub(in crate::runtime) fn refuse_child(
    jobs: &mut Jobs,
    ctx: &mut Context,
    call: &OpenCall,
    asked: &Delegating,
    name: &WireId,
    why: Violation,
) -> AgentReply {
    jobs.table.change(call.job, |job| {
        let entry = AuditEntry::new(AuditAct::Delegate, &job.spec.principal);
        ctx.audit_refused(AuditEntry { job: Some(call.job), ..entry }, &why);
        asked.show(job, ctx, name, Err(&why));
    });
    why.into()
}

/// Checks in this order: whether the child exists already, whether the parent may delegate to that agent
/// and has room for a child, the lease, and the bounds of all jobs.
fn check_child(
    jobs: &mut Jobs,
    ctx: &mut Context,
    id: JobId,
    asked: &Delegation,
    name: &WireId,
) -> Result<Delegated, Violation> {
    let submit = asked.submit()?;
    let fingerprint = fingerprint_below(&submit);
    if let Some(child) = child_of(jobs, id, name, fingerprint)? {
        return Ok(Delegated::Known(child));
    }
    let principal = jobs.table.get(id).ok_or_else(gone)?.spec.principal.clone();
    let (permit, grant) = ctx.prove(&principal, |ctx, fuel| {
        let permit = check_parent(jobs, ctx, id, &submit.agent, fuel)?;
        let parent = jobs.table.get(id).ok_or_else(gone)?;
        Ok((permit, Grant::of_child(ctx, &submit, parent, fuel)?))
    })?;
    let parent = jobs.table.get(id).ok_or_else(gone)?;
    let invocation = Invocation {
        priority: parent.spec.invocation.priority,
        span: parent.spec.invocation.span.clone(),
        unsampled: parent.spec.invocation.unsampled,
        extensions: None,
    };
    let session = parent.sessions.holder;
    let roles = parent.spec.bounds.roles.clone();
    let submit = Submit { trace: Some(parent.spec.trace.clone()), ..submit };
    let asks = context_of((&submit, &invocation), (id, name), (&principal, &roles, session));
    jobs.check_capacity(ctx, asks)?;
    let (agent, checks_input) = resolve(ctx, asks.subject(), &submit.agent)?;
    let parent = ParentRecord { job: id, delegate_id: name.clone(), fingerprint };
    let new = NewJob { agent, checks_input, grant, key: None, parent: Some(Box::new(parent.clone())) };
    Ok(Delegated::New(Box::new(NewChild { submit, invocation, new, permit, parent, principal, roles, session })))
}

/// The submit of a child that an agent asks for. It belongs to the session that holds the parent.
fn context_of<'a>(
    (submit, invocation): (&'a Submit, &'a Invocation),
    (parent, name): (JobId, &'a WireId),
    (principal, roles, session): (&'a Principal, &'a Roles, SessionId),
) -> SubmitContext<'a> {
    SubmitContext {
        id: None,
        submit,
        invocation,
        command: None,
        request: name,
        id_is_of_principal: false,
        principal,
        roles,
        session,
        parent: Some(parent),
        features: Features::default(),
        ceilings: [None; 2],
        firing: None,
        begins: None,
    }
}

/// Accepts a child. If credentials were issued for it, `issued` is the job id that they name.
pub(in crate::runtime) fn accept_child(
    jobs: &mut Jobs,
    ctx: &mut Context,
    asked: &Delegating,
    (child, issued): (NewChild, Option<JobId>),
) -> JobId {
    let NewChild { submit, invocation, new, permit, parent, principal, roles, session } = child;
    // A permission for one use is not used up by a refused child.
    jobs.table.change(parent.job, |job| permit.take(job, ctx, None));
    let parent = (parent.job, &parent.delegate_id);
    let context = context_of((&submit, &invocation), parent, (&principal, &roles, session));
    let job = jobs.accept(ctx, SubmitContext { id: issued, ..context }, new);
    tell_parent(jobs, ctx, job, asked);
    job
}

/// A job was accepted: if it has a parent, takes its budget out of the parent's, and shows it on the parent.
pub(in crate::runtime) fn tell_parent(jobs: &mut Jobs, ctx: &mut Context, id: JobId, asked: &Delegating) {
    let Some(child) = jobs.table.get(id).expected("what was accepted in this input is there") else {
        return;
    };
    let Some(parent) = child.spec.bounds.parent.clone() else {
        return; // Most jobs have no parent.
    };
    let (agent, lease, budget) = (child.spec.agent.clone(), child.spec.lease.clone(), lease::budget_left(child));
    let entry = AuditEntry::new(AuditAct::Delegate, &child.spec.principal);
    ctx.audit(AuditEntry { job: Some(id), granted: Some(lease.clone()), ..entry });
    jobs.table.change(parent.job, |own| {
        lease::take_for_child(own, ctx, &budget);
        asked.show(own, ctx, &parent.delegate_id, Ok(Child { job: id, agent: &agent, lease: &lease }));
    });
}

/// An agent waits for a child; `None`: it is answered when the child ends.
///
/// # Errors
///
/// If the job is no child of this one, or its end is no longer held.
pub(in crate::runtime) fn on_await(
    jobs: &mut Jobs,
    ctx: &mut Context,
    call: &OpenCall,
    child: JobId,
) -> Result<Option<AgentReply>, Violation> {
    let id = call.job;
    let is_own = |job: &&Job| job.spec.bounds.parent.as_ref().is_some_and(|own| own.job == id);
    let none = || Violation::new(ErrorCode::JobNotFound, alloc::format!("{child} is no child of this job"));
    let job = jobs.table.get(child).filter(is_own).ok_or_else(none)?;
    if job.is_terminal() {
        return ended(job).map(|end| Some(AgentReply::ChildEnded(end)));
    }
    let Some(asked) = call.asked else {
        return Ok(None);
    };
    if jobs.table.get(id).is_some_and(|job| job.state.is_cancelling()) {
        return Ok(Some(AgentReply::Stopped));
    }
    jobs.table.change(id, |job| {
        job.run.questions.awaited.insert(asked, child);
        job.run.waits.insert(Wait::Child(child));
    });
    lend_slot(jobs, ctx, id);
    Ok(None)
}

/// A child has ended: answers the calls that wait for it, once the end is durable.
fn answer_parent(jobs: &mut Jobs, ctx: &mut Context, parent: JobId, child: JobId) {
    if jobs.table.get(parent).is_some_and(is_workflow) {
        ctx.effect(Effect::StepEnded { workflow: parent, job: child });
    }
    let Some(end) = jobs.table.get(child).expected("a child that ends is there").map(ended) else {
        return;
    };
    jobs.table.change(parent, |job| {
        for asked in job.run.questions.known_mut().map_or_else(Vec::new, |calls| calls.take_awaited(child)) {
            let answer = match &end {
                Ok(end) => AgentReply::ChildEnded(end.clone()),
                Err(why) => why.clone().into(),
            };
            job.run.answer(ctx, (parent, asked), answer, true);
        }
        if job.run.waits.remove(&Wait::Child(child)) {
            // The agent's heartbeat interval starts anew.
            job.run.last_call = ctx.now.mono;
        }
    });
}

/// A job has ended: returns what is left of its budget, ends its children if it did not succeed, and answers
/// its parent.
pub(super) fn end_family(jobs: &mut Jobs, ctx: &mut Context, id: JobId, status: FinalStatus) {
    let parent = jobs.table.get(id).and_then(|job| job.spec.parent());
    if parent.is_some() {
        return_budget(jobs, ctx, id);
    }
    if status != FinalStatus::Success {
        let why = alloc::format!("its parent {id} has ended");
        cancel_children(jobs, ctx, id, &why, ctx.config.timing.cancel_grace);
    }
    if let Some(parent) = parent {
        answer_parent(jobs, ctx, parent, id);
        leave_family(jobs, id).into_iter().for_each(|above| ctx.effect(Effect::Unreferenced(above)));
        // What the child spent may have used up a hard budget of its parent.
        if let Some(cause) = jobs.table.get(parent).and_then(|job| lease::obstacle(&jobs.table, job, ctx.now.utc)) {
            jobs.end(ctx, parent, cause);
        }
    }
}

/// Returns what a child has left to its parent. If the parent has ended, which returned its own budget then,
/// the amount goes on to the first job above that has not.
fn return_budget(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    let Some(job) = jobs.table.get(id).expected("a child that ends is there") else {
        return;
    };
    let (left, mut next) = (lease::budget_left(job), job.spec.parent());
    while let Some((above, job)) = next.and_then(|above| Some((above, jobs.table.get(above)?))) {
        next = job.spec.parent().filter(|_| job.is_terminal());
        jobs.table.change(above, |job| lease::take_back(job, ctx, &left));
    }
}

/// Cancels the descendants of a job that have not ended.
pub(super) fn cancel_children(jobs: &mut Jobs, ctx: &mut Context, id: JobId, why: &str, grace: Duration) {
    let children = jobs.table.get(id).map(|job| job.children.iter().copied().collect::<Vec<JobId>>());
    for child in children.into_iter().flatten() {
        let Some(job) = jobs.table.get(child) else {
            continue;
        };
        if job.is_terminal() {
            cancel_children(jobs, ctx, child, why, grace);
        } else if let Some(cause @ Cause::LeaseExpired) = lease::obstacle(&jobs.table, job, ctx.now.utc) {
            jobs.end(ctx, child, cause);
        } else {
            jobs.note_cancel(ctx, child, Some(why));
            jobs.cancel(ctx, child, Some(why), grace);
        }
    }
}

/// A job has ended: if no descendant is unended, its parent lets go of it, and so on upwards while the parent
/// has ended too. Returns the jobs that have let go of a child.
pub(super) fn leave_family(jobs: &mut Jobs, id: JobId) -> Vec<JobId> {
    let (mut freed, mut at_rest) = (Vec::new(), id);
    while let Some(job) = jobs.table.get(at_rest).filter(|job| job.is_terminal() && job.children.is_empty()) {
        let Some(parent) = job.spec.parent() else {
            break;
        };
        jobs.table.change(parent, |job| job.children.remove(&at_rest));
        jobs.table.settle(parent);
        freed.push(parent);
        at_rest = parent;
    }
    freed
}

/// The children that have not ended, or that have such children themselves.
pub(in crate::runtime) fn children(job: &Job) -> &BTreeSet<JobId> {
    &job.children
}

/// How a job ended, as its parent is told.
pub(super) fn ended(job: &Job) -> Result<ChildEnd, Violation> {
    let event = job.event(job.count()).map(|stored| &*stored.event);
    let Some(JobEvent::Ended(terminal)) = event else {
        let gone = alloc::format!("how {} ended is no longer held: wait for a child while it runs", job.id);
        return Err(Violation::new(ErrorCode::ResumeWindowExpired, gone));
    };
    let Terminal { status, result, error, .. } = &**terminal;
    let result = match result {
        Some(JobResult::Inline(result)) | Some(JobResult::Streamed { inline: Some(result), .. }) => {
            Some(result.clone())
        }
        Some(JobResult::Streamed { inline: None, .. }) => {
            let pieces = alloc::format!("the result of {} is too large to be handed over", job.id);
            return Err(Violation::new(ErrorCode::FailedPrecondition, pieces));
        }
        Some(JobResult::Stored(stored)) => Some(stored.as_result()),
        None => None,
    };
    Ok(ChildEnd { job: job.id, status: *status, result, error: error.clone() })
}

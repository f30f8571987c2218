//! Slots: how many agents run at once, and which comes next.
//!
//! The record that an agent is started is durable before it starts, so that no job runs twice because its runtime
//! ended in between. If a slot is free, that record is in the batch of the acceptance; otherwise it is written
//! when the job's turn comes.
//!
//! A pure agent starts at once. Nobody sees its work before its start is durable, and if that is lost, the work is
//! lost with it. After a restart, a pure agent runs again where the job of another agent would end.

use core::time::Duration;

use super::checkpoint;
use super::interrupt;
use super::shares::Slot;
use super::streams;
use super::{AgentState, Job, JobState, Jobs, Wait, is_over, is_workflow};
use crate::id::{JobId, SessionId};
use crate::json::{Json, Object};
use crate::model::event::{EventKind, JobEvent};
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::io::{AgentSpec, Output};
use crate::runtime::log::Waiter;
use crate::runtime::timers::Timer;

impl Jobs {
    /// The record that a job waited for is durable: its acceptance, or its start.
    pub(in crate::runtime) fn on_durable(&mut self, ctx: &mut Context, id: JobId) {
        let Some(job) = self.table.get(id) else {
            return; // It ended, and was forgotten, while the store failed.
        };
        match (&job.state, job.run.state) {
            _ if is_over(job) => {}
            (JobState::Accepting, _) if job.run.slot == Slot::Held || is_workflow(job) => {
                self.table.change(id, |job| job.start(ctx));
                ctx.effect(Effect::StartAgent(id));
            }
            (JobState::Accepting, _) => {
                self.table.change(id, |job| {
                    job.mark_queued();
                    job.run.waits.remove(&Wait::Store);
                    self.lines.enter(&ctx.config, job);
                });
                if let Some(parent) = self.table.get(id).and_then(|job| job.spec.parent()) {
                    lend_slot(self, ctx, parent);
                }
                self.fill_slots(ctx);
            }
            (JobState::Running, AgentState::Idle) => ctx.effect(Effect::StartAgent(id)),
            (JobState::Queued | JobState::Running | JobState::Cancelling(_) | JobState::Ended(_), _) => {}
        }
    }

    /// The bounds of agents may have changed: moves waiting jobs to their proper lines, in the same order.
    pub(in crate::runtime) fn arrange_lines(&mut self, ctx: &Context) {
        let waiting = core::mem::take(&mut self.lines).in_turn();
        for id in waiting {
            self.table.change(id, |job| self.lines.enter(&ctx.config, job));
        }
    }

    /// Begins waiting jobs while there are slots that their principals may have. Each starts once that is durable.
    pub(in crate::runtime) fn fill_slots(&mut self, ctx: &mut Context) {
        while let Some(id) = self.lines.next(&ctx.config.limits, &self.shares) {
            begin(self, ctx, id);
        }
    }

    /// Starts the agent of a job. It has no credit yet if `reader`, the session that paces it, is far behind.
    pub(in crate::runtime) fn start_agent(&mut self, ctx: &mut Context, id: JobId, reader: Option<SessionId>) {
        let is_due = |job: &Job| job.state == JobState::Running && job.run.state == AgentState::Idle;
        if !self.table.get(id).is_some_and(is_due) {
            return;
        }
        self.table.change(id, |job| {
            let waited = job.input.as_ref().map(|waited| (waited.input.clone(), waited.extensions.clone()));
            let (input, extensions) = waited.unwrap_or((Json::null(), None));
            job.run.waits.remove(&Wait::Store);
            let credit = job.run.first_credit(&ctx.config.limits, reader);
            job.run.state = AgentState::Running;
            job.run.last_call = ctx.now.mono;
            let spec = AgentSpec {
                agent: job.spec.agent.clone(),
                input,
                principal: job.spec.principal.clone(),
                trace: job.spec.trace.clone(),
                unsampled: job.spec.invocation.unsampled,
                extensions: extensions.unwrap_or_else(Json::empty_object),
                credit: credit.calls,
                credit_bytes: u64::try_from(credit.bytes).unwrap_or(0),
                checkpoint: checkpoint::start(job, ctx),
                restarts: job.run.restarts,
                lease: job.spec.lease.clone(),
                credentials: self.credentials.of_agent(id),
                artifact_bytes: ctx.config.largest_artifact(),
            };
            job.begin_heartbeats(ctx);
            ctx.output(Output::StartAgent { job: id, spec: spec.into() });
            streams::begin(job, ctx);
            interrupt::begin(job, ctx);
        });
    }
}

impl Job {
    /// Records the start. A pure agent starts in this input.
    fn start(&mut self, ctx: &mut Context) {
        let again = self.mark_started(ctx.now.utc);
        plan_time_limit(self, ctx);
        let event = if again { restarted(ctx.config.restarts(&self.spec.agent)) } else { JobEvent::Started };
        self.append(ctx, event, false);
        // An agent that an earlier run may have started is counted first: it may be what ended that run.
        if is_pure(self, ctx) && !self.run.perhaps_started {
            ctx.effect(Effect::StartAgent(self.id));
        }
    }
}

/// Whether a job may run before its start is durable, and again after a restart: its agent is pure, and it has no
/// credentials.
pub(super) fn is_pure(job: &Job, ctx: &Context) -> bool {
    !job.run.credentials && ctx.config.is_pure(job.spec.agent.name())
}

/// A job was accepted and its watchers are known: if it has a slot, records its start in the same commit.
pub(in crate::runtime) fn start_accepted(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    jobs.table.change(id, |job| {
        if job.run.slot == Slot::Held {
            job.start(ctx);
        }
    });
}

/// Sets the timer for the time limit of a started job. It also ends the children that the job leaves behind.
pub(super) fn plan_time_limit(job: &Job, ctx: &mut Context) {
    if let (Some(limit), Some(since)) = (job.spec.bounds.max_runtime, job.run.started_at) {
        let limit = Duration::from_secs(u64::from(limit.get()));
        let at = ctx.moment(since.plus(limit), limit);
        ctx.timers.set(Timer::MaxRuntime(job.id), at);
    }
}

/// Begins a job out of turn, if its agent and its principal may have a slot.
fn start_first(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    let may = |job: &Job| {
        let (account, agent) = (job.spec.principal.account(), job.spec.agent.name());
        jobs.shares.may_start(&ctx.config, &account, agent, job.spec.parent().is_some())
    };
    if jobs.table.get(id).is_some_and(may) {
        begin(jobs, ctx, id);
    }
}

/// Begins a job that is in line. It starts once that is durable.
fn begin(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    jobs.table.change(id, |job| {
        jobs.lines.leave(&ctx.config, job);
        jobs.shares.take_slot(job);
        job.run.waits.insert(Wait::Store);
        job.start(ctx);
    });
    let pos = ctx.log.last();
    ctx.log.wait(pos, Waiter::Job(id));
}

/// A job waits for a child that waits for a slot: the job lends its own, which that child gets first, if its agent
/// may have one more. Otherwise all jobs could wait for each other.
pub(super) fn lend_slot(jobs: &mut Jobs, ctx: &mut Context, parent: JobId) {
    let Some(job) = jobs.table.get(parent).filter(|job| job.run.slot == Slot::Held) else {
        return; // The parent holds no slot.
    };
    let in_line = |child: &JobId| jobs.table.get(*child).is_some_and(|job| job.run.waits.contains(&Wait::Slot));
    let Some(child) = job.run.questions.awaited.values().copied().find(in_line) else {
        return; // No awaited child waits for a slot.
    };
    jobs.table.change(parent, |job| jobs.shares.lend_slot(job));
    start_first(jobs, ctx, child);
    jobs.fill_slots(ctx);
}

/// A job gave its slot back: the nearest job above that has lent its own gets it.
pub(super) fn hand_slot_up(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    let mut next = jobs.table.get(id).and_then(|job| job.spec.parent());
    while let Some((above, job)) = next.and_then(|above| Some((above, jobs.table.get(above)?))) {
        if job.run.state == AgentState::Running && job.run.slot == Slot::Lent {
            jobs.table.change(above, |job| jobs.shares.take_slot(job));
            return lend_slot(jobs, ctx, above);
        }
        next = job.spec.parent();
    }
}

/// The event of a job that is started again.
fn restarted(goes_on: bool) -> JobEvent {
    let why = match goes_on {
        true => "the runtime was restarted: the job goes on from its last checkpoint",
        false => "the runtime was restarted: the job runs once more from its beginning",
    };
    let mut body = Object::new();
    body.str("phase", "restarted").str("message", why);
    JobEvent::Emitted { kind: EventKind::Status, body: body.json() }
}

//! How jobs end.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::ToString;
use core::time::Duration;

use super::cause::Cause;
use super::checkpoint;
use super::delegation;
use super::departure;
use super::inbound;
use super::jobs::{end_backlog, judge_deferred};
use super::prompt;
use super::result::is_in_pieces;
use super::slots;
use super::streams;
use super::workflow;
use super::{AgentState, ChunkTerms, End, Job, JobState, Jobs, Wait, is_over, is_workflow};
use crate::error::{ErrorCode, Violation};
use crate::id::JobId;
use crate::model::artifact::ArtifactRef;
use crate::model::event::{JobEvent, JobResult, Terminal};
use crate::model::job::FinalStatus;
use crate::runtime::context::Context;
use crate::runtime::effect::Effect;
use crate::runtime::expected::Expected as _;
use crate::runtime::few::Few;
use crate::runtime::io::{AgentExit, Notice, Output, Record};
use crate::runtime::timers::Timer;
use crate::time::{Timestamp, UtcMs};

impl Jobs {
    /// Ends a job, and tells its agent to stop unless it was told before. An ended job stays as it is. A workflow
    /// ends in the same input, after an event that says how its steps stand.
    pub(super) fn end(&mut self, ctx: &mut Context, id: JobId, cause: Cause) {
        let Some(job) = self.table.get(id).expected("who ends a job has found it") else {
            return;
        };
        if is_over(job) {
            return; // It has ended, or is about to.
        }
        if is_workflow(job) && !matches!(cause, Cause::Exited(_)) {
            return workflow::say_first(self, ctx, id, cause);
        }
        end_now(self, ctx, id, cause);
    }

    /// A client that may cancel the job has asked for it. The agent has `grace` to stop.
    pub(in crate::runtime) fn cancel(&mut self, ctx: &mut Context, id: JobId, reason: Option<&str>, grace: Duration) {
        let Some(job) = self.table.get(id).expected("who cancels a job has found it") else {
            return;
        };
        match (&job.state, job.run.state) {
            (JobState::Ended(_), _) => {}
            // It ends as cancelled once its end is not held up any longer.
            (JobState::Accepting | JobState::Queued | JobState::Running, _) if is_over(job) => {
                self.table.change(id, |job| job.mark_cancelling(reason.map(ToString::to_string)));
            }
            // A repeated cancel may shorten the grace.
            (JobState::Cancelling(_), AgentState::Idle) if !self.departures.is_under_way(id) => {
                self.end(ctx, id, Cause::Cancelled);
            }
            (JobState::Cancelling(_), AgentState::Idle) => {
                departure::holds_up_cancel(self, ctx, id, grace);
            }
            (JobState::Cancelling(_), AgentState::Running | AgentState::Gone) => {
                ctx.timers.hasten(Timer::CancelGrace(id), after(ctx, grace));
                delegation::cancel_children(self, ctx, id, &alloc::format!("its parent {id} is cancelled"), grace);
            }
            (_, agent) => {
                self.table.change(id, |job| {
                    job.mark_cancelling(reason.map(ToString::to_string));
                    job.run.stop_questions(ctx, id);
                    prompt::withdraw(job, ctx);
                });
                stop_deferred(self, id);
                match agent {
                    AgentState::Idle if departure::holds_up_cancel(self, ctx, id, grace) => {}
                    AgentState::Idle => self.end(ctx, id, Cause::Cancelled),
                    AgentState::Running | AgentState::Gone => {
                        stop_agent(self, ctx, id, grace);
                        delegation::cancel_children(
                            self,
                            ctx,
                            id,
                            &alloc::format!("its parent {id} is cancelled"),
                            grace,
                        );
                    }
                }
            }
        }
    }

    /// Records that a job was asked to stop, unless it was before or has ended. The answer to the cancel relies on
    /// this record.
    pub(in crate::runtime) fn note_cancel(&self, ctx: &mut Context, id: JobId, reason: Option<&str>) {
        let goes_on = |job: &Job| !matches!(job.state, JobState::Cancelling(_) | JobState::Ended(_));
        if self.table.get(id).is_some_and(goes_on) {
            ctx.append(Record::CancelAsked { job: id, reason: reason.map(ToString::to_string) });
        }
    }

    /// The time limit of a job is reached: ends it, or the children that it left when it succeeded.
    pub(in crate::runtime) fn on_max_runtime(&mut self, ctx: &mut Context, id: JobId) {
        if self.table.get(id).is_some_and(Job::is_terminal) {
            let why = alloc::format!("the time limit of its parent {id} is reached");
            delegation::cancel_children(self, ctx, id, &why, ctx.config.timing.cancel_grace);
        } else {
            self.end(ctx, id, Cause::TimeLimit);
        }
    }

    /// The grace of a cancelled agent is over.
    pub(in crate::runtime) fn on_cancel_grace_over(&mut self, ctx: &mut Context, id: JobId) {
        let Some(job) = self.table.get(id).expected("its timers go with a job") else {
            return;
        };
        let still_there = job.run.state == AgentState::Running;
        if job.state.is_cancelling() {
            let in_doubt = departure::end_in_doubt(self, id);
            self.end(ctx, id, in_doubt.unwrap_or(Cause::GraceOver));
        }
        if still_there {
            tell_to_stop(self, ctx, id, true);
        }
    }

    /// The agent of a job is gone. `stored`: the artifact that is the result, if the agent has stored it.
    pub(in crate::runtime) fn on_agent_exited(
        &mut self,
        ctx: &mut Context,
        id: JobId,
        (exit, stored): (AgentExit, Option<ArtifactRef>),
        terms: impl FnOnce(&Context) -> ChunkTerms,
    ) {
        self.table.change(id, |job| {
            job.run.drop_questions();
            prompt::drop_calls(job);
        });
        let Some(job) = self.table.get(id).filter(|job| job.run.state == AgentState::Running) else {
            return; // The exit was reported before.
        };
        let was_over = is_over(job);
        if !was_over {
            // Nobody gets the result of a cancelled job, so its pieces are not sent.
            let exit = if job.state.is_cancelling() { AgentExit::Lost } else { exit };
            if let Some(terminal) = self.table.change(id, |job| job.conclude(ctx, (exit, stored), terms)) {
                self.end(ctx, id, Cause::Exited(terminal));
            }
        }
        let gave_slot_back = self.table.change(id, |job| {
            job.run.state = AgentState::Gone;
            self.shares.return_slot(job)
        });
        if gave_slot_back == Some(true) {
            slots::hand_slot_up(self, ctx, id);
        }
        ctx.timers.clear(Timer::CancelGrace(id));
        // A job that ends with its agent is settled after its end is numbered: settled here, it could be forgotten to
        // make room for its own last events.
        if was_over {
            self.table.settle(id);
        }
    }
}

/// The event that says how the steps of an ending workflow stand is there: ends the workflow.
pub(in crate::runtime) fn end_workflow(jobs: &mut Jobs, ctx: &mut Context, id: JobId) {
    if let Some(cause) = jobs.ending.remove(&id) {
        end_now(jobs, ctx, id, cause);
    }
}

/// Ends a job that needs no event before its end.
fn end_now(jobs: &mut Jobs, ctx: &mut Context, id: JobId, cause: Cause) {
    let Some(job) = jobs.table.get(id).expected("who ends a job has found it") else {
        return;
    };
    let is_told =
        matches!(cause, Cause::TimeLimit | Cause::LeaseExpired | Cause::Failed(_)) && !job.state.is_cancelling();
    let has_credentials = job.run.credentials;
    let paces = [Timer::Pace(id), Timer::StreamPace(id)];
    for timer in [Timer::LeaseExpiry(id), Timer::JobHeartbeat(id), Timer::AgentSilence(id)].into_iter().chain(paces) {
        ctx.timers.clear(timer);
    }
    departure::on_ending(jobs, ctx, id);
    let mut gave_slot_back = false;
    let runs = jobs.table.change(id, |job| {
        if job.run.state == AgentState::Idle {
            checkpoint::drop_input(job);
            jobs.lines.leave(&ctx.config, job);
            gave_slot_back = jobs.shares.return_slot(job);
            job.run.state = AgentState::Gone;
        }
        job.run.sends.result = None;
        checkpoint::end(job, ctx);
        job.run.stop_questions(ctx, id);
        prompt::end(job, ctx);
        job.run.state == AgentState::Running
    });
    stop_deferred(jobs, id);
    end_backlog(jobs, id);
    let at_once = match has_credentials {
        true => jobs.credentials.revoke_before_end(ctx, id, cause),
        false => Some(cause),
    };
    if at_once.is_none() {
        jobs.table.change(id, |job| job.run.waits = Few::of(Wait::Revocation));
    }
    let ended = at_once.and_then(|cause| show_end(jobs, ctx, id, cause));
    match runs {
        Some(true) if is_told => stop_agent(jobs, ctx, id, ctx.config.timing.cancel_grace),
        Some(true) => {}
        Some(false) | None => ctx.timers.clear(Timer::CancelGrace(id)),
    }
    if gave_slot_back {
        slots::hand_slot_up(jobs, ctx, id);
    }
    if let Some(status) = ended {
        delegation::end_family(jobs, ctx, id, status);
    }
}

/// A job is told to stop, or is over: refuses the child that its agent asks for.
fn stop_deferred(jobs: &mut Jobs, id: JobId) {
    let why = Violation::new(ErrorCode::Cancelled, "the job is told to stop: it delegates nothing more");
    judge_deferred(jobs, id, Err(why), |_| true);
}

/// The end of a job is not held up any longer.
pub(super) fn finish(jobs: &mut Jobs, ctx: &mut Context, id: JobId, cause: Cause) {
    if let Some(status) = show_end(jobs, ctx, id, cause) {
        delegation::end_family(jobs, ctx, id, status);
    }
}

/// Shows the end of a job. Returns its final status, if it had not ended before.
fn show_end(jobs: &mut Jobs, ctx: &mut Context, id: JobId, cause: Cause) -> Option<FinalStatus> {
    let job = jobs.table.get(id)?;
    let mut terminal = cause.terminal(job)?;
    keep_result(ctx, id, &mut terminal);
    let (status, in_pieces) = (terminal.status, is_in_pieces(&terminal));
    // The time limit goes on for the children that the job leaves behind.
    match status == FinalStatus::Success && !job.children.is_empty() {
        true if !ctx.timers.is_set(Timer::MaxRuntime(id)) => slots::plan_time_limit(job, ctx),
        true => {}
        false => ctx.timers.clear(Timer::MaxRuntime(id)),
    }
    let mut inputs = BTreeSet::new();
    jobs.table.change(id, |job| {
        inputs = streams::end(job, ctx, status);
        let pos = job.append(ctx, JobEvent::Ended(Box::new(terminal)), false);
        job.mark_ended(End { status, at: ctx.now.utc, pos, in_pieces });
        note_history(job, ctx);
    });
    inbound::forget(jobs, id, inputs);
    jobs.list(id);
    plan_retention(ctx, id, ctx.now.utc);
    ctx.observe(Notice::JobEnded { job: id, status });
    ctx.effect(Effect::JobEnded(id));
    Some(status)
}

/// Keeps an artifact that is a result as long as its job, within the longest retention of artifacts. Its owner
/// can delete it earlier.
fn keep_result(ctx: &mut Context, id: JobId, terminal: &mut Terminal) {
    if let Some(JobResult::Stored(stored)) = &mut terminal.result {
        let span = ctx.config.retention().min(ctx.config.timing.longest_artifact_retention);
        let until = ctx.now.utc.plus(span);
        ctx.effect(Effect::ResultStored { job: id, artifact: stored.id.clone(), until });
        stored.expires_at = stored.expires_at.max(until);
    }
}

/// Sets the timers of an ended job: until when it is kept, and until when the frames that clients were sent of it.
pub(super) fn plan_retention(ctx: &mut Context, id: JobId, ended: UtcMs) {
    let (retention, window) = (ctx.config.retention(), ctx.config.timing.resume_window);
    let at = ctx.moment(ended.plus(retention), retention);
    ctx.timers.set(Timer::Retention(id), at);
    if window < retention {
        let at = ctx.moment(ended.plus(window), window);
        ctx.timers.set(Timer::EndMissed(id), at);
    }
}

/// Records the history of an ended job, so that a restart need not read its events.
fn note_history(job: &Job, ctx: &mut Context) {
    if ctx.config.history {
        let history = job.history();
        let (gone, classes, bytes) = (history.first() - 1, history.runs(), history.bytes());
        let limits_children = !job.children.is_empty() && job.spec.bounds.max_runtime.is_some();
        let started = job.run.started_at.filter(|_| limits_children);
        ctx.append(Record::JobHistory { job: job.id, gone, classes, bytes, started });
    }
}

/// Tells the agent to stop, and starts its grace.
fn stop_agent(jobs: &Jobs, ctx: &mut Context, id: JobId, grace: Duration) {
    tell_to_stop(jobs, ctx, id, false);
    let at = after(ctx, grace);
    ctx.timers.set(Timer::CancelGrace(id), at);
}

/// Tells the host to stop an agent, or the runtime to stop a workflow.
fn tell_to_stop(jobs: &Jobs, ctx: &mut Context, id: JobId, force: bool) {
    match jobs.table.get(id).is_some_and(is_workflow) {
        true => ctx.effect(Effect::StopWorkflow(id)),
        false => ctx.output(Output::StopAgent { job: id, force }),
    }
}

fn after(ctx: &Context, span: Duration) -> Timestamp {
    ctx.now.mono + span.max(Duration::from_micros(1))
}

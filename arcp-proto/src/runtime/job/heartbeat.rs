//! Heartbeats of jobs, and the watch over agents that should call regularly (RFC §10.3).

use core::time::Duration;

use super::cause::Cause;
use super::{Job, JobState, Jobs, Wait};
use crate::error::ErrorCode;
use crate::id::{JobId, LogPos};
use crate::json::Object;
use crate::model::event::{EventKind, JobError, JobEvent};
use crate::model::job::JobStatus;
use crate::model::reply::JobHeartbeat;
use crate::runtime::context::Context;
use crate::runtime::expected::Expected as _;
use crate::runtime::timers::Timer;

/// The number of heartbeat intervals for which an agent may be silent.
const PATIENCE: u32 = 2;

impl Job {
    /// The agent has started: sets the timers for heartbeats and silence.
    pub(super) fn begin_heartbeats(&self, ctx: &mut Context) {
        let Some(interval) = ctx.config.timing.heartbeat else {
            return; // Without heartbeats, no agent is expected to call.
        };
        ctx.timers.set(Timer::JobHeartbeat(self.id), ctx.now.mono + interval);
        if ctx.config.heartbeat_agents.contains(self.spec.agent.name()) {
            ctx.timers.set(Timer::AgentSilence(self.id), ctx.now.mono + interval * PATIENCE);
        }
    }

    /// The agent has called. If it had fallen silent, the job goes on.
    pub(super) fn on_agent_heard(&mut self, ctx: &mut Context) {
        self.run.last_call = ctx.now.mono;
        if self.run.waits.remove(&Wait::Silence)
            && let Some(interval) = ctx.config.timing.heartbeat
        {
            ctx.timers.set(Timer::AgentSilence(self.id), ctx.now.mono + interval * PATIENCE);
            self.run.silence_at = self.append(ctx, phase("running", None), false);
        }
    }
}

impl Jobs {
    /// Gives the heartbeat of a job that is due, for sessions that want heartbeats.
    pub(in crate::runtime) fn on_heartbeat(&mut self, ctx: &mut Context, id: JobId) -> Option<JobHeartbeat> {
        let interval = ctx.config.timing.heartbeat?;
        self.table.get(id).filter(|job| !job.is_terminal())?;
        ctx.timers.set(Timer::JobHeartbeat(id), ctx.now.mono + interval);
        self.table.change(id, |job| next_heartbeat(job, interval, ctx.log.durable()))
    }

    /// Checks whether an agent has been silent for too long. If so, its job is blocked (`blocks`) or ends.
    pub(in crate::runtime) fn on_agent_silence(&mut self, ctx: &mut Context, id: JobId, blocks: bool) {
        let Some(interval) = ctx.config.timing.heartbeat.expected("agents are watched where there are heartbeats")
        else {
            return;
        };
        // A cancelled agent has its grace instead.
        if !self.table.get(id).is_some_and(|job| job.state == JobState::Running) {
            return;
        }
        let silence = self.table.change(id, |job| {
            let is_asking = |wait: &Wait| {
                matches!(
                    wait,
                    Wait::Answer
                        | Wait::Child(_)
                        | Wait::Check
                        | Wait::Prompt
                        | Wait::Renewal
                        | Wait::Artifact
                        | Wait::Delegation
                        | Wait::StreamPace
                        | Wait::Retry
                        | Wait::Room
                        | Wait::Backlog
                )
            };
            if job.run.allowance.credit.is_spent() || job.run.waits.iter().any(is_asking) {
                // An agent without credit, or that waits for an answer, cannot call.
                job.run.last_call = ctx.now.mono;
            }
            let patience = job.run.last_call + interval * PATIENCE;
            if ctx.heard < patience {
                ctx.timers.set(Timer::AgentSilence(id), patience);
                return None;
            }
            let silence = ctx.heard.since(job.run.last_call).as_secs();
            let message = alloc::format!("the agent has been silent for {silence} s");
            if blocks {
                job.run.waits.insert(Wait::Silence);
                job.run.silence_at = job.append(ctx, phase("blocked", Some(&message)), false);
                return None;
            }
            Some(message)
        });
        if let Some(message) = silence.flatten() {
            self.end(ctx, id, Cause::Failed(JobError::new(ErrorCode::HeartbeatLost, message)));
        }
    }
}

/// The next heartbeat of a job.
fn next_heartbeat(job: &mut Job, interval: Duration, durable: LogPos) -> JobHeartbeat {
    let sequence = job.run.heartbeats;
    job.run.heartbeats += 1;
    JobHeartbeat {
        job: job.id.into(),
        sequence,
        deadline_ms: u64::try_from((interval * PATIENCE).as_millis()).unwrap_or(u64::MAX),
        // A heartbeat overtakes frames that wait for the store, so it may not reveal more than is durable.
        status: as_far_as(job.status(), job.run.silence_at <= durable),
        request: None,
        trace: job.spec.trace.clone(),
    }
}

/// The status that is durable.
fn as_far_as(status: JobStatus, durable: bool) -> JobStatus {
    match status {
        JobStatus::Blocked if !durable => JobStatus::Running,
        JobStatus::Running if !durable => JobStatus::Blocked,
        JobStatus::Pending | JobStatus::Running | JobStatus::Blocked | JobStatus::Paused | JobStatus::Ended(_) => {
            status
        }
    }
}

/// The event of a change of phase.
pub(super) fn phase(name: &str, message: Option<&str>) -> JobEvent {
    let mut body = Object::new();
    body.str("phase", name).opt_str("message", message);
    JobEvent::Emitted { kind: EventKind::Status, body: body.json() }
}

//! Signs of life of jobs, and the watch over agents that should give some
//! (RFC §10.3).

use super::JobState;
use crate::error::ErrorCode;
use crate::id::JobId;
use crate::json::Object;
use crate::model::event::{EventKind, JobError, JobEvent};
use crate::model::feature::Feature;
use crate::model::reply::{JobBeat, Reply};
use crate::runtime::Runtime;
use crate::runtime::delivery::Audience;
use crate::runtime::timers::Timer;

/// An agent may be silent for this many heartbeats.
const PATIENCE: u32 = 2;

impl Runtime {
    /// A job has started: signs of life are given and expected.
    pub(crate) fn begin_beats(&mut self, id: JobId) {
        let Some(interval) = self.ctx.config.heartbeat else {
            return;
        };
        self.ctx.timers.set(Timer::JobBeat(id), self.ctx.now.mono + interval);
        let watched = self.jobs.get(id).is_some_and(|job| self.ctx.config.beating_agents.contains(job.agent.name()));
        if watched {
            self.ctx.timers.set(Timer::AgentSilence(id), self.ctx.now.mono + interval * PATIENCE);
        }
    }

    /// Tells whoever wants to know that a job is alive. Who cannot take it
    /// now gets the next one.
    pub(crate) fn on_job_beat(&mut self, id: JobId) {
        let Some(interval) = self.ctx.config.heartbeat else {
            return;
        };
        let Some(job) = self.jobs.get_mut(id).filter(|job| !job.is_over()) else {
            return;
        };
        let sequence = job.beats;
        job.beats += 1;
        // It passes by what waits for the store: so it may not say more.
        let status = job.durable_status(self.ctx.log.durable());
        let trace = job.trace.clone();
        let watchers = self.delivery.audience(id).map(|audience| audience.watchers().to_vec()).unwrap_or_default();
        let deadline_ms = u64::try_from((interval * PATIENCE).as_millis()).unwrap_or(u64::MAX);
        for watcher in watchers {
            if !self.sessions.get(watcher).is_some_and(|session| session.view().has_job_beats()) {
                continue;
            }
            let Some(conn) = self.delivery.conn(watcher).filter(|conn| self.connections.can_write(*conn)) else {
                continue;
            };
            let requests = self.delivery.audience(id).map(Audience::requests);
            let request = requests.and_then(|requests| requests.get(watcher, requests.latest(watcher))).cloned();
            let beat = JobBeat { job: id.into(), sequence, deadline_ms, status, request, trace: trace.clone() };
            self.connections.send_reply(&mut self.ctx, conn, &Reply::JobBeat(beat));
        }
        self.ctx.timers.set(Timer::JobBeat(id), self.ctx.now.mono + interval);
    }

    /// Perhaps an agent has been silent for too long.
    pub(crate) fn on_agent_silence(&mut self, id: JobId) {
        let Some(interval) = self.ctx.config.heartbeat else {
            return;
        };
        // One that is told to stop has its grace.
        let Some(job) = self.jobs.get_mut(id).filter(|job| job.state == JobState::Running) else {
            return;
        };
        if job.credit.is_spent() {
            // Who has to wait for its reader cannot speak.
            job.last_call = self.ctx.now.mono;
        }
        let patience = job.last_call + interval * PATIENCE;
        if self.ctx.now.mono < patience {
            return self.ctx.timers.set(Timer::AgentSilence(id), patience);
        }
        let silence = self.ctx.now.mono.since(job.last_call).as_secs();
        let message = alloc::format!("the agent has been silent for {silence} s");
        let waits = self.sessions.get(job.submitter).is_some_and(|s| s.view().features.has(Feature::BlockOnSilence));
        if !waits {
            return self.end_agent(id, JobError::new(ErrorCode::HeartbeatLost, message));
        }
        self.note_silence(id, true, phase("blocked", Some(&message)));
    }

    /// An agent that had fallen silent is heard again.
    pub(crate) fn on_voice(&mut self, id: JobId) {
        if let Some(interval) = self.ctx.config.heartbeat {
            self.ctx.timers.set(Timer::AgentSilence(id), self.ctx.now.mono + interval * PATIENCE);
            self.note_silence(id, false, phase("running", None));
        }
    }

    fn note_silence(&mut self, id: JobId, silent: bool, event: JobEvent) {
        self.append_event(id, event, false);
        let at = self.ctx.log.last();
        if let Some(job) = self.jobs.get_mut(id) {
            (job.silent, job.silent_at) = (silent, at);
        }
    }
}

fn phase(name: &str, message: Option<&str>) -> JobEvent {
    let mut body = Object::new();
    body.str("phase", name).opt_str("message", message);
    JobEvent::Said { kind: EventKind::Status, body: body.json() }
}

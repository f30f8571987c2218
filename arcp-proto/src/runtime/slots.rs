//! Slots: how many agents run at once, and which comes next.
//!
//! Whatever says that an agent is started is durable before it is: no job runs
//! twice because its runtime ended in between. A job that is accepted while a
//! slot is free says so in its acceptance; one that waited says so later.

use core::time::Duration;

use super::Runtime;
use super::checkpoint::restarted;
use super::io::{AgentSpec, Output};
use super::job::{AgentState, JobState};
use super::log::Waiter;
use super::timers::Timer;
use crate::id::JobId;
use crate::json::Json;
use crate::model::event::JobEvent;

impl Runtime {
    /// Takes a slot for a job that is being accepted, if one is free: then
    /// nobody waits for it.
    pub(super) fn take_free_slot(&mut self) -> bool {
        let free = self.jobs.running < self.config.limits.running_jobs;
        self.jobs.running += usize::from(free);
        free
    }

    /// What a job waited for is durable: its acceptance, or its start.
    pub(super) fn on_job_durable(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        match job.state {
            JobState::Accepting if job.has_slot => {
                self.begin(id);
                self.launch(id);
            }
            JobState::Accepting => {
                job.state = JobState::Queued;
                self.jobs.enqueue(id);
                self.fill_slots();
            }
            JobState::Running if job.agent_state == AgentState::Idle => self.launch(id),
            JobState::Queued | JobState::Running | JobState::Cancelling | JobState::Ended(_) => {}
        }
    }

    /// Begins with waiting jobs while there are slots.
    pub(super) fn fill_slots(&mut self) {
        while self.jobs.running < self.config.limits.running_jobs {
            let Some(id) = self.jobs.dequeue() else {
                return;
            };
            // A job may have been cancelled in the queue.
            let Some(job) = self.jobs.get_mut(id).filter(|job| job.state == JobState::Queued) else {
                continue;
            };
            job.has_slot = true;
            self.jobs.running += 1;
            self.begin(id);
            let pos = self.log.last();
            self.log.wait(pos, Waiter::Job(id));
        }
    }

    /// A job gives its slot back.
    pub(super) fn release_slot(&mut self, id: JobId) -> bool {
        let held = self.jobs.get_mut(id).is_some_and(|job| core::mem::take(&mut job.has_slot));
        self.jobs.running = self.jobs.running.saturating_sub(usize::from(held));
        held
    }

    /// Says that a job is started.
    fn begin(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        job.state = JobState::Running;
        let again = job.started_at.is_some();
        let since = *job.started_at.get_or_insert(self.now.utc);
        if let Some(limit) = job.max_runtime {
            let limit = Duration::from_secs(u64::from(limit.get()));
            let at = self.moment(since.plus(limit), limit);
            self.timers.set(Timer::MaxRuntime(id), at);
        }
        let event = if again { restarted() } else { JobEvent::Started };
        self.append_event(id, event, false);
    }

    /// Starts it.
    fn launch(&mut self, id: JobId) {
        let credit = self.config.limits.agent_credit;
        let (input, extensions) = self.jobs.take_input(id);
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        job.agent_state = AgentState::Running;
        job.credit = credit;
        job.last_call = self.now.mono;
        let spec = AgentSpec {
            agent: job.agent.clone(),
            input,
            principal: job.principal.clone(),
            trace: job.trace.clone(),
            extensions: extensions.unwrap_or_else(Json::empty_object),
            credit,
            checkpoint: job.checkpoint.take(),
            restarts: job.restarts,
        };
        self.begin_beats(id);
        self.outputs.push_back(Output::StartAgent { job: id, spec: spec.into() });
    }
}

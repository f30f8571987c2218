//! How long events and jobs are kept: the events of a job that goes on until
//! whoever was to get them has acknowledged them and the resume window is over,
//! a job for that window after its end; both within the bounds of `Limits`.

use core::time::Duration;

use super::Runtime;
use super::io::Record;
use super::job::Job;
use super::timers::Timer;
use crate::id::{JobId, LogPos, Principal};

/// How often in a resume window what was acknowledged meanwhile is looked for.
const PURGES_PER_WINDOW: u32 = 8;
/// Between two steps, where there is much to let go.
const NEXT_STEP: Duration = Duration::from_millis(10);

impl Runtime {
    /// What no longer fits in memory is read back from the store when it is
    /// needed, or without one is gone; what no longer fits there is gone.
    pub(super) fn bound_events(&mut self, id: JobId) {
        let limits = &self.ctx.config.limits;
        if !self.ctx.config.history {
            if self.jobs.is_too_large(id, limits) {
                let unsent = self.delivery.first_unsent(&self.jobs, id);
                let delivery = &self.delivery;
                self.jobs.fit(id, limits, LogPos(u64::MAX), unsent, |id, _| delivery.is_owed(id));
                self.jobs.forget_dropped(id);
            }
            return self.delivery.detach_overtaken(&mut self.ctx, &self.jobs, id);
        }
        self.jobs.fit(id, limits, self.ctx.log.durable(), u64::MAX, |_, _| false);
        if self.jobs.is_kept_too_large(id, limits) {
            let unsent = self.delivery.first_unsent(&self.jobs, id);
            for (job, upto) in self.jobs.trim(id, limits, unsent) {
                self.note_trimmed(job, upto);
            }
        }
    }

    /// Tells the store which events it need not keep.
    fn note_trimmed(&mut self, id: JobId, upto: u64) {
        // With them goes what a restart would learn from them.
        let started = self.jobs.get(id).and_then(|job| job.started_at);
        self.ctx.append(Record::HistoryTrimmed { job: id, upto, started });
    }

    /// A good many events have come: perhaps others can go.
    pub(super) fn on_history_grown(&mut self, id: JobId) {
        let needed = self.delivery.first_needed(&self.jobs, id);
        self.free_acknowledged(id, needed);
        if !self.ctx.timers.is_set(Timer::Purge(id)) {
            self.plan_purge(id);
        }
    }

    /// Some of a job's events may be let go later, if that is so.
    pub(super) fn plan_purge(&mut self, id: JobId) {
        let in_store = self.ctx.config.history;
        if self.jobs.get(id).is_some_and(|job| job.may_let_events_go(in_store)) {
            let interval = self.ctx.config.resume_window / PURGES_PER_WINDOW;
            self.ctx.timers.set(Timer::Purge(id), self.ctx.now.mono + interval);
        }
    }

    /// Lets go for good of what is past the resume window, and that nobody
    /// needs, of a job that goes on.
    pub(super) fn on_purge(&mut self, id: JobId) {
        let needed = self.delivery.first_needed(&self.jobs, id);
        self.free_acknowledged(id, needed);
        self.plan_purge(id);
        // What the store does not have yet stays, as does what it cannot delete.
        let may_go = !self.ctx.log.failed && self.jobs.get(id).is_some_and(|job| !job.is_over());
        if may_go && let Some(upto) = self.jobs.purge(id, self.ctx.now.mono, needed) {
            if self.ctx.config.history {
                self.note_trimmed(id, upto);
            }
            // There may be more: others come in between.
            self.ctx.timers.set(Timer::Purge(id), self.ctx.now.mono + NEXT_STEP);
        }
    }

    /// Lets go from memory of what the store has, and everybody who was to get
    /// it: what comes before `needed`.
    fn free_acknowledged(&mut self, id: JobId, needed: u64) {
        if self.ctx.config.history {
            self.jobs.free(id, needed, self.ctx.log.durable());
        }
    }

    /// An ended job leaves the listings; what sessions still need stays.
    pub(super) fn on_retention_over(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        job.expired = true;
        let principal = job.principal.clone();
        self.jobs.unlist(principal, id);
        self.delivery.release_expired_job(&mut self.ctx, &self.jobs, id);
        self.carry();
        self.forget_if_done(id);
    }

    /// Takes the oldest ended job of a principal from the listings, if there
    /// are too many; true if there were.
    pub(super) fn bound_ended(&mut self, principal: &Principal) -> bool {
        let full = self.jobs.ended_of(principal) > self.ctx.config.limits.ended_jobs_per_principal;
        let oldest = self.jobs.oldest_listed(principal).filter(|_| full);
        if let Some(id) = oldest {
            self.ctx.timers.clear(Timer::Retention(id));
            self.delivery.take_as_received(id);
            self.on_retention_over(id);
        }
        oldest.is_some()
    }

    pub(super) fn forget_if_done(&mut self, id: JobId) {
        if self.delivery.is_unreferenced(id) && self.jobs.get(id).is_some_and(Job::is_done) {
            self.forget_job(id);
        }
    }

    /// Forgets a job whose agent is gone. Who was still to read of it is told
    /// that its history is lost.
    pub(super) fn forget_job(&mut self, id: JobId) {
        self.ctx.timers.clear(Timer::Retention(id));
        self.ctx.timers.clear(Timer::Purge(id));
        self.keep_key(id);
        self.remove_job(id);
        self.ctx.append(Record::JobForgotten { job: id });
    }

    /// Takes a job away, itself from the sessions that own it or whose requests
    /// it knows, and with the last thing of its principal the ids of that one's messages.
    pub(super) fn remove_job(&mut self, id: JobId) {
        let Some(job) = self.jobs.remove(id) else {
            return;
        };
        self.delivery.remove_job(id);
        self.sessions.forget_seen_of(&job.principal, self.jobs.has_any(&job.principal));
    }
}

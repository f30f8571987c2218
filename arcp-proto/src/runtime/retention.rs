//! How long events and jobs are kept: the events of a job that goes on until
//! whoever was to get them has acknowledged them and the resume window is over,
//! a job for that window after its end; both within the bounds of `Limits`.

use alloc::vec::Vec;
use core::time::Duration;

use super::Runtime;
use super::io::Record;
use super::job::Job;
use super::session::Sessions;
use super::timers::Timer;
use crate::id::{JobId, LogPos, Principal, SessionId};

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
                let unsent = self.first_unsent(id);
                let sessions = &self.sessions;
                self.jobs.fit(id, limits, LogPos(u64::MAX), unsent, |id, job| is_owed(sessions, id, job));
                self.jobs.forget_dropped(id);
            }
            return self.detach_overtaken(id);
        }
        self.jobs.fit(id, limits, self.ctx.log.durable(), u64::MAX, |_, _| false);
        if self.jobs.is_kept_too_large(id, limits) {
            let unsent = self.first_unsent(id);
            for (job, upto) in self.jobs.trim(id, limits, unsent) {
                self.note_trimmed(job, upto);
            }
        }
    }

    /// The first event of a job that it may not go on without having sent:
    /// whoever paces its agent is attached and waits for it.
    fn first_unsent(&self, id: JobId) -> u64 {
        let readers = self.jobs.get(id).into_iter().flat_map(Job::pacing_readers);
        let attached = readers.filter_map(|reader| self.sessions.get(reader).filter(|session| session.conn.is_some()));
        let unsent = attached.filter_map(|session| session.index.first_event_after(id, 0, session.cursor, &self.jobs));
        unsent.min().unwrap_or(u64::MAX)
    }

    /// Tells the store which events it need not keep.
    fn note_trimmed(&mut self, id: JobId, upto: u64) {
        // With them goes what a restart would learn from them.
        let started = self.jobs.get(id).and_then(|job| job.started_at);
        self.ctx.append(Record::HistoryTrimmed { job: id, upto, started });
    }

    /// A good many events have come: perhaps others can go.
    pub(super) fn on_history_grown(&mut self, id: JobId) {
        let needed = self.first_needed(id);
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
        let needed = self.first_needed(id);
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

    /// The first event of a job that a session may still ask for again.
    fn first_needed(&self, id: JobId) -> u64 {
        let readers = self.jobs.get(id).into_iter().flat_map(Job::readers);
        let sessions = readers.filter_map(|reader| self.sessions.get(reader));
        sessions.filter_map(|session| session.index.first_event(id, &self.jobs)).min().unwrap_or(u64::MAX)
    }

    /// An ended job leaves the listings; what sessions still need stays.
    pub(super) fn on_retention_over(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(id) else {
            return;
        };
        job.expired = true;
        let readers: Vec<SessionId> = job.readers().collect();
        let principal = job.principal.clone();
        self.jobs.unlist(principal, id);
        for reader in readers {
            self.release_expired(reader);
        }
        self.forget_if_done(id);
    }

    /// Takes the oldest ended job of a principal from the listings, if there
    /// are too many; true if there were.
    pub(super) fn bound_ended(&mut self, principal: &Principal) -> bool {
        let full = self.jobs.ended_of(principal) > self.ctx.config.limits.ended_jobs_per_principal;
        let oldest = self.jobs.oldest_listed(principal).filter(|_| full);
        if let Some(id) = oldest {
            self.ctx.timers.clear(Timer::Retention(id));
            self.take_as_received(id);
            self.on_retention_over(id);
        }
        oldest.is_some()
    }

    /// There is no room to wait until what was sent of a job has arrived.
    fn take_as_received(&mut self, id: JobId) {
        for reader in self.jobs.get(id).into_iter().flat_map(Job::readers) {
            if let Some(session) = self.sessions.get_mut(reader).filter(|session| session.conn.is_some()) {
                session.received = session.received.max(session.cursor);
            }
        }
    }

    /// Forgets the oldest entries of a session that point to expired jobs and
    /// that its client has. What was sent to it and not acknowledged may be in
    /// flight: it is asked about again once it must have arrived.
    pub(super) fn release_expired(&mut self, id: SessionId) {
        let jobs = &self.jobs;
        let expired = |id| jobs.get(id).is_none_or(|job| job.expired);
        let Some(session) = self.sessions.get_mut(id).filter(|session| session.conn.is_some()) else {
            return;
        };
        let released = session.index.release_done(session.received, expired);
        let waits = session.index.first().is_some_and(|run| expired(run.job));
        if waits && !self.ctx.timers.is_set(Timer::Arrived(id)) {
            session.in_flight = session.cursor;
            self.ctx.timers.set(Timer::Arrived(id), self.ctx.now.mono + self.ctx.config.resume_window);
        }
        self.unreference(id, &released);
    }

    /// The connection on which so much was sent has been there for a resume
    /// window since: a peer that is gone is noticed earlier.
    pub(super) fn on_arrived(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.received = session.received.max(session.in_flight);
        }
        self.release_expired(id);
    }

    /// A session's index lets runs go; jobs that only waited for it are
    /// forgotten.
    pub(super) fn unreference(&mut self, session: SessionId, released: &[JobId]) {
        self.sessions.runs = self.sessions.runs.saturating_sub(released.len());
        for id in released {
            if let Some(job) = self.jobs.get_mut(*id) {
                job.remove_reader(session);
            }
            self.forget_if_done(*id);
        }
    }

    pub(super) fn forget_if_done(&mut self, id: JobId) {
        if self.jobs.get(id).is_some_and(Job::is_done) {
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
        for session in job.requests.sessions().chain(job.joins.keys().copied()) {
            if let Some(session) = self.sessions.get_mut(session) {
                session.asked.remove(&id);
            }
        }
        for owner in &job.owners {
            if let Some(session) = self.sessions.get_mut(*owner) {
                session.owned.remove(&id);
            }
        }
        self.sessions.forget_seen_of(&job.principal, self.jobs.has_any(&job.principal));
    }
}

/// Whether an attached session that owns an ended job was not sent all of it
/// that came while it was attached.
fn is_owed(sessions: &Sessions, id: JobId, job: &Job) -> bool {
    let owners = job.readers().filter(|reader| job.owners.contains(reader));
    let attached = owners.filter_map(|owner| sessions.get(owner).filter(|session| session.conn.is_some()));
    attached.into_iter().any(|session| session.index.has_events_after(id, session.sent_or_past()))
}

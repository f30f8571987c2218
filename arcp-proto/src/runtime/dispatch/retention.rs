//! Retention: jobs and their events are kept as long as the bounds allow, and longer where a
//! session still needs them.

use crate::id::{JobId, Principal};
use crate::runtime::Runtime;
use crate::runtime::context::Context;
use crate::runtime::delivery::Delivery;
use crate::runtime::job::{Job, Jobs};
use crate::runtime::session::Sessions;

/// Deletes jobs and their events.
pub(in crate::runtime) struct Retention<'r> {
    ctx: &'r mut Context,
    sessions: &'r mut Sessions,
    jobs: &'r mut Jobs,
    delivery: &'r mut Delivery,
}

impl Runtime {
    pub(in crate::runtime) fn retention(&mut self) -> Retention<'_> {
        let Runtime { ctx, sessions, jobs, delivery, .. } = self;
        Retention { ctx, sessions, jobs, delivery }
    }
}

impl Retention<'_> {
    /// An event of a job was numbered, those after it may not be yet. Deletes what must make room
    /// for it. `grown`: so many events have come that old ones may be dropped together.
    pub(super) fn on_appended(self, id: JobId, n: u64, grown: bool) {
        let Retention { ctx, jobs, delivery, .. } = self;
        let beyond = jobs.table().is_beyond(ctx, id);
        let unsent = if beyond { delivery.first_unsent(jobs, id) } else { u64::MAX };
        jobs.table_mut().bound(ctx, id, (unsent, n + 1), |job| delivery.is_owed(job));
        if beyond || !ctx.config.history {
            delivery.detach_overtaken(ctx, jobs, id);
        }
        if grown {
            let needed = delivery.feeds.first_needed(jobs, id);
            jobs.table_mut().on_grown(ctx, id, needed);
        }
    }

    pub(in crate::runtime) fn on_purge(self, id: JobId) {
        let needed = self.delivery.feeds.first_needed(self.jobs, id);
        self.jobs.table_mut().on_purge(self.ctx, id, needed);
    }

    /// A job has ended, and its terminal is numbered.
    pub(super) fn on_ended(&mut self, id: JobId) {
        self.delivery.end_job(id);
        self.jobs.table_mut().settle(id);
        if let Some(principal) = self.jobs.get(id).map(|job| job.spec().principal.clone()) {
            self.bound_ended(&principal);
        }
        self.bound_weight(Some(id));
    }

    /// The agent of a job has exited. If the job ended before, ended jobs may hold too much only
    /// now. If it ends by this exit, its end is yet to be numbered.
    pub(super) fn on_agent_gone(&mut self, id: JobId, ended_before: bool) {
        self.forget_if_done(id);
        if ended_before {
            self.bound_weight(None);
        }
    }

    /// Forgets ended jobs while they hold too much, except `but`, whose end is yet to be delivered.
    fn bound_weight(&mut self, but: Option<JobId>) {
        while let Some(heavy) = self.jobs.one_too_heavy(self.ctx, but) {
            self.forget(heavy);
        }
    }

    /// A resume window has passed since a job ended: frames that clients were sent of it are
    /// released.
    pub(in crate::runtime) fn on_end_missed(self, id: JobId) {
        self.jobs.on_end_missed(self.ctx, id);
        self.delivery.feeds.release_expired_job(self.ctx, self.jobs, id);
    }

    /// Removes an ended job from listings. Events that sessions still need stay.
    pub(in crate::runtime) fn on_over(&mut self, id: JobId) {
        self.jobs.expire(self.ctx, id);
        self.delivery.feeds.release_expired_job(self.ctx, self.jobs, id);
        self.forget_if_done(id);
    }

    /// Removes the oldest ended job of a principal from listings, if there are too many; true if
    /// there were.
    pub(super) fn bound_ended(&mut self, principal: &Principal) -> bool {
        let oldest = self.jobs.one_too_many(principal, &self.ctx.config.limits);
        if let Some(id) = oldest {
            self.delivery.feeds.take_as_received(id);
            self.on_over(id);
        }
        oldest.is_some()
    }

    pub(super) fn forget_if_done(&mut self, id: JobId) {
        if self.delivery.feeds.is_unreferenced(id) && self.jobs.get(id).is_some_and(Job::is_done) {
            self.forget(id);
        }
    }

    /// Forgets a job whose agent has exited. A session that has frames of it left is told that its
    /// history is lost.
    pub(super) fn forget(&mut self, id: JobId) {
        if let Some(job) = self.jobs.forget(self.ctx, id) {
            self.let_go(id, &job);
        }
    }

    /// Cleans up after a job. If it was the last of its principal, or of the principal that
    /// submitted it, the message ids of that principal are forgotten too.
    pub(super) fn let_go(&mut self, id: JobId, job: &Job) {
        self.delivery.remove_job(id);
        let of = [Some(&job.spec().principal), job.spec().asked_by.as_deref()];
        for principal in of.into_iter().flatten() {
            self.sessions.forget_seen_of(principal, self.jobs.table().has_any(principal));
        }
    }
}

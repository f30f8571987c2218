//! How long jobs and their events are kept: as long as the bounds allow, and
//! longer where somebody still needs them.

use crate::id::{JobId, Principal};
use crate::runtime::Runtime;
use crate::runtime::context::Context;
use crate::runtime::delivery::Delivery;
use crate::runtime::job::{Job, Jobs};
use crate::runtime::session::Sessions;

/// Lets go of jobs and of their events.
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
    /// An event of a job is numbered, those after it perhaps not yet: it and
    /// others make room for it. With `grown`, a good many have come that may go
    /// together.
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

    /// A job is over, and its end numbered.
    pub(super) fn on_ended(&mut self, id: JobId) {
        self.delivery.end_job(id);
        self.jobs.table_mut().settle(id);
        if let Some(principal) = self.jobs.get(id).map(|job| job.spec().principal.clone()) {
            self.bound_ended(&principal);
        }
        self.bound_weight(Some(id));
    }

    /// The agent of a job is gone. If the job ended before, ended jobs may hold
    /// too much only now; one that ends by this is still to be told of.
    pub(super) fn on_agent_gone(&mut self, id: JobId, ended_before: bool) {
        self.forget_if_done(id);
        if ended_before {
            self.bound_weight(None);
        }
    }

    /// Forgets ended jobs while they hold too much; `but` is still to be told of.
    fn bound_weight(&mut self, but: Option<JobId>) {
        while let Some(heavy) = self.jobs.one_too_heavy(self.ctx, but) {
            self.forget(heavy);
        }
    }

    /// A resume window has passed since a job ended: what clients were sent of it
    /// is no longer kept for them.
    pub(in crate::runtime) fn on_end_missed(self, id: JobId) {
        self.jobs.on_end_missed(self.ctx, id);
        self.delivery.feeds.release_expired_job(self.ctx, self.jobs, id);
    }

    /// An ended job leaves the listings; what sessions still need stays.
    pub(in crate::runtime) fn on_over(&mut self, id: JobId) {
        self.jobs.expire(self.ctx, id);
        self.delivery.feeds.release_expired_job(self.ctx, self.jobs, id);
        self.forget_if_done(id);
    }

    /// Takes the oldest ended job of a principal from the listings, if there
    /// are too many; true if there were.
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

    /// Forgets a job whose agent is gone. Who was still to read of it is told
    /// that its history is lost.
    pub(super) fn forget(&mut self, id: JobId) {
        if let Some(job) = self.jobs.forget(self.ctx, id) {
            self.let_go(id, &job);
        }
    }

    /// A job is gone, and perhaps the last thing of its principal, or of who asked for
    /// it: then the ids of that one's messages go too.
    pub(super) fn let_go(&mut self, id: JobId, job: &Job) {
        self.delivery.remove_job(id);
        let of = [Some(&job.spec().principal), job.spec().asked_by.as_deref()];
        for principal in of.into_iter().flatten() {
            self.sessions.forget_seen_of(principal, self.jobs.table().has_any(principal));
        }
    }
}
